"""A parameter with a gradient of some rows, bound to the kernels. Each call has rows of its own."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastoptim.arrays.info import host_info
from fastoptim.arrays.memory import Array
from fastoptim.arrays.overlap import OVERLAP_WORK
from fastoptim.arrays.rows import Rows
from fastoptim.kernels.cpu import LINE, SERIAL_LIMIT
from fastoptim.kernels.idle import NOT_LINEAR, MatrixOf, idle_kernels
from fastoptim.kernels.launch import PASS, PASS_TABLE, SCALARS, WORK, Launch, Launches
from fastoptim.kernels.rows import PREPARE, count_pass, one_row_pass, prepare_rows, sum_pass
from fastoptim.kernels.storage import is_stored, storage_of
from fastoptim.kernels.table import PARAM
from fastoptim.settings.plan import Plan
from fastoptim.settings.rows import Kind, Numbers
from fastoptim.step.found_rows import FoundRows
from fastoptim.step.segments import Segment
from fastoptim.step.tables import Part, StepTable


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
        self._computed = storages[PARAM].computed
        self._update = part.stages[-1].kernels.on_cpu.pass_for(storages, is_scattered=True)
        fused = part.stages[-1].kernels.fused
        has_missed, size = self.own.missed is not None, len(storages) - 1 - fused.copy
        kernels = idle_kernels(size, fused.copy) if has_missed else None
        self._idle = None if kernels is None else kernels.on_cpu.pass_for(storages, is_scattered=True)
        self._matrix_of = MatrixOf(part.stages[-1])
        self._matrix: Array | None = None
        self.found = FoundRows(shape, storages, table.template, self.own.steps)
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
        self._gradient, self._given, self._storage, self._is_summed = own, given, storage, False
        return self.find()

    def find(self) -> bool:
        """Find the rows of the gradient, also where the template has changed. Return whether all are in range."""
        assert self._gradient is not None
        needs_one = self._in_one or self._storage.dtype != self._computed
        return self.found.find(self._gradient.indices, self._gradient.values, needs_one, self._now)

    @property
    def _now(self) -> int | None:
        """How many steps are made, where the rows catch up."""
        return None if self.own.missed is None else self.own.cohort.count

    def _of_all(self, gradient: Any) -> Rows | None:
        """A gradient of all rows as one of `Rows`; None if it is no array for that."""
        shape = self._rows, *self._row_shape
        if type(gradient) is not np.ndarray or gradient.shape != shape or not is_stored(gradient.dtype):
            return None
        if self._every is None:
            self._every = np.arange(self._rows)
        return Rows(self._every, gradient)

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
            numbers.fill(algorithm, plan, made, divisor, self.found.scalar_rows)
        if clip_coef is not None:
            numbers.array[self.found.scalar_rows, -1] = clip_coef

    def new_calls(self) -> list[Launch]:
        """The calls of a step: sums, the update, the steps of the rows. `write_calls` says what changes.

        Where rows catch up, there are two more in front of the update: for the steps that they have missed, and for the
        numbers of the one that follows.
        """
        sums, update, count = sum_pass(self._storage).address, self._update.address, count_pass.address
        own = self.found.address
        calls = [Launch(sums, own, 0, 0, 1, 0)]
        if self._idle is not None:
            calls += [Launch(self._idle.address, 0, 0, 0, LINE, 0), Launch(one_row_pass.address, own, 0, 1, 1, 1)]
        return [*calls, Launch(update, 0, 0, 0, LINE, 0), Launch(count, own, 1, 1, 1, 1)]

    def write_calls(self, words: Array) -> list[int]:
        """Write what changes from step to step into the words of these calls. Return how many elements each is of."""
        found, elements = self.found, self.found.elements
        count = 0 if self._is_summed else found.sum_count
        words[0, PASS], words[0, WORK] = sum_pass(self._storage).address, count
        sizes = [count * found.row_size]
        if self.own.missed is not None:
            sizes += [self._write_missed(words[1]), 1]
        update = words[len(sizes)]
        update[PASS_TABLE], update[WORK] = found.table_address, elements
        update[SCALARS] = self.own.numbers.address
        return [*sizes, elements, 1]

    def _write_missed(self, words: Array) -> int:
        """Write the call for the steps that rows have missed. Return how many elements it is of."""
        missed = self.own.missed
        assert missed is not None
        elements = 0 if missed.is_idle else self.found.elements
        words[PASS_TABLE], words[SCALARS], words[WORK] = self.found.table_address, missed.address, elements
        return elements

    def catch_up(self, indices: Array | None, now: int | None = None) -> None:
        """Make the steps that these rows have missed (by default, all rows), up to step `now` (by default, the last).

        Raises:
            IndexError: an index is out of range.
        """
        assert self._idle is not None
        rows = np.arange(self._rows) if indices is None else indices
        if not self.found.find(rows, rows, False, self._now if now is None else now):
            outside = rows[(rows < 0) | (rows >= self._rows)][0]
            raise IndexError(f"flush: rows[{self.name!r}]: expected numbers in [0, {self._rows}), got {outside}")
        count = Launch(count_pass.address, self.found.address, 0, 1, 1, 1)
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
