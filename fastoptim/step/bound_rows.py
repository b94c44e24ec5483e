"""A parameter with a gradient of some rows, bound to the kernels: its segments are found anew for each call."""

import ctypes
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from fastoptim.arrays.info import host_info
from fastoptim.arrays.memory import Array
from fastoptim.arrays.overlap import OVERLAP_WORK
from fastoptim.arrays.rows import Rows
from fastoptim.kernels.cpu import AHEAD, LINE, SERIAL_LIMIT
from fastoptim.kernels.idle import NOT_LINEAR, MatrixOf, idle_kernels
from fastoptim.kernels.launch import PASS, PASS_TABLE, SCALARS, WORK, Launch, Launches
from fastoptim.kernels.memory import WORD
from fastoptim.kernels.rows import FIELDS, PREPARE, ROW_WORDS, count_pass, one_row_pass, prepare_rows, sum_pass
from fastoptim.kernels.storage import is_stored, storage_of
from fastoptim.kernels.table import PARAM, SCALAR_ROW
from fastoptim.settings.plan import Plan
from fastoptim.settings.rows import Kind, Numbers
from fastoptim.step.segments import Segment
from fastoptim.step.tables import Part, StepTable

FEWEST = 64  # rows that there is memory for from the start


class BoundRows:
    """Updates some rows of one parameter.

    Args:
        segment: what it is.
        part: which has it alone, and what its rows have.
        table: of this part, as if all rows had a gradient.
        in_one: whether the gradients of all rows have to lie one behind another, in the order of the rows.
    """

    def __init__(self, segment: Segment, part: Part, table: StepTable, in_one: bool) -> None:
        shape, storages = segment.param.shape, segment.storages
        assert part.rows is not None
        self.index, self.name, self.own = part.members[0], next(iter(segment.parts)), part.rows
        self._rows, self._row_shape, self._in_one = shape[0], shape[1:], in_one
        self._row_size, self._computed = prod(shape[1:]), storages[PARAM].computed
        self._update = part.stages[-1].kernels.on_cpu.pass_for(storages, is_scattered=True)
        fused = part.stages[-1].kernels.fused
        has_missed, size = self.own.missed is not None, len(storages) - 1 - fused.copy
        kernels = idle_kernels(size, fused.copy) if has_missed else None
        self._idle = None if kernels is None else kernels.on_cpu.pass_for(storages, is_scattered=True)
        self._matrix_of = MatrixOf(part.stages[-1])
        self._matrix: Array | None = None
        self._itemsizes, self._columns = np.array([x.itemsize for x in storages], np.int64), table.columns
        self._words = words = np.zeros((), ROW_WORDS)
        self._address = int(words.ctypes.data)
        words["rows"], words["row_size"], words["template"] = self._rows, self._row_size, table.cell(0, 0)
        words["operands"], words["columns"] = len(storages), self._columns
        words["itemsizes"], words["steps"], words["now"] = self._itemsizes.ctypes.data, self.own.steps.ctypes.data, -1
        self._table = np.empty((0, self._columns), np.int64)
        self._reserve(FEWEST)
        self._every: Array | None = None
        self._param, self._zeroes, self._clips = segment.param, fused.zero_grads, fused.clip_norm
        self._param_at = ctypes.c_int64.from_address(table.cell(0, segment.param_column))
        self._gradient: Rows | None = None
        self._given: Array | None = None
        self._storage, self._is_summed = storage_of(self._computed), False

    def compile(self) -> None:
        """Have what every call needs ready."""
        prepare_rows.compile(PREPARE)
        self.new_calls()  # compiles the passes

    def is_at(self, param: Any) -> bool:
        """Whether this is the parameter that it was bound for."""
        return type(param) is np.ndarray and host_info(param) == self._param._replace(address=self._param_at.value)

    def take(self, gradient: Any, params: Sequence[Any]) -> bool:
        """Whether it is a gradient of this parameter, of some rows or of all. If so, its rows are found."""
        own = gradient if type(gradient) is Rows else self._of_all(gradient)
        if own is None or own.values.shape[1:] != self._row_shape:
            return False
        given = gradient.values if type(gradient) is Rows else gradient
        if self._zeroes and not given.flags.writeable:
            return False
        storage = storage_of(own.values.dtype)
        if storage.computed != self._computed:
            with np.errstate(over="ignore"):  # what another dtype cannot hold is inf, as in a kernel
                own = Rows(own.indices, own.values.astype(self._computed))
            storage = storage_of(self._computed)
        if own.values.base is not None and any(_share(own.values, param) for param in params):
            return False
        needs_one = self._in_one or storage.dtype != self._computed
        if not self._find(own.indices, own.values, needs_one):
            return False
        self._gradient, self._given, self._storage, self._is_summed = own, given, storage, False
        return True

    def _find(self, indices: Array, values: Array, needs_one: bool = False, now: int | None = None) -> bool:
        """Find the rows of a gradient, after so many steps. Return whether all indices are in range."""
        self._reserve(len(indices))
        if self.own.missed is not None:
            self._words["now"] = self.own.cohort.count if now is None else now
        found: bool = prepare_rows(self._address, id(indices), id(values), needs_one)
        return found

    def _of_all(self, gradient: Any) -> Rows | None:
        """A gradient of all rows as one of `Rows`; None if it is no array for that."""
        shape = self._rows, *self._row_shape
        if type(gradient) is not np.ndarray or gradient.shape != shape or not is_stored(gradient.dtype):
            return None
        if self._every is None:
            self._every = np.arange(self._rows)
        return Rows(self._every, gradient)

    def _reserve(self, count: int) -> None:
        """Have memory for so many rows."""
        if self._table.shape[0] >= count + AHEAD:
            return
        count += count // 4 + AHEAD
        self._table = np.empty((count, self._columns), np.int64)
        self._room = np.empty((4, count + 1), np.int64)
        self._sums = np.empty((count, self._row_size), self._computed)  # no memory, until it is written
        words = self._words
        words["table"], words["sums"] = self._table.ctypes.data, self._sums.ctypes.data
        words["order"], words["spare"], words["starts"], words["summed"] = (int(x.ctypes.data) for x in self._room)

    def set_numbers(
        self, algorithm: Numbers, plan: Plan, kinds: Sequence[Kind], divisor: float, clip_coef: float | None
    ) -> None:
        """Have the numbers that the rows need. For arguments see `BoundStep`.

        Raises:
            ValueError, WrongScalarsError: the numbers are wrong.
        """
        made, numbers, missed = kinds[0][0].count, self.own.numbers, self.own.missed
        if len(kinds) > 1:
            made = max(cohort.count for cohort, _ in kinds)
        if missed is not None:
            row = numbers.set_one(algorithm, plan, made, divisor, self.own.cohort, clip_coef)
            # A gradient of zero stays zero, whatever it is multiplied by; and that may be nan.
            self._matrix = self._matrix_of([*row[:-1], 1.0] if self._clips else row)
            if self._matrix is None:
                raise ValueError(f"sparse: expected 'lazy', as {NOT_LINEAR.format(type(algorithm).__name__)}")
            return
        if not numbers.has_next(algorithm, plan, made, divisor):
            numbers.fill(algorithm, plan, made, divisor, self._scalar_rows)
        if clip_coef is not None:
            numbers.array[self._scalar_rows, -1] = clip_coef

    @property
    def _scalar_rows(self) -> Array:
        """The rows of the numbers that the segments need, as a part of the table."""
        return self._table[: int(self._words["segments"]), SCALAR_ROW]

    @property
    def elements(self) -> int:
        """How many elements are updated."""
        return int(self._words["unique"]) * self._row_size

    @property
    def gradient_cell(self) -> int:
        """The address of the int64 that has the address of the gradients of all rows, one behind another."""
        return self._address + FIELDS.index("sums") * WORD

    def new_calls(self) -> list[Launch]:
        """The calls of a step: sums, the update, the steps of the rows. `write_calls` says what changes.

        Where rows catch up, there are two more in front of the update: for the steps that they have missed, and for the
        numbers of the one that follows.
        """
        sums, update, count = sum_pass(self._storage).address, self._update.address, count_pass.address
        own = self._address
        calls = [Launch(sums, own, 0, 0, 1, 0)]
        if self._idle is not None:
            calls += [Launch(self._idle.address, 0, 0, 0, LINE, 0), Launch(one_row_pass.address, own, 0, 1, 1, 1)]
        return [*calls, Launch(update, 0, 0, 0, LINE, 0), Launch(count, own, 1, 1, 1, 1)]

    def write_calls(self, words: Array) -> list[int]:
        """Write what changes from step to step into the words of these calls. Return how many elements each is of."""
        own, elements = self._words, self.elements
        count = 0 if self._is_summed else int(own["sum_count"])
        words[0, PASS], words[0, WORK] = sum_pass(self._storage).address, count
        sizes = [count * self._row_size]
        if self.own.missed is not None:
            sizes += [self._write_missed(words[1]), 1]
        update = words[len(sizes)]
        update[PASS_TABLE], update[SCALARS], update[WORK] = own["table"], self.own.numbers.address, elements
        return [*sizes, elements, 1]

    def _write_missed(self, words: Array) -> int:
        """Write the call for the steps that rows have missed. Return how many elements it is of."""
        missed = self.own.missed
        assert missed is not None
        elements = 0 if missed.is_idle else self.elements
        words[PASS_TABLE], words[SCALARS], words[WORK] = self._words["table"], missed.address, elements
        return elements

    def catch_up(self, indices: Array | None, now: int | None = None) -> None:
        """Make the steps that these rows have missed, or all rows, up to one; by default, up to the last one.

        Raises:
            IndexError: an index is out of range.
        """
        assert self._idle is not None
        rows = np.arange(self._rows) if indices is None else indices
        if not self._find(rows, rows, now=now):
            outside = rows[(rows < 0) | (rows >= self._rows)][0]
            raise IndexError(f"flush: rows[{self.name!r}]: expected numbers in [0, {self._rows}), got {outside}")
        count = Launch(count_pass.address, self._address, 0, 1, 1, 1)
        calls = Launches([Launch(self._idle.address, 0, 0, 0, LINE, 0), count], SERIAL_LIMIT)
        calls.compile(is_changing=True)
        calls.run_changed([self._write_missed(calls.words[0]), 1])
        if indices is None and self.own.missed is not None:
            self.own.missed.clear()

    def sum(self) -> None:
        """Sum the gradients now, as something has to know them before the step."""
        calls = Launches(self.new_calls(), SERIAL_LIMIT)
        elements, *_ = self.write_calls(calls.words)
        calls.run_changed([elements])
        self._is_summed = True

    def let_go(self) -> None:
        """Keep no array of a call alive."""
        self._gradient = self._given = None

    def finish(self) -> None:
        """The step is made."""
        if self._zeroes and self._given is not None:
            self._given[...] = 0
        self.let_go()
        missed = self.own.missed
        if missed is not None and self._matrix is not None:
            missed.add(self._matrix)
            if missed.is_long:
                self.catch_up(None, self.own.cohort.count + 1)  # with the step that is being made


def _share(values: Array, param: Any) -> bool:
    try:
        work: Any = OVERLAP_WORK
        return np.shares_memory(values, param, max_work=work)
    except np.exceptions.TooHardError:
        return True
