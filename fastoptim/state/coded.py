"""State in codes of 8 bits, read and written by NumPy: what `kernels/codes.py` says, for whole arrays."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from fastoptim.arrays.memory import HOST, Array, Memory, copy_from
from fastoptim.kernels.codes import BYTES, CODED, INFINITE, LOWEST, NORMAL, OF_ROOTS, OF_SIGNED, Coding

PIECE = 4096 * CODED  # elements that are converted at a time, to need little memory beside them
F4, F8 = np.float32, np.float64


class Coded(NamedTuple):
    """One parameter's slot. What is read is a copy.

    Attributes:
        codes: uint8, of the parameter's shape, in C order.
        scales: float32, one for each block of `CODED` elements; on a GPU the last one first, as they lie in memory.
        is_root: whether codes are those of the numbers' roots.
        memory: where both are.
    """

    codes: Any
    scales: Any
    is_root: bool
    memory: Memory = HOST

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the codes."""
        dtype: np.dtype[Any] = np.dtype(self.codes.dtype)
        return dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the codes."""
        return tuple(self.codes.shape)

    def on_host(self) -> "Coded":
        """The same in arrays of NumPy: it may be in a file or on a GPU."""
        if self.memory is not HOST:
            return Coded(self.memory.read(self.codes), self.memory.read(self.scales)[::-1], self.is_root)
        return Coded(np.ascontiguousarray(self.codes), np.asarray(self.scales), self.is_root)

    def take(self, other: "Coded") -> None:
        """Copy the codes of another one, of the host or of a file."""
        copy_from(other.codes, self.codes, self.memory)
        copy_from(other.scales if self.memory is HOST else np.asarray(other.scales)[::-1], self.scales, self.memory)

    def read(self) -> Array:
        """The numbers as float32; on the host read-only, as what is written into them would be lost."""
        own = self.on_host()
        numbers, codes = np.empty(own.codes.size, F4), own.codes.reshape(-1)
        for start, scales in own.pieces():
            numbers[start : start + PIECE] = self._decoded(codes[start : start + PIECE], scales)
        numbers.flags.writeable = False
        sent: Array = self.memory.sent(numbers.reshape(self.shape))
        return sent

    def write(self, numbers: Array) -> None:
        """Take these numbers, rounded to the nearest."""
        if self.memory is not HOST:
            own = Coded(np.empty(self.shape, BYTES), np.empty(self.scales.size, F4), self.is_root)
            own.write(numbers)
            self.take(own)
            return
        new, codes = np.ascontiguousarray(numbers, F4).reshape(-1), self.codes.reshape(-1)
        for start, scales in self.pieces():
            piece = codes[start : start + PIECE]
            piece[...] = self._encoded(new[start : start + PIECE], scales)

    def pieces(self) -> Iterator[tuple[int, Array]]:
        """The numbers of the first elements of pieces, and the scales of each."""
        for start in range(0, self.codes.size, PIECE):
            yield start, self.scales[start // CODED : (start + PIECE) // CODED]

    @property
    def _coding(self) -> Coding:
        return OF_ROOTS if self.is_root else OF_SIGNED

    def _decoded(self, codes: Array, scales: Array) -> Array:
        behind, largest, shift = self._coding
        each, wide = np.repeat(scales, CODED)[: codes.size], codes.astype(np.int32)
        numbers = (((wide & largest) << behind) + np.int32(LOWEST)).view(F4)
        # A product and a sum with one rounding: float64 has room for all digits of the product.
        size: Array = (numbers.astype(F8) * each + each * F4(-shift)).astype(F4)
        return size * size if self.is_root else np.where(wide > largest, -size, size)

    def _encoded(self, numbers: Array, scales: Array) -> Array:
        """The codes of numbers; their scales are written to `scales`."""
        (behind, most, shift), top = self._coding, self._coding.limit(is_random=False)
        blocks = np.zeros((scales.size, CODED), F4)
        blocks.reshape(-1)[: numbers.size] = numbers
        with np.errstate(invalid="ignore"):  # the root of a negative number is nan, as in a kernel
            sizes = np.sqrt(blocks) if self.is_root else np.abs(blocks)
        largest = sizes.max(axis=1)
        is_usual = (largest >= NORMAL) & (largest < INFINITE)
        scales[...] = np.where(is_usual, largest / top, np.where(largest < NORMAL, F4(0), F4(np.nan)))
        factors = np.where(is_usual, top / np.where(is_usual, largest, top), F4(0))
        sizes[~is_usual] = 0
        words = (sizes.astype(F8) * factors[:, None] + shift).astype(F4).view(np.int32)
        codes = np.maximum(words, LOWEST) + (1 << behind - 1) >> behind & most
        codes += 0 if self.is_root else np.signbit(blocks) * (most + 1)
        codes[~is_usual] = 0
        coded: Array = codes.astype(np.uint8).reshape(-1)[: numbers.size]
        return coded


class SlotViews(Mapping[Any, Array]):
    """A slot's arrays by name: views of the optimizer's own, but for those in codes, which are read."""

    def __init__(self, own: Mapping[Any, Any]) -> None:
        self._own = own

    def __getitem__(self, name: Any) -> Array:
        found: Array | Coded = self._own[name]
        return found.read() if isinstance(found, Coded) else found

    def __iter__(self) -> Iterator[Any]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)

    def __repr__(self) -> str:
        return repr(dict(self))
