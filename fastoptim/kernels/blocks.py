"""Passes over blocks: they update elements, and sum over each block what the rule returns beside the new numbers.

A block is `BLOCK` elements of one array, in the order of its memory. It is cut into parts of `PART` elements, and what
stands in the same place of each part is added first, in the dtype of computation: so few numbers are left that it costs
little to add them in float64, in the order of the norm. All of this depends on sizes alone. So the sums have the same
bits for any number of threads, and however arrays are put together.
"""

from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np
from numba.extending import register_jitable

from fastoptim.kernels import chunks, codes, encode, fuse, halves, jit, memory, pieces, random, reduce, storage, unroll
from fastoptim.kernels.chunks import storing
from fastoptim.kernels.codes import CODED
from fastoptim.kernels.encode import free_room, new_room
from fastoptim.kernels.fuse import NOTHING, Fused
from fastoptim.kernels.jit import jitable
from fastoptim.kernels.launch import Pass
from fastoptim.kernels.memory import WORD, array_at, word_at
from fastoptim.kernels.pieces import Pieces
from fastoptim.kernels.reduce import BLOCK, LANES, added_pairwise
from fastoptim.kernels.rule import fingerprint
from fastoptim.kernels.storage import Storage
from fastoptim.kernels.table import BLOCKS, END, GRAD, NUMBERS, PARAM, SCALAR_ROW, SUMS, PerArray, columns

PART = 8 * LANES  # elements: the sums of a block's parts stay in the first cache
LINE = 16  # elements between the sums of two values: a processor takes addresses for equal that differ by a page
F8 = np.empty(0)
assert PART % CODED == BLOCK % PART == 0  # blocks of codes lie within parts, and parts within blocks


@register_jitable
def _add(array: Any, i: Any, value: Any) -> None:
    """Add a value, which may be a bool, to element `i`."""
    array[i] += array.dtype.type(value)


@register_jitable
def added_in_lanes(x: Any, lanes: Any) -> Any:
    """The sum of numbers that are dealt out to `LANES` sums in turn."""
    lanes[:] = 0.0
    whole = x.size // LANES * LANES
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            lanes[lane] += x[start + lane]
    for i in range(whole, x.size):
        lanes[i - whole] += x[i]
    return added_pairwise(lanes)


@cache
def numbers_at_addresses(count: int, at: int) -> Callable[..., Any]:
    """`(row, like) -> ` the float64 numbers whose addresses stand `at` bytes behind a row's beginning, as of `like`."""
    elements = (f"like.dtype.type(array_at(word_at(row + {at + i * WORD}), f8, 1)[0])" for i in range(count))
    return unroll.unrolled("numbers", "row, like", elements, count, at, array_at=array_at, word_at=word_at, f8=F8)


def numbers_of_array(per_array: PerArray, operands: int) -> Callable[..., Any]:
    """`(row, like) -> ` the numbers of an array, in the dtype of `like`: those of the state, then those given."""
    slots, given = numbers_at_addresses(len(per_array.slots), operands * WORD), len(per_array.given)
    if not given:
        return slots
    address, cast = columns(operands, per_array) * WORD + NUMBERS * WORD, unroll.cast(given)

    @jitable(len(per_array.slots), given, operands)
    def numbers_of(row: Any, like: Any) -> Any:
        return slots(row, like) + cast(array_at(word_at(row + address), F8, given), like)

    return numbers_of


