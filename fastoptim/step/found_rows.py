"""The rows that a gradient has: sorted, each once, with a table of segments for the kernels and memory for the sums."""

from collections.abc import Sequence
from math import prod

import numpy as np

from fastoptim.arrays.memory import Array
from fastoptim.kernels.cpu import AHEAD
from fastoptim.kernels.memory import WORD
from fastoptim.kernels.rows import FIELDS, ROW_WORDS, prepare_rows
from fastoptim.kernels.storage import Storage
from fastoptim.kernels.table import PARAM, SCALAR_ROW
from fastoptim.step.tables import StepTable

FEWEST = 64  # rows that there is memory for from the start


class FoundRows:
    """The rows of the last gradient of one parameter. Its memory grows, and is used again.

    Args:
        shape: of the parameter.
        storages: of the operands of its segment.
        table: of the segment that has all rows.
        steps: of each row, as `ROW_WORDS` says.
    """

    def __init__(self, shape: tuple[int, ...], storages: Sequence[Storage], table: StepTable, steps: Array) -> None:
        self.row_size, self._computed = prod(shape[1:]), storages[PARAM].computed
        self._itemsizes, self._columns = np.array([x.itemsize for x in storages], np.int64), table.columns
        self._words = words = np.zeros((), ROW_WORDS)
        self.address = int(words.ctypes.data)
        words["rows"], words["row_size"], words["template"] = shape[0], self.row_size, table.cell(0, 0)
        words["operands"], words["columns"] = len(storages), self._columns
        words["itemsizes"], words["steps"], words["now"] = self._itemsizes.ctypes.data, steps.ctypes.data, -1
        self._table = np.empty((0, self._columns), np.int64)
        self._reserve(FEWEST)

    def find(self, indices: Array, values: Array, needs_one: bool, now: int | None) -> bool:
        """Find the rows of a gradient. Return whether all indices are in range.

        Args:
            indices: (k,).
            values: (k, ...).
            needs_one: whether the sums have to lie one behind another, also of rows that occur once.
            now: how many steps are made, where rows catch up.
        """
        self._reserve(len(indices))
        if now is not None:
            self._words["now"] = now
        found: bool = prepare_rows(self.address, id(indices), id(values), needs_one)
        return found

    def _reserve(self, count: int) -> None:
        """Have memory for so many rows."""
        if self._table.shape[0] >= count + AHEAD:
            return
        count += count // 4 + AHEAD
        self._table = np.empty((count, self._columns), np.int64)
        self._room = np.empty((4, count + 1), np.int64)
        self._sums = np.empty((count, self.row_size), self._computed)  # no memory, until it is written
        words = self._words
        words["table"], words["sums"] = self._table.ctypes.data, self._sums.ctypes.data
        words["order"], words["spare"], words["starts"], words["summed"] = (int(x.ctypes.data) for x in self._room)

    @property
    def elements(self) -> int:
        """How many elements the rows have, each row once."""
        return int(self._words["unique"]) * self.row_size

    @property
    def sum_count(self) -> int:
        """How many rows have to be summed."""
        return int(self._words["sum_count"])

    @property
    def table_address(self) -> int:
        """Where the table of segments is."""
        return int(self._words["table"])

    @property
    def scalar_rows(self) -> Array:
        """The rows of the numbers that the segments need, as a part of the table."""
        return self._table[: int(self._words["segments"]), SCALAR_ROW]

    @property
    def gradient_cell(self) -> int:
        """The address of the int64 that has the address of the gradients of all rows, one behind another."""
        return self.address + FIELDS.index("sums") * WORD
