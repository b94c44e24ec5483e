"""Small writes to a GPU's memory in the order of a stream: a table of segments, a table of scalars, a step counter."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import types

from fastoptim.kernels.cuda.launch import Loaded
from fastoptim.kernels.cuda.memory import INT64, Array, reader, writer

WORDS = 128  # that one launch writes


def advance_kernel() -> tuple[Callable[..., None], tuple[Any, ...]]:
    """The kernel of `advance`, and the numba types of its arguments."""
    read, write = reader(INT64, 1), writer(INT64)

    def advance_step(step: Any) -> None:
        write(step, read(step)[0] + 1)

    return advance_step, (types.int64,)


@cache
def _advance(device: int) -> Loaded:
    return Loaded(*advance_kernel(), device)


def advance(step: int, device: int, stream: int = 0) -> None:
    """Add one to the step counter, an int64 at an address on a device: the last launch of a captured step."""
    where = np.array([step], np.int64)
    _advance(device).launch(1, 1, stream, np.array([where.ctypes.data], np.int64))


def write_kernel() -> tuple[Callable[..., None], tuple[Any, ...]]:
    """The kernel of `write_words`, and the numba types of its arguments."""
    write = writer(INT64)

    def write_all(address: Any, count: Any, words: Any) -> None:
        for i in range(count):
            write(address + 8 * i, words[i])

    return write_all, (types.int64, types.int64, types.UniTuple(types.int64, WORDS))


@cache
def _write(device: int) -> Loaded:
    return Loaded(*write_kernel(), device)


def write_words(address: int, words: Array, device: int, stream: int = 0) -> None:
    """Copy int64 from the host to a device, in the order of the stream, without waiting for it.

    The words travel as arguments of a kernel. A copy from ordinary host memory would wait for the stream; with pinned
    memory, each write would have to wait for the one before.
    """
    flat = np.ascontiguousarray(words).reshape(-1)
    for start in range(0, flat.size, WORDS):
        part = np.zeros(2 + WORDS, np.int64)
        count = min(WORDS, flat.size - start)
        part[0], part[1], part[2 : 2 + count] = address + 8 * start, count, flat[start : start + count]
        _write(device).launch(1, 1, stream, part.ctypes.data + np.arange(part.size) * 8)