class BlockKernels:
    """One function's pass over blocks.

    Args:
        element: `(p, g, *state[, average], *numbers) -> (*new, *values)`, callable from compiled code.
        written: the columns of the operands that `new` is written to.
        values: how many values of an element are summed.
        scalars: the names of the numbers that are the step's. The others are those of the array.
        per_array: what the table has for each array.
        identity: of the element function, of all that it was made of.
        what: a description for the log.
        rule: the user's function in it, for errors.
        fused: the options of the step.
    """

    def __init__(
        self,
        element: Callable[..., Any],
        written: Sequence[int],
        values: int,
        scalars: Sequence[str],
        per_array: PerArray,
        identity: tuple[object, ...],
        what: str,
        rule: Any,
        fused: Fused = NOTHING,
    ) -> None:
        sources = fingerprint(fuse, memory, reduce, unroll, storage, halves, codes, encode, chunks, pieces, random, jit)
        self._identity = *identity, values, *written, *map(len, per_array[:2]), f"{sources:x}"
        self.element, self.written, self.values = element, tuple(written), values
        self.scalars, self.per_array, self.fused = tuple(scalars), per_array, fused
        self.what, self.rule, self.zero_grads = what, rule, fused.zero_grads
        self._passes: dict[tuple[Storage, ...], Pass] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all numbers that the function takes behind the operands: those of the array, then the step's."""
        return *self.per_array.slots, *self.per_array.given, *self.scalars

    def pass_for(self, storages: tuple[Storage, ...]) -> Pass:
        """The pass over the blocks of a table's arrays, for operands that lie in memory in these ways."""
        if storages not in self._passes:
            self._passes[storages] = self._pass(storages)
        return self._passes[storages]

    @cached_property
    def on_gpu(self) -> Any:
        """The same for arrays on a GPU."""
        from fastoptim.kernels.cuda.reductions import CudaBlocks  # needs the package numba-cuda

        return CudaBlocks(self)

    def _update_part(self, storages: tuple[Storage, ...], identity: Sequence[object]) -> Callable[..., Any]:
        """`(arrays, sums, scalars, key, first)`: update elements, and add what is summed of each to its place.

        See `Pieces.updater`.
        """
        load_all, element = unroll.load(tuple(x.load for x in storages)), self.element
        store_all = storing(storages, self.written, self.fused, [_add] * self.values)
        written, has_zero_grads = unroll.select(self.written), self.zero_grads

        @jitable(*identity)
        def update_part(arrays: Any, sums: Any, scalars: Any, key: Any, first: Any) -> None:
            targets = written(arrays) + sums
            for i in range(arrays[PARAM].size):
                store_all(targets, i, element(*load_all(arrays, i), *scalars), key, first)
                if has_zero_grads:
                    arrays[GRAD][i] = 0

        return update_part

    def _pass(self, storages: tuple[Storage, ...]) -> Pass:
        identity = *self._identity, *(each.name for each in storages)
        row_bytes = columns(len(storages), self.per_array) * WORD
        end, blocks_end, sums_at, scalar_row = (row_bytes + x * WORD for x in (END, BLOCKS, SUMS, SCALAR_ROW))
        in_pieces = Pieces(storages, self.written, self.fused, self.per_array, self.names)
        update_piece, coded = in_pieces.updater(self._update_part(storages, identity)), in_pieces.coded
        count, piece = len(self.scalars), min(PART, in_pieces.longest or PART)
        computed, values = storages[PARAM].computed, self.values
        like, itemsize = np.empty(0, computed), computed.itemsize
        numbers_of, in_own_dtype = numbers_of_array(self.per_array, len(storages)), unroll.cast(count)
        rows = unroll.rows(values)

        def update_blocks(table: Any, scalars: Any, start: Any, stop: Any) -> None:
            """Update the blocks `start` to `stop`, counted through all arrays."""
            of_parts, lanes, room = np.empty((values, PART + LINE), like.dtype), np.empty(LANES), new_room(coded)
            row, begin, element = table, 0, 0
            while start < stop:
                behind, last = word_at(row + blocks_end), word_at(row + end)
                if start < behind:
                    numbers = array_at(scalars + word_at(row + scalar_row) * count * itemsize, like, count)
                    of_the_step = numbers_of(row, like) + in_own_dtype(numbers, like)
                    sums = array_at(word_at(row + sums_at), F8, (behind - begin) * values)
                    while start < min(behind, stop):
                        at, block_end = (start - begin) * BLOCK, min((start - begin + 1) * BLOCK, last - element)
                        part = min(PART, block_end - at)
                        of_parts[:, :part] = 0
                        while at < block_end:
                            size, place = min(piece, block_end - at), at % PART
                            update_piece(row, at, size, rows(of_parts, place, place + size), of_the_step, room)
                            at += size
                        for i in range(values):
                            sums[(start - begin) * values + i] = added_in_lanes(of_parts[i, :part], lanes)
                        start += 1
                begin, element = behind, last
                row += row_bytes
            free_room(room)

        return Pass(update_blocks, *identity, what=self.what, rule=self.rule)
