"""The ceiling: how fast this machine reads and writes what an optimizer has to read and write."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numba
import numpy as np
from numba import njit, prange
from numba.extending import register_jitable

from fastoptim.buffers import HOST

Step = Callable[[], object]

SERIAL_LIMIT = 16_384  # elements
LINE = 16  # elements of float32 in a cache line: no two threads write to one


@lru_cache(maxsize=1)  # cases that share a ceiling follow each other, and the largest takes 800 MB
def ceiling(size: int, slots: int) -> Step:
    """A step over flat arrays of `size` float32 elements, for an optimizer with that many slots.

    On one thread where entering a parallel region takes longer than it saves, by a fixed size: to measure it would give
    another answer, and other ratios, whenever the machine has other work.
    """
    serial, parallel = _loops(slots)
    gradient, *rest = (HOST.zeros((size,), np.dtype(np.float32)) for _ in range(2 + slots))  # aligned: that is faster
    arrays = tuple(rest)
    for array in (gradient, *rest):
        array.fill(1e-6)
    workers = numba.get_num_threads()
    if size <= SERIAL_LIMIT or workers == 1:
        return partial(serial, arrays, gradient)
    return partial(parallel, arrays, gradient, workers)


def _loops(slots: int) -> tuple[Any, Any]:
    """The loop on one thread and on all: `g` is read, `p` and each slot are read and written, with one addition each.

    They share no code with fastoptim's kernels, so that they do not share their faults. And they are not cached: numba
    mixes up closures of one name that different processes have compiled.
    """
    add, cut = _add(1 + slots), _cut(1 + slots)

    @register_jitable  # inside the parallel loop it would not vectorise
    def walk(arrays: Any, g: Any) -> None:
        for i in range(g.size):
            add(arrays, i, g[i])

    @njit(nogil=True)
    def serial(arrays: Any, g: Any) -> None:
        walk(arrays, g)

    @njit(nogil=True, parallel=True)
    def parallel(arrays: Any, g: Any, workers: Any) -> None:
        share = (g.size // workers // LINE + 1) * LINE
        for worker in prange(workers):
            start, stop = worker * share, min((worker + 1) * share, g.size)
            walk(cut(arrays, start, stop), g[start:stop])

    return serial, parallel


def _add(count: int) -> Any:
    """`(arrays, i, x) -> None`, doing `arrays[0][i] += x` and so on: unrolled, because a tuple has no loop in numba."""
    if count == 0:
        return register_jitable(lambda arrays, i, x: None)
    before, last = _add(count - 1), count - 1

    @register_jitable
    def every(arrays: Any, i: Any, x: Any) -> None:
        before(arrays, i, x)
        arrays[last][i] += x

    return every


def _cut(count: int) -> Any:
    """`(arrays, start, stop) -> (arrays[0][start:stop], ...)`."""
    if count == 0:
        return register_jitable(lambda arrays, start, stop: ())
    before, last = _cut(count - 1), count - 1
    return register_jitable(lambda arrays, start, stop: before(arrays, start, stop) + (arrays[last][start:stop],))
