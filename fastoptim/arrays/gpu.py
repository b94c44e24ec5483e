"""Arrays on a GPU. Importing this needs the package numba-cuda."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from fastoptim.arrays.info import TensorInfo, in_c_order
from fastoptim.arrays.memory import Array
from fastoptim.kernels.cuda import transfer
from fastoptim.kernels.cuda.arrays import described, device_of, pointer
from fastoptim.kernels.cuda.driver import require
from fastoptim.kernels.cuda.launch import stream_address
from fastoptim.kernels.cuda.memory import cuda
from fastoptim.kernels.storage import BITS, storage_of


def gpu_info(array: Any, what: str) -> TensorInfo:
    """What an array on a GPU is.

    Raises:
        TypeError: it is not contiguous, or of another dtype than kernels take.
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
        word = _word(dtype)
        array = cuda.to_device(np.zeros(shape, word))
        return array if word == dtype else array.view(dtype)

    def address(self, array: Any) -> int:
        """Where an array begins."""
        return pointer(array)

    def sent(self, numbers: Array) -> Any:
        """A new array with these numbers."""
        array = self.zeros(numbers.shape, numbers.dtype)
        self.write(array, numbers)
        return array

    def write(self, array: Any, numbers: Array) -> None:
        """Copy numbers from the host into an array."""
        if array.size:
            word = _word(array.dtype)
            with self.at(array):
                cuda.synchronize()  # streams of others do not wait for the default one, nor it for them
                array.view(word).copy_to_device(np.asarray(numbers, array.dtype).view(word))
                cuda.synchronize()

    def read(self, array: Any) -> Array:
        """The numbers of an array, on the host, when all that the GPU was asked to do before is done."""
        found = described(array, "array", is_number=False)
        dtype = found.dtype
        if not found.size:
            return np.zeros(found.shape, dtype)
        with self.at(array):
            cuda.synchronize()
            if not hasattr(array, "copy_to_host"):  # of another library
                array = cuda.as_cuda_array(array)
            numbers: Array = np.asarray(array.view(_word(dtype)).copy_to_host()).view(dtype)
        return numbers

    def copy(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        """Copy the second array of each pair into the first, when all that the GPU was asked to do before is done.

        Numbers of another dtype are rounded to the nearest.
        """
        every = [tuple(described(array, "array", is_number=False) for array in pair) for pair in pairs]
        found = [(target, source) for target, source in every if target.nbytes]
        if not found:
            return
        device = device_of(found[0][0].address)
        alike = [pair for pair in found if pair[0].dtype == pair[1].dtype]
        others = [pair for pair in found if pair[0].dtype != pair[1].dtype]
        with cuda.gpus[device]:
            cuda.synchronize()
            if alike:
                targets, sources = ([(each.address, each.nbytes) for each in side] for side in zip(*alike, strict=True))
                transfer.copy(targets, sources, device)
            for dtypes in dict.fromkeys((target.dtype, source.dtype) for target, source in others):
                rows = [
                    (target.address, source.address, target.size)
                    for target, source in others
                    if (target.dtype, source.dtype) == dtypes
                ]
                transfer.convert(rows, storage_of(dtypes[0]), storage_of(dtypes[1]), device)
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

    def at(self, array: Any) -> AbstractContextManager[Any]:
        """Within it, new arrays are on the GPU that an array with elements is on."""
        context: AbstractContextManager[Any] = cuda.gpus[device_of(pointer(array))]
        return context

    def current(self, infos: Iterable[TensorInfo]) -> AbstractContextManager[Any]:
        """Within it, new arrays are on the GPU that these are on."""
        context: AbstractContextManager[Any] = cuda.gpus[next((info.device or 0 for info in infos if info.size), 0)]
        return context


def _word(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """A dtype of the same bits that numba-cuda can copy."""
    return BITS if dtype.kind == "V" else dtype


def gpu_memory() -> GpuMemory:
    """The memory of the current GPU.

    Raises:
        RuntimeError: numba-cuda, the driver or a GPU is missing; it says what to do.
    """
    require()
    return GPU


GPU = GpuMemory()
