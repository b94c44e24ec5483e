"""What the steps would have done that rows of a parameter have missed, as they had no gradient then."""

from typing import Any

import numpy as np

from fastoptim.arrays.memory import Array

# Steps that a row may miss before all rows are brought up to date; fewer where each step has another matrix, as all
# products change then.
LONGEST, LONGEST_OF_OTHERS = 4096, 256


class MissedSteps:
    """The products of the matrices of the last steps, for any number of them: see `kernels/idle.py`.

    Attributes:
        size: of a matrix.
        table: for each number of steps, from 0 on: it, and the matrix, row after row; in the dtype of computation.

    Args:
        size: of a matrix.
        dtype: of computation.
    """

    def __init__(self, size: int, dtype: np.dtype[Any]) -> None:
        self.size, self._one, self._dtype = size, np.eye(size), dtype
        self.clear()

    def clear(self) -> None:
        """No row has missed a step any more."""
        self._products = self._one[None]
        self._same: Array | None = None  # the matrix of all steps, if they have one
        self.is_idle = True
        self._write(0)

    def __len__(self) -> int:
        return len(self._products) - 1

    @property
    def is_long(self) -> bool:
        """Whether rows have to be brought up to date."""
        return len(self) >= (LONGEST_OF_OTHERS if self._same is None else LONGEST)

    @property
    def address(self) -> int:
        """Of the table, which moves when it grows."""
        return int(self.table.ctypes.data)

    def add(self, matrix: Array) -> None:
        """Take a step into account that was made now."""
        is_same = len(self) == 0 or (self._same is not None and np.array_equal(self._same, matrix))
        self._same = matrix if is_same else None
        self.is_idle &= np.array_equal(matrix, self._one)
        if is_same:  # so that no product changes, and there is one more
            self._products = np.concatenate([self._products, (matrix @ self._products[-1])[None]])
            self._write(len(self))
        else:
            self._products = np.concatenate([self._one[None], matrix @ self._products])
            self._write(0)

    def _write(self, first: int) -> None:
        """Write the rows of the table from one on."""
        count, size = len(self._products), self._one.size
        if first == 0 or count > len(self.table):
            self.table: Array = np.zeros((2 * count, 1 + size), self._dtype)
            first = 0
        self.table[first:count, 0] = np.arange(first, count)
        with np.errstate(over="ignore", under="ignore"):
            self.table[first:count, 1:] = self._products[first:].reshape(-1, size)
