"""Copies and clears a GPU's memory in the order of a stream, one launch for any number of pieces."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastoptim.kernels.cuda.arrays import pointer
from fastoptim.kernels.cuda.elementwise import CudaKernels
from fastoptim.kernels.cuda.memory import cuda
from fastoptim.kernels.cuda.words import write_words
from fastoptim.kernels.rule import rule

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


class Transfer:
    """A copy between pieces of one device's memory, or from nowhere: then it sets the target to zero.

    It is bitwise, and may be launched any number of times. The pieces must not overlap, except that a target may be its
    own source.

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
        self._segments, end = np.zeros((len(pairs), 4), np.int64), 0
        for row, (to, size, start) in enumerate(pairs):
            end += size // dtype.itemsize
            self._segments[row] = to, start, 0, end
        self._device = device
        self._table, table = None, 0
        if len(pairs) > 1:
            with cuda.gpus[device]:
                self._table = cuda.device_array(self._segments.shape, np.int64)
            table = pointer(self._table)
        kernels, scalars = (CLEAR, np.zeros(1, dtype)) if source is None else (COPY, np.zeros(0, dtype))
        self._launch = kernels.prepare(self._segments, scalars, table, device)

    def __call__(self, stream: int = 0) -> None:
        """Launch on a stream, by its address, without waiting for anything."""
        if self._table is not None:  # written each time, as another stream may run ahead of the one before
            write_words(pointer(self._table), self._segments, self._device, stream)
        self._launch(stream)


def copy(target: Sequence[Piece], source: Sequence[Piece], device: int, stream: int = 0) -> None:
    """Copy pieces of a device's memory, bit for bit, in the order of the stream; see `Transfer`."""
    Transfer(target, source, device)(stream)


def clear(target: Sequence[Piece], device: int, stream: int = 0) -> None:
    """Set pieces of a device's memory to zero, in the order of the stream; see `Transfer`."""
    Transfer(target, None, device)(stream)
