"""The ceiling: how fast this machine reads and writes what an optimizer has to read and write."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import njit, prange
from numba.extending import register_jitable

from fastoptim.arrays.memory import HOST

Step = Callable[[], object]

SERIAL_LIMIT = 16_384  # elements
LINE = 16  # elements of float32 in a cache line: no two threads write to one
FLOAT = 4  # bytes


class Traffic(NamedTuple):
    """What a step has to read and write.

    Attributes:
        updates: arrays that are read and written: the parameter, its state, its average.
        reads: how many times an array is read beside that. The gradient is, and twice where the step depends on its
            norm. In the ceiling's loop it is always the gradient.
    """

    updates: int
    reads: int

    @property
    def bytes(self) -> int:
        """For one element."""
        return (self.reads + 2 * self.updates) * FLOAT


def ceiling(size: int, traffic: Traffic) -> Step:
    """A step over flat arrays of `size` float32 elements, with that traffic.

    On one thread where entering a parallel region takes longer than it saves, by a fixed size: to measure it would give
    another answer, and other ratios, whenever the machine has other work.
    """
    serial, parallel = _loops(traffic.updates)
    gradient, *rest = (HOST.zeros((size,), np.dtype(np.float32)) for _ in range(1 + traffic.updates))  # aligned: faster
    arrays = tuple(rest)
    for array in (gradient, *rest):
        array.fill(1e-6)
    workers = numba.get_num_threads()
    if size <= SERIAL_LIMIT or workers == 1:
        return partial(serial, arrays, gradient, traffic.reads)
    return partial(parallel, arrays, gradient, traffic.reads, workers)


@cache  # to compile them takes seconds
def _loops(updates: int) -> tuple[Any, Any]:
    """The loop on one thread and on all: `g` is read, so many arrays are read and written, with one addition each.

    Where `g` is read more than once, it is summed up before, all of it: a norm has to be known when the update begins.
    They share no code with fastoptim's kernels, so that they do not share their faults. And they are not cached: numba
    mixes up closures of one name that different processes have compiled.
    """
    add, cut = _add(updates), _cut(updates)

    @njit(nogil=True, fastmath={"reassoc"})  # a sum in the order of its elements waits for each addition
    def total(g: Any) -> Any:
        found = g.dtype.type(0)
        for i in range(g.size):
            found += g[i]
        return found

    @register_jitable  # inside the parallel loop it would not vectorise
    def walk(arrays: Any, g: Any) -> None:
        for i in range(g.size):
            add(arrays, i, g[i])

    @njit(nogil=True)
    def serial(arrays: Any, g: Any, reads: Any) -> Any:
        found = 0.0
        for _ in range(reads - 1):
            found += total(g)
        walk(arrays, g)
        return found  # or the compiler would leave it out

    @njit(nogil=True, parallel=True)
    def parallel(arrays: Any, g: Any, reads: Any, workers: Any) -> Any:
        share, found = (g.size // workers // LINE + 1) * LINE, 0.0
        for _ in range(reads - 1):
            for worker in prange(workers):
                found += total(g[worker * share : min((worker + 1) * share, g.size)])
        for worker in prange(workers):
            start, stop = worker * share, min((worker + 1) * share, g.size)
            walk(cut(arrays, start, stop), g[start:stop])
        return found

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
