"""Arrays of any layout as a row of bytes, a piece at a time, to be written to a file or filled from one."""

from collections.abc import Iterator

import numpy as np

from fastoptim.arrays.memory import Array
from fastoptim.kernels.storage import BITS

PIECE = 1 << 22  # bytes; arrays that are not C-contiguous are copied, but no more than this at a time


def bytes_of(array: Array, fill: bool = False) -> Iterator[memoryview]:
    """An array's bytes in C order, little-endian: its own memory if it is C-contiguous, or else a small buffer.

    Each piece is valid until the next one is taken. With `fill`, what the caller has written into a piece is then in
    the array.
    """
    if array.itemsize == BITS.itemsize:  # NumPy's iterator knows no bfloat16
        array = array.view(BITS)
    with np.nditer(  # type: ignore[call-overload]  # NumPy's stub lacks "contig"
        array,
        flags=["external_loop", "buffered", "zerosize_ok"],
        op_flags=[["writeonly" if fill else "readonly", "contig"]],
        op_dtypes=[array.dtype.newbyteorder("<")],
        order="C",
        buffersize=PIECE // array.itemsize,
    ) as iterator:
        for piece in iterator:
            yield memoryview(piece.view(np.uint8))
