"""The sums of the gradients of rows on a GPU: each row's are added in the order in which they appear."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import types

from fastoptim.kernels.cuda.launch import Loaded
from fastoptim.kernels.cuda.memory import INT64, SIMULATED, cuda, reader, writer
from fastoptim.kernels.cuda.numbers import element_loader
from fastoptim.kernels.memory import WORD
from fastoptim.kernels.storage import Storage

THREADS = 4 if SIMULATED else 256  # in a block; the simulator starts a thread of Python for each
BLOCKS = 2 if SIMULATED else 4096


def row_sum_kernel(own: Storage) -> tuple[Callable[..., None], tuple[Any, ...]]:
    """The kernel that sums gradients of a storage, and the numba types of its arguments.

    Its arguments are the addresses of the gradients `(k, row_size)`, of `order` and `starts` (see
    `row_order.find_unique`), how many rows there are, their size, and the address of the sums `(rows, row_size)`, which
    are of the dtype of computation. Each thread has one element of a row.
    """
    load, word, two_words, write = element_loader((own,), 1), reader(INT64, 1), reader(INT64, 2), writer(own.computed)
    itemsize = own.computed.itemsize

    def sum_rows(values: Any, order: Any, starts: Any, rows: Any, row_size: Any, sums: Any) -> None:
        i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        while i < rows * row_size:
            row = i // row_size
            column = i - row * row_size
            place, stop = two_words(starts + row * WORD)
            total = load((values,), word(order + place * WORD)[0] * row_size + column, ())[0][0]
            place += 1
            while place < stop:
                total += load((values,), word(order + place * WORD)[0] * row_size + column, ())[0][0]
                place += 1
            write(sums + i * itemsize, total)
            i += cuda.gridDim.x * cuda.blockDim.x

    return sum_rows, (types.int64,) * 6


@cache
def row_sums(own: Storage, device: int) -> Loaded:
    """The kernel on a device."""
    return Loaded(*row_sum_kernel(own), device)


def sum_rows_of(
    own: Storage, device: int, values: int, order: int, starts: int, rows: int, row_size: int, sums: int, stream: int
) -> None:
    """Launch it on a stream. For the arguments see `row_sum_kernel`."""
    elements = rows * row_size
    if elements:
        words = np.array([values, order, starts, rows, row_size, sums], np.int64)
        blocks = min(-(-elements // THREADS), BLOCKS)
        row_sums(own, device).launch(blocks, THREADS, stream, words.ctypes.data + np.arange(len(words)) * WORD)
