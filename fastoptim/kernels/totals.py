"""What is computed of an array's sums, once for each array: the sums of all its blocks, and functions of them."""

import zlib
from collections.abc import Callable, Collection, Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np

from fastoptim.kernels import adapt, jit, memory, reduce, storage, unroll
from fastoptim.kernels.adapt import adapted, one_float
from fastoptim.kernels.blocks import numbers_at_addresses
from fastoptim.kernels.jit import jitable
from fastoptim.kernels.launch import Pass
from fastoptim.kernels.memory import WORD, array_at, word_at
from fastoptim.kernels.reduce import LANES, total
from fastoptim.kernels.rule import fingerprint
from fastoptim.kernels.storage import Storage
from fastoptim.kernels.table import BLOCKS, END, NUMBERS, SCALAR_ROW, SUMS, PerArray, columns

F8 = np.empty(0)


class TotalsKernels:
    """The pass over the rows of a table that follows a pass over blocks.

    Args:
        sums: names of the values that were summed.
        functions: of what `known_names` says and of the functions before, by name. What each returns is given to later
            stages. If it has the name of a slot of the array, it becomes the state, too.
        before: names of what the reductions before this one have given.
        scalars: names of the step's numbers.
        operands: how many a table's row has.
        per_array: what it has for each array.
        owner: the optimizer's name, for the log.
        over_all: whether it is about the sums over all arrays together, which then have all the same numbers.
    """

    def __init__(
        self,
        sums: Sequence[str],
        functions: Sequence[Callable[..., float]],
        before: Collection[str],
        scalars: Sequence[str],
        operands: int,
        per_array: PerArray,
        owner: str,
        over_all: bool,
    ) -> None:
        self.sums, self.functions, self.scalars = tuple(sums), tuple(functions), tuple(scalars)
        self._before, self.operands, self.per_array, self.owner = before, operands, per_array, owner
        self.over_all = over_all
        self._passes: dict[Storage, Pass] = {}

    @property
    def known_names(self) -> tuple[str, ...]:
        """What a function may take: sums, the array's elements, numbers given before, its state, the step's numbers."""
        given = (name if name in self._before else f"_later_{name}" for name in self.per_array.given)
        return *self.sums, "size", *given, *self.per_array.slots, *self.scalars

    @property
    def targets(self) -> list[tuple[int, int]]:
        """Where each result goes: its place among what is given, and that among the array's slots, -1 if it is none."""
        slots, given = self.per_array.slots, self.per_array.given
        names = [function.__name__ for function in self.functions]
        return [(given.index(name), slots.index(name) if name in slots else -1) for name in names]

    def pass_for(self, own: Storage) -> Pass:
        """The pass for arrays that lie in memory in this way."""
        if own not in self._passes:
            self._passes[own] = self._pass(own)
        return self._passes[own]

    @cached_property
    def on_gpu(self) -> Any:
        """The same for arrays on a GPU."""
        from fastoptim.kernels.cuda.reductions import CudaTotals  # needs the package numba-cuda

        return CudaTotals(self)

    def results(self) -> Callable[..., Any]:
        """`(known) -> ` what the functions return, one after the other, as a tuple."""
        names, chain = list(self.known_names), jitable("known")(lambda known: known)
        for function in self.functions:
            chain = _extended(chain, adapted(function, names))
            names.append(function.__name__)
        return chain

    def _pass(self, own: Storage) -> Pass:
        sources = fingerprint(*self.functions, adapt, memory, reduce, unroll, storage, jit)
        columns_ = columns(self.operands, self.per_array)
        names = zlib.crc32(repr((self.sums, self.known_names, self.targets)).encode())
        identity = columns_, own.dtype.char, f"{names:x}", f"{sources:x}"
        row_bytes, count, values = columns_ * WORD, len(self.scalars), len(self.sums)
        end, blocks_end, sums_at, numbers_at, scalar_row = (
            row_bytes + x * WORD for x in (END, BLOCKS, SUMS, NUMBERS, SCALAR_ROW)
        )
        like, itemsize, given = np.empty(0, own.dtype), own.itemsize, len(self.per_array.given)
        slots_at, slots = self.operands * WORD, len(self.per_array.slots)
        totals_of, all_sums, results = _totals(values), unroll.cast(values), self.results()
        as_floats, all_given = unroll.cast(count), unroll.cast(given)
        slots_of, store_results = numbers_at_addresses(slots, slots_at), _stores(self.targets, slots_at)
        known_count = len(self.known_names)

        def compute_numbers(table: Any, scalars: Any, start: Any, stop: Any) -> None:
            """Compute the numbers of the arrays in the rows `start` to `stop`."""
            lanes = np.empty(LANES)
            row = table + start * row_bytes
            for i in range(start, stop):
                begin = word_at(row - row_bytes + blocks_end) if i > 0 else 0
                element = word_at(row - row_bytes + end) if i > 0 else 0
                blocks, size = word_at(row + blocks_end) - begin, word_at(row + end) - element
                sums = array_at(word_at(row + sums_at), F8, blocks * values).reshape(blocks, values)
                numbers = array_at(word_at(row + numbers_at), F8, given)
                of_the_step = array_at(scalars + word_at(row + scalar_row) * count * itemsize, like, count)
                known = totals_of(sums, lanes) + (float(size),) + all_given(numbers, F8) + slots_of(row, F8)
                found = results(known + as_floats(of_the_step, F8))
                store_results(row, numbers, found[known_count:])
                row += row_bytes

        def compute_common_numbers(table: Any, scalars: Any, start: Any, stop: Any) -> None:
            """Compute numbers of the sums over all arrays. The table has how many, and row, blocks and size of each."""
            lanes, sum_of_all, size = np.empty(LANES), np.zeros(values), 0
            arrays = word_at(table)
            for i in range(arrays):
                row, blocks = word_at(table + (1 + 3 * i) * WORD), word_at(table + (2 + 3 * i) * WORD)
                size += word_at(table + (3 + 3 * i) * WORD)
                sums = array_at(word_at(row + sums_at), F8, blocks * values).reshape(blocks, values)
                for value in range(values):
                    sum_of_all[value] += total(sums, value, lanes)
            row = word_at(table + WORD)
            of_the_step = array_at(scalars + word_at(row + scalar_row) * count * itemsize, like, count)
            known = all_sums(sum_of_all, F8) + (float(size),)
            known = known + all_given(array_at(word_at(row + numbers_at), F8, given), F8) + slots_of(row, F8)
            found = results(known + as_floats(of_the_step, F8))
            for i in range(arrays):
                row = word_at(table + (1 + 3 * i) * WORD)
                store_results(row, array_at(word_at(row + numbers_at), F8, given), found[known_count:])

        if self.over_all:
            what = f"{self.owner}'s numbers of all arrays"
            return Pass(compute_common_numbers, *identity, what=what, functions=self.functions)
        what = f"{self.owner}'s numbers of each array"
        return Pass(compute_numbers, *identity, what=what, functions=self.functions)


def _extended(before: Any, function: Any) -> Any:
    """A chain of functions with one more."""

    @jitable(before.__name__, function.__name__)
    def chain(known: Any) -> Any:
        values = before(known)
        return values + (one_float(function(*values)),)

    return chain


@cache
def _totals(count: int) -> Callable[..., Any]:
    """`(sums, lanes) -> ` the sum of each of `count` columns."""
    elements = (f"total(sums, {i}, lanes)" for i in range(count))
    return unroll.unrolled("totals", "sums, lanes", elements, count, total=total)


def _stores(targets: Sequence[tuple[int, int]], at: int) -> Callable[..., Any]:
    """`(row, numbers, results)`: write each result to what is given, and to its slot of the array if it has one."""
    if not targets:
        return jitable("none")(lambda row, numbers, results: None)
    before, (index, slot) = _stores(targets[:-1], at), targets[-1]
    last, address, is_slot = len(targets) - 1, at + slot * WORD, slot >= 0

    @jitable(*(x for target in targets for x in target), at)
    def store_results(row: Any, numbers: Any, results: Any) -> None:
        before(row, numbers, results)
        numbers[index] = results[last]
        if is_slot:
            array_at(word_at(row + address), F8, 1)[0] = results[last]

    return store_results
