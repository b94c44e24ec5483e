"""Memory for sums over arrays, and for the numbers that are computed of them."""

from collections.abc import Sequence

import numpy as np

from fastoptim.arrays.memory import Array
from fastoptim.kernels.reduce import BLOCK
from fastoptim.kernels.stages import Group
from fastoptim.kernels.table import BLOCKS, END, NUMBERS, SUMS, PerArray


class ArraySums:
    """What a step needs beside its table.

    Args:
        table: gets the addresses, and how many blocks there are.
        groups: the arrays of each dtype, one after another in the table.
        per_array: what a step has for each array.
        values: the most sums that a stage makes of an array.

    Attributes:
        groups: the same, with the number of their blocks.
    """

    def __init__(self, table: Array, groups: Sequence[Group], per_array: PerArray, values: int) -> None:
        self.groups, first = [], 0
        for group in groups:
            rows = table[first : first + group.arrays]
            rows[:, BLOCKS] = np.cumsum(-(-np.diff(rows[:, END], prepend=0) // BLOCK))
            self.groups.append(group._replace(blocks=int(rows[-1, BLOCKS])))
            first += group.arrays
        self._sums = np.zeros((sum(group.blocks for group in self.groups), values))
        self._numbers = np.zeros((len(table), max(len(per_array.given), 1)))
        first, begin = 0, 0
        for group in self.groups:
            rows = table[first : first + group.arrays]
            before = begin + np.concatenate([[0], rows[:-1, BLOCKS]])
            rows[:, SUMS] = self._sums.ctypes.data + before * self._sums.strides[0]
            numbers = np.arange(first, first + group.arrays)
            rows[:, NUMBERS] = self._numbers.ctypes.data + numbers * self._numbers.strides[0]
            first, begin = first + group.arrays, begin + group.blocks
