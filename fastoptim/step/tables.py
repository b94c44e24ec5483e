"""The tables that a step's kernels get on the host, and their launches."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastoptim.kernels.launch import Launch
from fastoptim.kernels.measures import Statistics
from fastoptim.kernels.random import key_of_name
from fastoptim.kernels.reductions import Group
from fastoptim.kernels.stages import Elementwise, Measured
from fastoptim.kernels.table import END, GRAD, PARAM, SCALAR_ROW, columns
from fastoptim.step.array_sums import ArraySums, StatisticsOf
from fastoptim.step.matrix_step import MatrixStep
from fastoptim.step.segments import Segment, storage_groups


class Part(NamedTuple):
    """Segments that are updated in the same way.

    Attributes:
        members: their numbers.
        stages: of a step, with the options.
        matrix: what is between the stages, where it is a matrix that does not follow the rule.
    """

    members: Sequence[int]
    stages: Sequence[Any]
    matrix: MatrixStep | None = None


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
        operands = len(own[0].storages) if own else 2
        self._table = np.zeros((len(own), columns(operands, last.per_array)), np.int64)
        self.rows: dict[int, int] = {}
        groups, order = list[Group](), 0
        for storages, members in storage_groups(own):
            elements, first = 0, len(self.rows)
            for row, i in enumerate(members, first):
                segment = own[i]
                elements += segment.own.size
                addresses = *segment.state, *segment.extra, *(segment.numbers if last.per_array.is_summed else ())
                self._table[row, GRAD + 1 : GRAD + 1 + len(addresses)] = addresses
                self._table[row, PARAM] = segment.master
                if last.per_array.is_keyed:
                    self._table[row, operands + last.per_array.key_column] = key_of_name(*segment.parts)
                self._table[row, SCALAR_ROW], self._table[row, END] = segment.row, elements
                self.rows[part.members[i]] = row
            rows_of_scalars = scalars[own[members[0]].dtype]
            groups.append(Group(storages, self.cell(first, 0), rows_of_scalars, len(members), elements, 0))
        self._statistics = StatisticsOf(own, last.names) if isinstance(last, Measured) else None
        if last.per_array.is_summed:
            self._sums = ArraySums(self._table, groups, last.per_array, max(stage.values for stage in part.stages))
            groups, order = self._sums.groups, self._sums.order_of(own)
        self.launches: list[list[Launch]] = [stage.launches(groups, order) for stage in part.stages]

    def cell(self, row: int, column: int) -> int:
        """The address of a cell."""
        return int(self._table.ctypes.data + row * self._table.strides[0] + column * self._table.itemsize)

    def statistics(self) -> dict[Any, Statistics]:
        """What was measured in the last run, by name."""
        assert self._statistics is not None
        return self._statistics.by_name(self._sums)
