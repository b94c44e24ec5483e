"""The tables that a step's kernels get, and their launches on the host."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastoptim.arrays.memory import Array
from fastoptim.kernels.launch import Launch
from fastoptim.kernels.measures import Statistics
from fastoptim.kernels.random import key_of_name
from fastoptim.kernels.reductions import Group
from fastoptim.kernels.stages import Elementwise, Measured
from fastoptim.kernels.storage import Storage
from fastoptim.kernels.table import END, GRAD, PARAM, SCALAR_ROW, columns
from fastoptim.step.array_sums import ArraySums, StatisticsOf
from fastoptim.step.matrix_step import MatrixStep
from fastoptim.step.row_numbers import RowSteps
from fastoptim.step.segments import Segment, storage_groups


class Part(NamedTuple):
    """Segments that are updated in the same way.

    Attributes:
        members: their numbers.
        stages: of a step, with the options.
        matrix: what is between the stages, where it is a matrix that does not follow the rule.
        rows: what its rows have, where it may have a gradient of some of them; then there is one member.
    """

    members: Sequence[int]
    stages: Sequence[Any]
    matrix: MatrixStep | None = None
    rows: RowSteps | None = None


def table_of(
    segments: Sequence[Segment], last: Elementwise | Measured
) -> tuple[Array, list[tuple[tuple[Storage, ...], list[int]]]]:
    """A table with a row for each segment, those of the same storages one after another.

    It lacks the addresses of the arrays that come with each call, and all that has to do with sums.

    Returns:
        the table, and for each group of rows the storages and the numbers of the segments.
    """
    per_array, operands = last.per_array, len(segments[0].storages) if segments else last.kernels.operands
    table = np.zeros((len(segments), columns(operands, per_array)), np.int64)
    groups, first = list(storage_groups(segments)), 0
    for _, members in groups:
        elements = 0
        for row, i in enumerate(members, first):
            segment = segments[i]
            elements += segment.own.size
            addresses = *segment.state, *segment.extra, *(segment.numbers if per_array.is_summed else ())
            table[row, GRAD + 1 : GRAD + 1 + len(addresses)] = addresses
            table[row, PARAM] = segment.master
            if per_array.is_keyed:
                table[row, operands + per_array.key_column] = key_of_name(*segment.parts)
            table[row, SCALAR_ROW], table[row, END] = segment.row, elements
        first += len(members)
    return table, groups


class StepTable:
    """The table of a part, and the launches over it.

    Args:
        segments: all of a step.
        part: those in this table.
        scalars: the address of the rows of scalars of each dtype of computation.

    Attributes:
        rows: from the number of a segment to its row.
    """

    def __init__(self, segments: Sequence[Segment], part: Part, scalars: Mapping[Any, int]) -> None:
        own = [segments[i] for i in part.members]
        last: Elementwise | Measured = part.stages[-1]
        self._table, found = table_of(own, last)
        order = [i for _, members in found for i in members]
        self.rows: dict[int, int] = {part.members[i]: row for row, i in enumerate(order)}
        groups = list[Group]()
        for storages, members in found:
            first = self.rows[part.members[members[0]]]
            elements = int(self._table[first + len(members) - 1, END])
            rows_of_scalars = scalars[storages[PARAM].computed]
            groups.append(Group(storages, self.cell(first, 0), rows_of_scalars, len(members), elements, 0))
        common = 0
        self._statistics = StatisticsOf(own, last.names) if isinstance(last, Measured) else None
        if last.per_array.is_summed:
            self._sums = ArraySums(self._table, groups, last.per_array, max(stage.values for stage in part.stages))
            groups, common = self._sums.groups, self._sums.order_of(own)
        # Those of rows follow from what each call brings.
        stages = part.stages if part.rows is None else ()
        self.launches: list[list[Launch]] = [stage.launches(groups, common) for stage in stages]

    @property
    def template(self) -> Array:
        """The row of the first segment."""
        row: Array = self._table[0]
        return row

    def cell(self, row: int, column: int) -> int:
        """The address of a cell."""
        return int(self._table.ctypes.data + row * self._table.strides[0] + column * self._table.itemsize)

    def statistics(self) -> dict[Any, Statistics]:
        """What was measured in the last run, by name."""
        assert self._statistics is not None
        return self._statistics.by_name(self._sums)
