"""A matrix of a step on the host: the pass before its function, the function, and the pass after it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastoptim.arrays.layout import view_of
from fastoptim.kernels.cpu import SERIAL_LIMIT
from fastoptim.kernels.launch import Launches
from fastoptim.kernels.table import GRAD
from fastoptim.step.matrix_step import MatrixStep
from fastoptim.step.segments import Segment
from fastoptim.step.staged import set_cell
from fastoptim.step.tables import StepTable


class BoundMatrix:
    """Updates one matrix.

    Args:
        index: the number of its segment.
        segment: where it is.
        step: calls the function.
        table: of this matrix alone.
        width: how many numbers of a step there are for each kind of name.
    """

    def __init__(self, index: int, segment: Segment, step: MatrixStep, table: StepTable, width: int) -> None:
        self.index, self._segment, self._step, self._table = index, segment, step, table
        self._row = slice(segment.row * width, (segment.row + 1) * width)
        prepare, *rest = table.launches
        self._before = Launches(prepare, SERIAL_LIMIT)
        self._after = Launches([launch for launches in rest for launch in launches], SERIAL_LIMIT)

    def compile(self) -> None:
        """Have everything ready."""
        self._before.compile()
        self._after.compile()

    def run(self, param: Any, numbers: Sequence[float]) -> None:
        """Make the step, with all rows of the step's numbers."""
        own = self._segment.own
        update = np.empty(own.size, self._segment.dtype)  # the state's may be another
        set_cell(self._table.cell(0, GRAD + 1), int(update.ctypes.data))
        self._before.run()
        self._step.run(param, view_of(update, own.shape, own.axes), numbers[self._row])
        self._after.run()
