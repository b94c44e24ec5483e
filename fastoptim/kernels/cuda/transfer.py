"""Copies and clears a GPU's memory in the order of a stream, one launch for any number of pieces."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastoptim.kernels.cuda.arrays import pointer
from fastoptim.kernels.cuda.elementwise import CudaKernels
from fastoptim.kernels.cuda.launch import GpuGroup
from fastoptim.kernels.cuda.memory import Array, cuda
from fastoptim.kernels.cuda.words import write_words
from fastoptim.kernels.rule import rule
from fastoptim.kernels.storage import Storage, as_it_is
from fastoptim.kernels.table import END

Piece = tuple[int, int]
"""Device memory: its address and its bytes."""

WORDS = tuple(np.dtype(name) for name in ("int64", "int32", "int16", "int8"))


@rule
def _copied(p: Any, g: Any) -> Any:
    return g


@rule
def _cleared(p: Any, g: Any, zero: Any) -> Any:
    return zero


COPY, CLEAR = CudaKernels(_copied, 0), CudaKernels(_cleared, 0)


class _Pass:
    """A kernel over pieces of a device's memory. It may be launched any number of times.

    Args:
        kernels: of two operands.
        storages: of both.
        rows: the addresses of both, and the elements of each piece.
        scalars: of the rule.
        device: the number of the device.
    """

    def __init__(
        self, kernels: CudaKernels, storages: tuple[Storage, Storage], rows: Sequence[tuple[int, int, int]],
        scalars: Array, device: int,
    ) -> None:  # fmt: skip
        self._segments, self._device = np.zeros((len(rows), 4), np.int64), device
        self._segments[:, :2] = [row[:2] for row in rows] or np.zeros((0, 2))
        self._segments[:, END] = np.cumsum([row[2] for row in rows])
        self._table, table = None, 0
        if len(rows) > 1:
            with cuda.gpus[device]:
                self._table = cuda.device_array(self._segments.shape, np.int64)
            table = pointer(self._table)
        self._launch = kernels.prepare(GpuGroup(storages, self._segments, scalars, table, device))

    def __call__(self, stream: int = 0) -> None:
        """Launch on a stream, by its address, without waiting for anything."""
        if self._table is not None:  # written each time, as another stream may run ahead of the one before
            write_words(pointer(self._table), self._segments, self._device, stream)
        self._launch(stream)


class Transfer(_Pass):
    """A copy between pieces of one device's memory, or from nowhere: then it sets the target to zero.

    It is bitwise. The pieces must not overlap, except that a target may be its own source.

    Args:
        target: the pieces to write.
        source: as many pieces of the same sizes to read, or None.
        device: the number of the device that they are on.

    Raises:
        ValueError: if target and source differ in number or sizes.
    """

    def __init__(self, target: Sequence[Piece], source: Sequence[Piece] | None, device: int) -> None:
        sizes = [size for _, size in target]
        if source is not None and sizes != [size for _, size in source]:
            raise ValueError(
                f"source: expected pieces of {sizes} bytes, as the target has; got {[n for _, n in source]}"
            )
        pairs = [(*piece, address) for piece, (address, _) in zip(target, source or target, strict=True) if piece[1]]
        # the loops work on elements: the largest words that every address and size is a multiple of
        dtype = next(word for word in WORDS if not any(x % word.itemsize for pair in pairs for x in pair))
        rows = [(to, start, size // dtype.itemsize) for to, size, start in pairs]
        kernels, scalars = (CLEAR, np.zeros(1, dtype)) if source is None else (COPY, np.zeros(0, dtype))
        super().__init__(kernels, (as_it_is(dtype),) * 2, rows, scalars, device)


def copy(target: Sequence[Piece], source: Sequence[Piece], device: int, stream: int = 0) -> None:
    """Copy pieces of a device's memory, bit for bit, in the order of the stream; see `Transfer`."""
    Transfer(target, source, device)(stream)


def clear(target: Sequence[Piece], device: int, stream: int = 0) -> None:
    """Set pieces of a device's memory to zero, in the order of the stream; see `Transfer`."""
    Transfer(target, None, device)(stream)


def convert(
    rows: Sequence[tuple[int, int, int]], target: Storage, source: Storage, device: int, stream: int = 0
) -> None:
    """Copy numbers of one storage to another, rounded to the nearest, in the order of the stream.

    Args:
        rows: where the numbers go, where they come from, and how many they are.
        target: how the first lie in memory.
        source: how the others do. Both are of one dtype of computation.
        device: the number of the device.
        stream: its address.
    """
    _Pass(COPY, (target, source), rows, np.zeros(0, target.computed), device)(stream)
