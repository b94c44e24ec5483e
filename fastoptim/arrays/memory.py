"""Where arrays are: the host's memory or a GPU's, and how to make, fill, read and copy them there."""

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]
ALIGNMENT = 64  # bytes: a cache line
LARGE, PAGE, MIDDLE = 2**17, 4096, 2112  # bytes


class Memory(Protocol):
    """What the host's memory and a GPU's can do."""

    name: str
    alignment: int  # bytes; of each parameter's state

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """Zeros in a new, contiguous array."""

    def address(self, array: Any) -> int:
        """Where an array begins."""

    def sent(self, numbers: Array) -> Any:
        """These numbers, of the host, in an array there."""

    def write(self, array: Any, numbers: Array) -> None:
        """Copy numbers from the host into an array."""

    def read(self, array: Any) -> Array:
        """The numbers of an array, on the host."""

    def copy(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        """Copy the second array of each pair into the first one, of the same shape, rounded where dtypes differ.

        On a GPU the arrays are contiguous, and this waits for all streams.
        """

    def clear(self, arrays: Iterable[Any], stream: Any = None) -> None:
        """Set arrays to zero, on a GPU in the order of a stream."""

    def wait(self) -> None:
        """Wait until all is done that a GPU was asked to do."""

    def at(self, array: Any) -> AbstractContextManager[Any]:
        """Within it, new arrays are on the device that an array with elements is on."""

    def current(self, infos: Iterable[Any]) -> AbstractContextManager[Any]:
        """Within it, new arrays are on the device that these are on."""


class HostMemory:
    """The machine's own memory: arrays of NumPy."""

    name = "cpu"
    alignment = 1

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """`np.zeros(shape, dtype)` that begins at a multiple of `ALIGNMENT`.

        A large one begins in the middle of a page, as large arrays of NumPy begin at the start of one. Where addresses
        differ by a multiple of a page, a processor takes a load for one that depends on the store before it.
        """
        size = math.prod(shape) * dtype.itemsize
        is_large = size >= LARGE
        memory = np.zeros(size + (PAGE if is_large else ALIGNMENT), np.uint8)
        start = (MIDDLE - memory.ctypes.data) % PAGE if is_large else -memory.ctypes.data % ALIGNMENT
        return memory[start : start + size].view(dtype).reshape(shape)

    def address(self, array: Array) -> int:
        """Where an array begins."""
        return int(array.ctypes.data)

    def sent(self, numbers: Array) -> Array:
        """The numbers as they are."""
        return numbers

    def write(self, array: Array, numbers: Array) -> None:
        """Copy numbers into an array."""
        array[...] = numbers

    def read(self, array: Array) -> Array:
        """The array itself."""
        return array

    def copy(self, pairs: Iterable[tuple[Array, Array]]) -> None:
        """Copy the second array of each pair into the first."""
        with np.errstate(over="ignore"):  # what another dtype cannot hold is inf, as in a kernel
            for target, source in pairs:
                target[...] = source

    def clear(self, arrays: Iterable[Array], stream: Any = None) -> None:
        """Set arrays to zero."""
        for array in arrays:
            array[...] = 0

    def wait(self) -> None:
        """There is nothing to wait for."""

    def at(self, array: Array) -> AbstractContextManager[Any]:
        """There is one device."""
        return nullcontext()

    def current(self, infos: Iterable[Any]) -> AbstractContextManager[Any]:
        """There is one device."""
        return nullcontext()


HOST = HostMemory()


def copy_from(source: Any, target: Any, memory: Memory) -> None:
    """Copy an array, or one that is still in a file, into one that is in a memory."""
    if not hasattr(source, "read_into"):
        memory.write(target, np.ascontiguousarray(source) if memory is not HOST else source)
    elif memory is HOST:
        source.read_into(target)
    else:
        memory.write(target, np.ascontiguousarray(source))
