"""The rows that a gradient has: sorted, each once, with a table of segments for the kernels and memory for the sums."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from fastoptim.arrays.memory import Array
from fastoptim.kernels.cpu import AHEAD
from fastoptim.kernels.memory import WORD
from fastoptim.kernels.rows import COUNT, ROW_WORDS, SEGMENTS, SUM_COUNT, SUMS, TABLE, UNIQUE, prepare_rows
from fastoptim.kernels.storage import Storage
from fastoptim.kernels.table import PARAM, SCALAR_ROW

FEWEST = 64  # rows that there is memory for from the start


NewSums = Callable[[int, np.dtype[Any]], tuple[Any, int]]
"""From a number of elements and their dtype to memory for them, and its address."""


def sums_on_host(count: int, dtype: np.dtype[Any]) -> tuple[Any, int]:
    """Memory for sums on the host, see `NewSums`."""
    sums = np.empty(count, dtype)  # no memory, until it is written
    return sums, int(sums.ctypes.data)


class FoundRows:
    """The rows of the last gradient of one parameter. Its memory grows, and is used again.

    Args:
        shape: of the parameter.
        storages: of the operands of its segment.
        template: the row of a table for a segment that has all rows. It may change between calls.
        steps: of each row, as `ROW_WORDS` says.
        new_sums: makes memory for the sums, where the kernels can write to it.
    """

    def __init__(
        self, shape: tuple[int, ...], storages: Sequence[Storage], template: Array, steps: Array,
        new_sums: NewSums = sums_on_host,
    ) -> None:  # fmt: skip
        self._rows, self.row_size, self._computed = shape[0], prod(shape[1:]), storages[PARAM].computed
        self._itemsizes, self._columns = np.array([x.itemsize for x in storages], np.int64), len(template)
        self.template, self._new_sums = template, new_sums
        self._words = words = np.zeros((), ROW_WORDS)
        self._found = words.reshape(1).view(np.int64).item  # from the number of a field to what it has, fast
        self.address = int(words.ctypes.data)
        words["rows"], words["row_size"], words["template"] = shape[0], self.row_size, template.ctypes.data
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
        words = self._words
        # This may fail on a GPU. Nothing has changed then.
        sums, address = self._new_sums(min(count, self._rows) * self.row_size, self._computed)
        self._table = np.empty((count, self._columns), np.int64)
        self._room = np.empty((4, count + 1), np.int64)
        self._sums, words["sums"], words["table"] = sums, address, self._table.ctypes.data
        words["order"], words["spare"], words["starts"], words["summed"] = (int(x.ctypes.data) for x in self._room)

    @property
    def elements(self) -> int:
        """How many elements the rows have, each row once."""
        return self._found(UNIQUE) * self.row_size

    @property
    def sum_count(self) -> int:
        """How many rows have to be summed."""
        return self._found(SUM_COUNT)

    @property
    def order(self) -> Array:
        """`(k,)`: the places of the gradients, those of the same row one behind another."""
        order: Array = self._room[0][: self._found(COUNT)]
        return order

    @property
    def starts(self) -> Array:
        """`(rows + 1,)`: where the places of each row begin in `order`, and where those of the last one end."""
        starts: Array = self._room[2][: self._found(UNIQUE) + 1]
        return starts

    @property
    def sums_address(self) -> int:
        """Where the sums are."""
        return self._found(SUMS)

    @property
    def table(self) -> Array:
        """The table of segments, with a row for each run of rows that stand one behind another."""
        return self._table[: self._found(SEGMENTS)]

    @property
    def table_address(self) -> int:
        """Where the table of segments is."""
        return self._found(TABLE)

    @property
    def scalar_rows(self) -> Array:
        """The rows of the numbers that the segments need, as a part of the table."""
        return self.table[:, SCALAR_ROW]

    @property
    def gradient_cell(self) -> int:
        """The address of the int64 that has the address of the gradients of all rows, one behind another."""
        return self.address + SUMS * WORD
