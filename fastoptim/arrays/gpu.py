"""Arrays on a GPU. Importing this needs the package numba-cuda."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from fastoptim.arrays.info import TensorInfo, in_c_order
from fastoptim.arrays.memory import Array
from fastoptim.kernels.cuda import transfer
from fastoptim.kernels.cuda.arrays import described, device_of
from fastoptim.kernels.cuda.driver import require
from fastoptim.kernels.cuda.launch import stream_address
from fastoptim.kernels.cuda.memory import cuda


def gpu_info(array: Any, what: str) -> TensorInfo:
    """What an array on a GPU is.

    Raises:
        TypeError: it is not contiguous, or neither float32 nor float64.
    """
    found = described(array, what)
    device = device_of(found.address) if found.nbytes else 0
    return in_c_order(found.dtype, found.shape)._replace(
        address=found.address, is_writeable=not found.read_only, device=device, stream=found.stream
    )


class GpuMemory:
    """The memory of the current GPU: arrays of Numba, which CuPy and torch take without a copy."""

    name = "cuda"
    alignment = 16  # bytes: what a thread loads at once

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """Zeros in a new array."""
        return cuda.to_device(np.zeros(shape, dtype))

    def address(self, array: Any) -> int:
        """Where an array begins."""
        return described(array, "array").address

    def write(self, array: Any, numbers: Array) -> None:
        """Copy numbers from the host into an array."""
        if array.size:
            cuda.synchronize()  # streams of others do not wait for the default one, nor it for them
            array.copy_to_device(numbers)
            cuda.synchronize()

    def read(self, array: Any) -> Array:
        """The numbers of an array, on the host, when all that the GPU was asked to do before is done."""
        cuda.synchronize()
        if not hasattr(array, "copy_to_host"):  # of another library
            array = cuda.as_cuda_array(array)
        return np.asarray(array.copy_to_host()) if array.size else np.zeros(array.shape, array.dtype)

    def copy(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        """Copy the second array of each pair into the first, when all that the GPU was asked to do before is done."""
        infos = [(gpu_info(target, "target"), gpu_info(source, "source")) for target, source in pairs]
        infos = [(target, source) for target, source in infos if target.size]
        if infos:
            cuda.synchronize()
            targets, sources = ([(info.address, info.nbytes) for info in side] for side in zip(*infos, strict=True))
            transfer.copy(targets, sources, infos[0][0].device or 0)
            cuda.synchronize()

    def clear(self, arrays: Iterable[Any], stream: Any = None) -> None:
        """Set arrays to zero, in the order of a stream."""
        infos = [info for array in arrays if (info := gpu_info(array, "array")).size]
        if infos:
            address = stream_address(stream) or next((info.stream for info in infos if info.stream), 0)
            transfer.clear([(info.address, info.nbytes) for info in infos], infos[0].device or 0, address)

    def wait(self) -> None:
        """Wait until all is done that the current GPU was asked to do."""
        cuda.synchronize()

    def current(self, infos: Iterable[TensorInfo]) -> AbstractContextManager[Any]:
        """Within it, new arrays are on the GPU that these are on."""
        context: AbstractContextManager[Any] = cuda.gpus[next((info.device or 0 for info in infos if info.size), 0)]
        return context


def gpu_memory() -> GpuMemory:
    """The memory of the current GPU.

    Raises:
        RuntimeError: numba-cuda, the driver or a GPU is missing; it says what to do.
    """
    require()
    return GPU


GPU = GpuMemory()
