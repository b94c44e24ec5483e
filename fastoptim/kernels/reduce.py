"""The norm of all gradients together: the one number that has to be known before the pass begins.

Additions in another order give other bits. So the order depends on sizes alone, and is the same for any number of
threads, any layout and either device: every array is cut into blocks of `BLOCK` elements, counted in C order. A block's
elements are dealt out to `LANES` sums in turn, and those are added pairwise; the sums of the blocks are added in the
same way. All of it is float64, in which the square of a float32 is exact.
"""

import math
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import register_jitable

from fastoptim.kernels import halves, jit, memory, storage, unroll
from fastoptim.kernels.jit import compiled, jitable, name_apart
from fastoptim.kernels.launch import Launch, Launches, Pass
from fastoptim.kernels.memory import WORD, array_at, word_at
from fastoptim.kernels.rule import fingerprint
from fastoptim.kernels.storage import Storage

Array = np.ndarray[Any, Any]

LANES, ROWS = 128, 32  # sums of a block, and elements in each
BLOCK = LANES * ROWS
SERIAL_LIMIT = 65_536  # elements that one thread reads before two have begun to

# Columns of a table of cuts, one row for each array: the address of the cell that has an address, the bytes from there
# to the array, its elements, and the number of its first block.
CELL, BYTE, SIZE, FIRST = range(4)
CUT = 4 * WORD

# The squares of large float64 numbers overflow. A second sum, of numbers this much smaller, does not.
SMALLER = 2.0**-600
LARGEST = sys.float_info.max
F8 = np.empty(0)


@register_jitable
def added_pairwise(lanes: Any) -> Any:
    """The sum of `LANES` numbers, which are overwritten."""
    half = LANES // 2
    while half:
        for lane in range(half):
            lanes[lane] += lanes[lane + half]
        half //= 2
    return lanes[0]


@register_jitable
def total(sums: Any, column: Any, lanes: Any) -> Any:
    """The sum of a column: one number for each block."""
    lanes[:] = 0.0
    for start in range(0, len(sums), LANES):
        for lane in range(min(LANES, len(sums) - start)):
            lanes[lane] += sums[start + lane, column]
    return added_pairwise(lanes)


def _norm(address: Any, blocks: Any) -> Any:
    """The root of all sums; infinite or nan only if an element is."""
    lanes, sums = np.empty(LANES), array_at(address, F8, 2 * blocks).reshape(blocks, 2)
    plain, smaller = total(sums, 0, lanes), total(sums, 1, lanes)
    if math.isfinite(plain) or not math.isfinite(smaller):
        return math.sqrt(plain)
    return min(math.sqrt(smaller) / SMALLER, LARGEST)


_FINGERPRINT = f"{fingerprint(memory, unroll, storage, halves, jit):x}"
name_apart(_norm, _FINGERPRINT)
norm_of_sums = compiled(_norm, "the norm's last part")


@cache
def pass_for(own: Storage) -> Pass:
    """The pass that fills the sums of the blocks `start` to `stop`: a row has the sum, and that of smaller numbers."""
    wide, identity = own.itemsize == F8.itemsize, (own.name, _FINGERPRINT)
    load, like, itemsize = own.load, np.empty(0, own.word), own.itemsize

    @jitable(*identity)
    def sum_of_squares(address: Any, size: Any, scale: Any, lanes: Any) -> Any:
        """The sum of the squares of a block's elements, each multiplied by `scale`."""
        lanes[:] = 0.0
        for _ in range(size // LANES):  # row after row: to read in several places at once confuses the prefetcher
            x = array_at(address, like, LANES)
            for lane in range(LANES):
                value = load(x, lane) * scale
                lanes[lane] += value * value
            address += LANES * itemsize
        rest = array_at(address, like, size % LANES)
        for lane in range(rest.size):
            value = load(rest, lane) * scale
            lanes[lane] += value * value
        return added_pairwise(lanes)

    def sum_blocks(cuts: Any, sums: Any, start: Any, stop: Any) -> None:
        lanes = np.empty(LANES)
        cut, block = cuts, start
        while block < stop:
            size = word_at(cut + SIZE * WORD)
            first = word_at(cut + FIRST * WORD)
            end = min(first + (size + BLOCK - 1) // BLOCK, stop)
            address = word_at(word_at(cut + CELL * WORD)) + word_at(cut + BYTE * WORD)
            while block < end:
                done = (block - first) * BLOCK
                here, count = address + done * itemsize, min(BLOCK, size - done)
                pair = array_at(sums + block * 2 * WORD, F8, 2)
                pair[0] = sum_of_squares(here, count, 1.0, lanes)
                # The square of a float32 does not overflow: the sum is infinite or nan if an element is.
                pair[1] = sum_of_squares(here, count, SMALLER, lanes) if wide else 0.0 * pair[0]
                block += 1
            cut += CUT

    # Fused with an addition, an exact square is rounded once all the same, so that it changes no bit.
    options: dict[str, Any] = {} if wide else {"fastmath": {"contract"}}
    return Pass(sum_blocks, *identity, what="the norm", **options)


@register_jitable
def clip_coef(norm: Any, limit: Any) -> Any:
    """What gradients of a norm are multiplied by, as in PyTorch: nan stays nan."""
    ratio = limit / (norm + 1e-6)
    return 1.0 if ratio > 1.0 else ratio


class Part(NamedTuple):
    """An array of the norm.

    Attributes:
        cell: address of an int64 that has an address when the norm is measured.
        byte: bytes from there to the array, which is C-contiguous.
        size: its elements.
        storage: how they lie in memory.
    """

    cell: int
    byte: int
    size: int
    storage: Storage


def storage_order(storages: Iterable[Storage]) -> list[Storage]:
    """The order in which the norm takes arrays of different storages: those of 8 bytes last, and by name."""
    return sorted(set(storages), key=lambda own: (own.computed.itemsize, own.name))


class Norm:
    """The norm of arrays, which are added in the order given, those of one storage after those of another."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._tables: list[Array] = []
        launches, first = list[Launch](), 0
        found: list[tuple[Array, int, int, Storage]] = []
        for own in storage_order(part.storage for part in parts):
            cuts, begin = list[tuple[int, int, int, int]](), first
            for part in parts:
                if part.storage == own and part.size:
                    cuts.append((part.cell, part.byte, part.size, first - begin))
                    first += -(-part.size // BLOCK)
            if cuts:
                found.append((np.array(cuts, np.int64), begin, first - begin, own))
        self._sums = np.zeros((first, 2))
        self._address = int(self._sums.ctypes.data)
        for table, begin, blocks, own in found:
            self._tables.append(table)
            sums = self._sums.ctypes.data + begin * self._sums.strides[0]
            elements = int(table[:, SIZE].sum())
            launches.append(Launch(pass_for(own).address, table.ctypes.data, sums, blocks, 1, elements))
        self._launches = Launches(launches, SERIAL_LIMIT)

    def compile(self) -> None:
        """Have everything ready, so that `measure` cannot fail."""
        self._launches.compile()
        norm_of_sums.compile((types.int64, types.int64))

    def measure(self) -> float:
        """The root of the sum of all squares; infinite or nan only if an element is. 0 without any element."""
        self._launches.run()
        norm: float = norm_of_sums(self._address, len(self._sums))
        return norm
