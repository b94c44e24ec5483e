"""A parameter with a gradient of some rows, bound to the kernels: its segments are found anew for each call."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from fastoptim.arrays.memory import Array
from fastoptim.arrays.rows import Rows
from fastoptim.kernels.cpu import AHEAD, LINE, SERIAL_LIMIT
from fastoptim.kernels.launch import PASS, PASS_TABLE, SCALARS, WORK, Launch, Launches
from fastoptim.kernels.memory import WORD
from fastoptim.kernels.rows import (
    COLUMNS,
    FIELDS,
    ITEMSIZES,
    NOW,
    OPERANDS,
    ORDER,
    PREPARE,
    ROW_SIZE,
    ROWS,
    SEGMENTS,
    SPARE,
    STARTS,
    STEPS,
    SUM_COUNT,
    SUMMED,
    SUMS,
    TABLE,
    TEMPLATE,
    UNIQUE,
    count_pass,
    prepare_rows,
    sum_pass,
)  # fmt: skip
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
        self._itemsizes, self._columns = np.array([x.itemsize for x in storages], np.int64), table.columns
        self._words = words = np.zeros(len(FIELDS), np.int64)
        self._address = int(words.ctypes.data)
        words[ROWS], words[ROW_SIZE], words[TEMPLATE] = self._rows, self._row_size, table.cell(0, 0)
        words[OPERANDS], words[COLUMNS] = len(storages), self._columns
        words[ITEMSIZES], words[STEPS], words[NOW] = self._itemsizes.ctypes.data, self.own.steps.ctypes.data, -1
        self._table = np.empty((0, self._columns), np.int64)
        self._reserve(FEWEST)
        self._every: Array | None = None
        self._gradient: Rows | None = None
        self._storage, self._is_summed = storage_of(self._computed), False

    def compile(self) -> None:
        """Have what every call needs ready."""
        prepare_rows.compile(PREPARE)
        assert self.new_calls()  # compiles the passes

    def take(self, gradient: Any, params: Sequence[Any]) -> bool:
        """Whether it is a gradient of this parameter, of some rows or of all. If so, its rows are found."""
        own = gradient if type(gradient) is Rows else self._of_all(gradient)
        if own is None or own.values.shape[1:] != self._row_shape:
            return False
        storage = storage_of(own.values.dtype)
        if storage.computed != self._computed:
            with np.errstate(over="ignore"):  # what another dtype cannot hold is inf, as in a kernel
                own = Rows(own.indices, own.values.astype(self._computed))
            storage = storage_of(self._computed)
        if own.values.base is not None and any(np.may_share_memory(own.values, param) for param in params):
            return False
        self._reserve(len(own.indices))
        needs_one = self._in_one or storage.dtype != self._computed
        if not prepare_rows(self._address, id(own.indices), id(own.values), needs_one):
            return False
        self._gradient, self._storage, self._is_summed = own, storage, False
        return True

    def _of_all(self, gradient: Any) -> Rows | None:
        """A gradient of all rows as one of `Rows`; None if it is no array for that."""
        if type(gradient) is not np.ndarray or len(gradient) != self._rows or not is_stored(gradient.dtype):
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
        words[TABLE], words[SUMS] = self._table.ctypes.data, self._sums.ctypes.data
        words[ORDER], words[SPARE], words[STARTS], words[SUMMED] = (int(x.ctypes.data) for x in self._room)

    def set_numbers(
        self, algorithm: Numbers, plan: Plan, kinds: Sequence[Kind], divisor: float, clip_coef: float | None
    ) -> None:
        """Have the numbers that the rows need. For arguments see `BoundStep`.

        Raises:
            ValueError, WrongScalarsError: the numbers are wrong.
        """
        made, numbers = kinds[0][0].count, self.own.numbers
        if len(kinds) > 1:
            made = max(cohort.count for cohort, _ in kinds)
        if not numbers.has_next(algorithm, plan, made, divisor):
            numbers.fill(algorithm, plan, made, divisor, self._scalar_rows)
        if clip_coef is not None:
            numbers.array[self._scalar_rows, -1] = clip_coef

    @property
    def _scalar_rows(self) -> Array:
        """The rows of the numbers that the segments need, as a part of the table."""
        return self._table[: int(self._words[SEGMENTS]), SCALAR_ROW]

    @property
    def elements(self) -> int:
        """How many elements are updated."""
        return int(self._words[UNIQUE]) * self._row_size

    @property
    def gradient_cell(self) -> int:
        """The address of the int64 that has the address of the gradients of all rows, one behind another."""
        return self._address + SUMS * WORD

    def new_calls(self) -> list[Launch]:
        """The calls of a step: sums, the update, the steps of the rows. `write_calls` says what changes."""
        sums, update, count = sum_pass(self._storage).address, self._update.address, count_pass.address
        own = self._address
        return [Launch(sums, own, 0, 0, 1, 0), Launch(update, 0, 0, 0, LINE, 0), Launch(count, own, 0, 1, 1, 1)]

    def write_calls(self, words: Array) -> tuple[int, int, int]:
        """Write what changes from step to step into the words of these calls. Return how many elements each is of."""
        own, elements = self._words, self.elements
        count = 0 if self._is_summed else int(own[SUM_COUNT])
        words[0, PASS], words[0, WORK] = sum_pass(self._storage).address, count
        words[1, PASS_TABLE], words[1, SCALARS], words[1, WORK] = own[TABLE], self.own.numbers.address, elements
        return count * self._row_size, elements, 1

    def sum(self) -> None:
        """Sum the gradients now, as something has to know them before the step."""
        calls = Launches(self.new_calls(), SERIAL_LIMIT)
        elements, *_ = self.write_calls(calls.words)
        calls.run_changed([elements])
        self._is_summed = True

    def finish(self, zero_grads: bool) -> None:
        """Let go of the gradient of a call."""
        if zero_grads and self._gradient is not None:
            self._gradient.values[...] = 0
        self._gradient = None
