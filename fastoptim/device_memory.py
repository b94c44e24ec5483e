"""The memory of a GPU, where a `FlatDict` and an optimizer's state may be. Imported when it is asked for."""

from typing import Any

import numpy as np

from fastoptim.kernels.cpu import Array
from fastoptim.kernels.cuda_launch import described
from fastoptim.kernels.cuda_memory import cuda


class DeviceMemory:
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
        return np.asarray(array.copy_to_host()) if array.size else np.zeros(array.shape, array.dtype)


DEVICE = DeviceMemory()
