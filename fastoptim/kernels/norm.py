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
from fastoptim.kernels.jit import compiled, jitable, name_apart
from fastoptim.kernels.memory import array_at
from fastoptim.kernels.rule import fingerprint

LANES, ROWS = 128, 32  # sums of a block, and elements in each
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
def _added_pairwise(lanes: Any) -> Any:
    half = LANES // 2
    while half:
        for lane in range(half):
            lanes[lane] += lanes[lane + half]
        half //= 2
    return lanes[0]


@register_jitable
def _sum_of_squares(address: Any, like: Any, size: Any, scale: Any, lanes: Any) -> Any:
    """The sum of the squares of a block's elements, each multiplied by `scale`."""
    lanes[:] = 0.0
    row = LANES * like.itemsize
    for _ in range(size // LANES):  # one after another: to go on in several places at once confuses the prefetcher
        x = array_at(address, like, LANES)
        for lane in range(LANES):
            value = x[lane] * scale
            lanes[lane] += value * value
        address += row
    rest = array_at(address, like, size % LANES)
    for lane in range(rest.size):
        value = rest[lane] * scale
        lanes[lane] += value * value
    return _added_pairwise(lanes)


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


def _build(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """The kernels for a dtype: `(spans, cuts, sums, like)` on the calling thread, and with `workers` on all."""
    wide, identity = dtype.itemsize == 8, (dtype.name, f"{fingerprint(memory, jit):x}")

    @jitable(*identity)
    def sum_blocks(spans: Any, cuts: Any, sums: Any, like: Any, start: Any, stop: Any) -> None:
        lanes = np.empty(LANES)
        cut = np.searchsorted(cuts[:, FIRST], start, side="right") - 1
        for block in range(start, stop):
            while cut + 1 < len(cuts) and cuts[cut + 1, FIRST] <= block:
                cut += 1
            done = (block - cuts[cut, FIRST]) * BLOCK
            address = spans[cuts[cut, ROW], GRAD] + cuts[cut, BYTE] + done * like.itemsize
            size = min(BLOCK, cuts[cut, SIZE] - done)
            sums[block, 0] = _sum_of_squares(address, like, size, 1.0, lanes)
            # the square of a float32 does not overflow: infinite, or nan, is what an element is
            sums[block, 1] = _sum_of_squares(address, like, size, SMALLER, lanes) if wide else 0.0 * sums[block, 0]

    @jitable(*identity)
    def blocks(cuts: Any) -> Any:
        return cuts[0, FIRST], cuts[-1, FIRST] + (cuts[-1, SIZE] + BLOCK - 1) // BLOCK

    def norm_serial(spans: Any, cuts: Any, sums: Any, like: Any) -> Any:
        start, stop = blocks(cuts)
        sum_blocks(spans, cuts, sums, like, start, stop)
        return _norm(sums)

    def norm_parallel(spans: Any, cuts: Any, sums: Any, like: Any, workers: Any) -> Any:
        start, stop = blocks(cuts)
        share = (stop - start + workers - 1) // workers
        for worker in prange(workers):
            begin = start + worker * share
            sum_blocks(spans, cuts, sums, like, begin, min(begin + share, stop))
        return _norm(sums)

    for function in norm_serial, norm_parallel:
        name_apart(function, *identity)
    # fused with an addition, an exact square is rounded once all the same, so that it changes no bit
    options = {} if wide else {"fastmath": {"contract"}}
    return compiled(norm_serial, **options), compiled(norm_parallel, parallel=True, **options)


KERNELS = {dtype: _build(dtype) for dtype in (np.dtype(np.float32), np.dtype(np.float64))}


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
        parts, first = list[tuple[Array, Array, int]](), 0
        for dtype in sorted({dtype for *_, dtype in arrays}, key=lambda dtype: dtype.itemsize):
            cuts, elements = [], 0
            for row, byte, size, own in arrays:
                if own == dtype and size:
                    cuts.append((row, byte, size, first))
                    first, elements = first + -(-size // BLOCK), elements + size
            if cuts:
                parts.append((np.array(cuts, np.int64), np.empty(0, dtype), elements))
        sums = np.zeros((first, 2))
        self._calls = [
            (KERNELS[like.dtype], (elements, SERIAL_LIMIT), (spans, cuts, sums, like)) for cuts, like, elements in parts
        ]

    def compile(self) -> None:
        """Have the kernels ready, so that `measure` cannot fail."""
        for (serial, parallel), (elements, limit), arguments in self._calls:
            given = tuple(map(numba.typeof, arguments))
            if elements <= limit:
                serial.compile(given)
            else:
                parallel.compile((*given, numba.intp))

    def measure(self) -> float:
        """The root of the sum of all squares; infinite or nan only if an element is. 0 without any element."""
        norm = 0.0
        for kernels, limits, arguments in self._calls:  # the last one has all sums
            norm = threads.run(*kernels, *limits, *arguments)
        return norm
