"""Passes over blocks: they update elements, and sum over each block what the rule returns beside the new numbers.

A block is `BLOCK` elements of one array, in the order of its memory. The order of the additions is that of the norm: it
depends on sizes alone. So the sums have the same bits for any number of threads, and however arrays are put together.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastoptim.kernels import fuse, jit, memory, reduce, storage, unroll
from fastoptim.kernels.cpu import given_at
from fastoptim.kernels.jit import jitable
from fastoptim.kernels.launch import Pass
from fastoptim.kernels.memory import WORD, array_at, operands_at, word_at
from fastoptim.kernels.reduce import BLOCK, LANES, added_pairwise
from fastoptim.kernels.rule import fingerprint
from fastoptim.kernels.storage import Storage
from fastoptim.kernels.table import BLOCKS, END, GRAD, PARAM, SCALAR_ROW, SUMS, PerArray, columns

F8 = np.empty(0)


class BlockKernels:
    """One function's pass over blocks.

    Args:
        element: `(p, g, *state[, average], *numbers) -> (*new, *values)`, callable from compiled code.
        written: the columns of the operands that `new` is written to.
        values: how many values of an element are summed.
        given: how many of the numbers are those of the array; the others are the step's.
        scalars: how many those are.
        per_array: what the table has for each array.
        identity: of the element function, of all that it was made of.
        what: a description for the log.
        rule: the user's function in it, for errors.
        zero_grads: whether gradients are set to zero.
    """

    def __init__(
        self,
        element: Callable[..., Any],
        written: Sequence[int],
        values: int,
        given: int,
        scalars: int,
        per_array: PerArray,
        identity: tuple[object, ...],
        what: str,
        rule: Any,
        zero_grads: bool = False,
    ) -> None:
        sources = fingerprint(fuse, memory, reduce, unroll, storage, jit)
        self._identity = *identity, values, given, *written, len(per_array.slots), f"{sources:x}"
        self._element, self._written, self._values = element, tuple(written), values
        self._given, self._scalars, self._per_array = given, scalars, per_array
        self._what, self._rule, self._zero_grads = what, rule, zero_grads
        self._passes: dict[tuple[Storage, ...], Pass] = {}

    def pass_for(self, storages: tuple[Storage, ...]) -> Pass:
        """The pass over the blocks of a table's arrays, for operands that lie in memory in these ways."""
        if storages not in self._passes:
            self._passes[storages] = self._pass(storages)
        return self._passes[storages]

    def _update_block(self, storages: tuple[Storage, ...], identity: Sequence[object]) -> Callable[..., Any]:
        """`(arrays, values, scalars)`: update the elements of a block, and write down what is summed of each."""
        load_all, element, written = (
            unroll.load([x.load for x in storages]),
            self._element,
            unroll.select(self._written),
        )
        stores = [storages[i].store for i in self._written] + [storages[PARAM].store] * self._values
        store_all, has_zero_grads = unroll.store(stores), self._zero_grads

        @jitable(*identity)
        def update_block(arrays: Any, values: Any, scalars: Any) -> None:
            targets = written(arrays) + values
            for i in range(arrays[PARAM].size):
                store_all(targets, i, element(*load_all(arrays, i), *scalars))
                if has_zero_grads:
                    arrays[GRAD][i] = 0

        return update_block

    def _pass(self, storages: tuple[Storage, ...]) -> Pass:
        identity = *self._identity, *(each.dtype.char for each in storages)
        row_bytes = columns(len(storages), self._per_array) * WORD
        end, blocks_end, sums_at, scalar_row = (row_bytes + x * WORD for x in (END, BLOCKS, SUMS, SCALAR_ROW))
        arrays_at, update_block, count = operands_at(storages), self._update_block(storages, identity), self._scalars
        like, itemsize, values = np.empty(0, storages[PARAM].dtype), storages[PARAM].itemsize, self._values
        numbers_of, in_own_dtype = given_at(self._given, row_bytes), unroll.cast(count)
        rows = unroll.rows(values)

        @jitable(*identity)
        def sum_of(x: Any, lanes: Any) -> Any:
            lanes[:] = 0.0
            whole = x.size - x.size % LANES
            for start in range(0, whole, LANES):
                for lane in range(LANES):
                    lanes[lane] += x[start + lane]
            for lane in range(x.size - whole):
                lanes[lane] += x[whole + lane]
            return added_pairwise(lanes)

        def update_blocks(table: Any, scalars: Any, start: Any, stop: Any) -> None:
            """Update the blocks `start` to `stop`, counted through all arrays."""
            scratch, lanes = np.empty((values, BLOCK), like.dtype), np.empty(LANES)
            row, begin, element = table, 0, 0
            while start < stop:
                behind, last = word_at(row + blocks_end), word_at(row + end)
                if start < behind:
                    numbers = array_at(scalars + word_at(row + scalar_row) * count * itemsize, like, count)
                    of_the_step = numbers_of(row, like) + in_own_dtype(numbers, like)
                    sums = array_at(word_at(row + sums_at), F8, (behind - begin) * values)
                    while start < min(behind, stop):
                        first = (start - begin) * BLOCK
                        size = min(BLOCK, last - element - first)
                        update_block(arrays_at(row, first, size), rows(scratch, 0, size), of_the_step)
                        for i in range(values):
                            sums[(start - begin) * values + i] = sum_of(scratch[i, :size], lanes)
                        start += 1
                begin, element = behind, last
                row += row_bytes

        return Pass(update_blocks, *identity, what=self._what, rule=self._rule)
