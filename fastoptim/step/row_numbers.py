"""The numbers of steps that rows make: each row counts its own, so that one call may need those of many steps."""

import struct
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import numpy as np

from fastoptim.arrays.memory import Array
from fastoptim.settings.carry import Carry
from fastoptim.settings.plan import Plan
from fastoptim.settings.rows import Numbers, WrongScalarsError
from fastoptim.state.counts import Cohort
from fastoptim.state.missed import MissedSteps


class RowNumbers:
    """A table with the numbers of step 1, 2, 3, ... of a group's names, each row when it is first needed.

    Attributes:
        array: the table, in the dtype of computation.

    Args:
        group: the number of the group.
        width: how many numbers there are.
        dtype: of computation.
        carry: what is carried before the first step, None for nothing.
    """

    def __init__(self, group: int, width: int, dtype: np.dtype[Any], carry: Carry) -> None:
        self._group, self._first_carry = group, carry
        self.array: Array = np.zeros((64, width), dtype)
        self._pack = struct.Struct(f"={width}{dtype.char}").pack_into
        self._known_for: Any = None  # the values for which rows are known
        self._is_known = np.zeros(64, np.bool_)
        self._carry, self._filled = carry, 0

    @property
    def address(self) -> int:
        """Of the table, which moves when it grows."""
        return int(self.array.ctypes.data)

    def set_one(
        self, numbers: Numbers, plan: Plan, made: int, divisor: float, cohort: Cohort, clip_coef: float | None
    ) -> list[float]:
        """Have the numbers of a step that all rows make together as the first row. For arguments and errors see `fill`.

        Returns:
            the numbers.
        """
        ((_, row, _),) = plan.rows_of(numbers, self._group, made, [cohort.count], divisor, cohort.carry)
        if clip_coef is not None:
            row[-1] = clip_coef
        self._add(0, row)
        return row

    def has_next(self, numbers: Numbers, plan: Plan, made: int, divisor: float) -> bool:
        """Add the numbers of the next step to those of all before, if all that was so far still holds: the usual case.

        For arguments and errors see `fill`.
        """
        if self._filled != made or made == len(self.array) or not plan.is_plain or self._first_carry is not None:
            return False
        if (plan.values_at(numbers, self._group, made), divisor) != self._known_for:
            return False
        self._add(made, plan.row_at(numbers, made + 1))
        self._filled, self._is_known[made] = made + 1, True
        return True

    def fill(self, numbers: Numbers, plan: Plan, made: int, divisor: float, needed: Array) -> None:
        """Have the numbers of these steps, for what the hyperparameters are now.

        Args:
            numbers: what makes them.
            plan: what the options come to.
            made: how many steps the names have made, for schedules.
            divisor: what the gradients are divided by.
            needed: the rows of the table that are needed: steps, counted from 0.

        Raises:
            ValueError: an optimizer carries numbers from step to step, and a schedule changes them.
            WrongScalarsError: `scalars` returns something else than the rule's numbers.
        """
        if self._first_carry is not None and plan.scheduled:
            raise ValueError(
                f"{plan.scheduled[0]}: expected no schedule, as {type(numbers).__name__} carries numbers from step to "
                "step, and rows count their own steps"
            )
        values = plan.values_at(numbers, self._group, made), divisor
        if values != self._known_for:
            self._known_for, self._filled, self._carry = values, 0, self._first_carry
            self._is_known[:] = False
        if not needed.size:
            return
        last = int(needed.max()) + 1
        if last > len(self.array):
            self._grow(last)
        if self._filled + 1 == last or self._first_carry is not None:  # as in most steps: those before are known
            missing: Iterable[int] = range(self._filled, last)
        elif last <= self._filled:
            return
        else:
            missing = np.unique(needed[~self._is_known[needed]]).tolist()
        rows = list(plan.rows_of(numbers, self._group, made, missing, divisor, self._carry))  # all, or an error
        for step, row, carry in rows:
            self._add(step, row)
            self._is_known[step] = True
            if step == self._filled:
                self._filled, self._carry = step + 1, carry

    def _add(self, step: int, row: list[float]) -> None:
        try:
            self._pack(cast(Any, self.array), step * self.array.strides[0], *row)
        except (struct.error, TypeError, OverflowError) as error:
            raise WrongScalarsError(repr(tuple(row)), step + 1, self.array.dtype) from error

    def _grow(self, length: int) -> None:
        """Have room for so many rows, and as many more."""
        before, known = self.array, self._is_known
        self.array = np.zeros((2 * length, before.shape[1]), before.dtype)
        self._is_known = np.zeros(2 * length, np.bool_)
        self.array[: len(before)], self._is_known[: len(known)] = before, known


class RowSteps(NamedTuple):
    """What tells the rows of a parameter apart in a step.

    Attributes:
        steps: how many steps each row has made, int32 `(rows,)`; where rows catch up, the last one that it has made.
        numbers: of these steps.
        cohort: of the name.
        missed: what steps that rows have missed would have done, where they catch up; None where they do not.
    """

    steps: Array
    numbers: RowNumbers
    cohort: Cohort
    missed: MissedSteps | None
