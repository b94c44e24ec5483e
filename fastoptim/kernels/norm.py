"""The norm of all gradients together: the one thing that has to be known before the pass begins.

Additions in another order give other bits, so the order is fixed by sizes alone, for any number of threads, any layout
and either device: every array is cut into blocks of `BLOCK` elements, counted in C order. A block's elements are dealt
out to `LANES` sums in turn, and those are added pairwise; the sums of the blocks are added in the same way. All of it
is float64, in which the square of a float32 is exact.
"""

import math
import sys
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from numba import prange
from numba.extending import register_jitable

from fastoptim.kernels import jit, memory, threads
from fastoptim.kernels.cpu import GRAD, Array
from fastoptim.kernels.jit import compiled, name_apart
from fastoptim.kernels.memory import array_at
from fastoptim.kernels.rule import fingerprint

LANES, ROWS = 256, 16  # sums of a block, and elements in each
BLOCK = LANES * ROWS
SERIAL_LIMIT = 65_536  # elements that one thread reads before two have begun to

# Columns of a table of cuts, one row for each array: the row of the spans table that has its address, the bytes from
# there, its elements, and the number of its first block.
ROW, BYTE, SIZE, FIRST = range(4)
CUTS = 4

# The squares of large float64 numbers overflow. A second sum, of numbers this much smaller, does not.
SMALLER = 2.0**-600
LARGEST = sys.float_info.max


@register_jitable
def _square(value: Any) -> Any:
    wide = np.float64(value)
    return wide * wide


@register_jitable
def _smaller_square(value: Any) -> Any:
    return (value * SMALLER) * (value * SMALLER)


@register_jitable
def _added_pairwise(lanes: Any) -> Any:
    half = LANES // 2
    while half:
        for lane in range(half):
            lanes[lane] += lanes[lane + half]
        half //= 2
    return lanes[0]


@register_jitable
def _sum_of_block(x: Any, of: Any, lanes: Any) -> Any:
    if x.size == BLOCK:
        for lane in range(LANES):
            total = of(x[lane])
            for row in range(1, ROWS):
                total += of(x[row * LANES + lane])
            lanes[lane] = total
    else:
        lanes[:] = 0.0
        for start in range(0, x.size, LANES):
            for lane in range(min(LANES, x.size - start)):
                lanes[lane] += of(x[start + lane])
    return _added_pairwise(lanes)


@register_jitable
def _sum_blocks(spans: Any, cuts: Any, sums: Any, like: Any, start: Any, stop: Any) -> None:
    """Fill the rows `start` to `stop` of `sums`."""
    lanes = np.empty(LANES)
    cut = np.searchsorted(cuts[:, FIRST], start, side="right") - 1
    for block in range(start, stop):
        while cut + 1 < len(cuts) and cuts[cut + 1, FIRST] <= block:
            cut += 1
        done = (block - cuts[cut, FIRST]) * BLOCK
        address = spans[cuts[cut, ROW], GRAD] + cuts[cut, BYTE] + done * like.itemsize
        x = array_at(address, like, min(BLOCK, cuts[cut, SIZE] - done))
        sums[block, 0] = _sum_of_block(x, _square, lanes)
        if like.itemsize == 8:
            sums[block, 1] = _sum_of_block(x, _smaller_square, lanes)
        else:  # the square of a float32 does not overflow: infinite, or nan, is what an element is
            sums[block, 1] = 0.0 * sums[block, 0]


@register_jitable
def _total(sums: Any, column: Any, lanes: Any) -> Any:
    lanes[:] = 0.0
    for start in range(0, len(sums), LANES):
        for lane in range(min(LANES, len(sums) - start)):
            lanes[lane] += sums[start + lane, column]
    return _added_pairwise(lanes)


@register_jitable
def _norm(sums: Any) -> Any:
    """The root of all sums; infinite or nan only if an element is."""
    lanes = np.empty(LANES)
    plain, smaller = _total(sums, 0, lanes), _total(sums, 1, lanes)
    if math.isfinite(plain) or not math.isfinite(smaller):
        return math.sqrt(plain)
    return min(math.sqrt(smaller) / SMALLER, LARGEST)


@register_jitable
def _blocks(cuts: Any) -> Any:
    return cuts[0, FIRST], cuts[-1, FIRST] + (cuts[-1, SIZE] + BLOCK - 1) // BLOCK


def _serial(spans: Any, cuts: Any, sums: Any, like: Any) -> Any:
    start, stop = _blocks(cuts)
    _sum_blocks(spans, cuts, sums, like, start, stop)
    return _norm(sums)


def _parallel(spans: Any, cuts: Any, sums: Any, like: Any, workers: Any) -> Any:
    start, stop = _blocks(cuts)
    share = (stop - start + workers - 1) // workers
    for worker in prange(workers):
        begin = start + worker * share
        _sum_blocks(spans, cuts, sums, like, begin, min(begin + share, stop))
    return _norm(sums)


for _function in _serial, _parallel:
    name_apart(_function, f"{fingerprint(memory, jit):x}")
SERIAL, PARALLEL = compiled(_serial), compiled(_parallel, parallel=True)


@register_jitable
def clipping(norm: Any, limit: Any) -> Any:
    """What gradients of a norm are multiplied by, as in PyTorch: nan stays nan."""
    ratio = limit / (norm + 1e-6)
    return 1.0 if ratio > 1.0 else ratio


class Norm:
    """The norm of arrays whose addresses are in a spans table.

    Args:
        spans: the table.
        arrays: for each array its row there, the bytes from that row's gradient, its elements and its dtype. Their
            order is that in which they are added.
    """

    def __init__(self, spans: Array, arrays: Sequence[tuple[int, int, int, np.dtype[Any]]]) -> None:
        self._spans = spans
        self._parts: list[tuple[Array, Array, int]] = []
        first = 0
        for dtype in sorted({dtype for *_, dtype in arrays}, key=lambda dtype: dtype.itemsize):
            cuts, elements = [], 0
            for row, byte, size, own in arrays:
                if own == dtype and size:
                    cuts.append((row, byte, size, first))
                    first, elements = first + -(-size // BLOCK), elements + size
            if cuts:
                self._parts.append((np.array(cuts, np.int64), np.empty(0, dtype), elements))
        self._sums = np.zeros((first, 2))

    def compile(self) -> None:
        """Have the kernels ready, so that `measure` cannot fail."""
        for cuts, like, elements in self._parts:
            given = tuple(map(numba.typeof, (self._spans, cuts, self._sums, like)))
            if elements <= SERIAL_LIMIT:
                SERIAL.compile(given)
            else:
                PARALLEL.compile((*given, numba.intp))

    def measure(self) -> float:
        """The root of the sum of all squares; infinite or nan only if an element is. 0 without any element."""
        norm = 0.0
        for cuts, like, elements in self._parts:  # the last one has all sums
            norm = threads.run(SERIAL, PARALLEL, elements, SERIAL_LIMIT, self._spans, cuts, self._sums, like)
        return norm
