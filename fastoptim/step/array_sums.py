"""Memory for sums over arrays, and for the numbers that are computed of them."""

from collections.abc import Sequence

import numpy as np

from fastoptim.arrays.memory import Array, Memory
from fastoptim.kernels.reduce import BLOCK
from fastoptim.kernels.table import BLOCKS, END, NUMBERS, SUMS, PerArray

FLOAT64 = np.dtype(np.float64)


class ArraySums:
    """What a step needs beside its table.

    Args:
        table: gets the addresses, and how many blocks there are.
        arrays: how many rows of the table each dtype has; they are one after another.
        per_array: what a step has for each array.
        values: the most sums that a stage makes of an array.
        memory: where the arrays are.

    Attributes:
        blocks: how many each dtype has.
    """

    def __init__(self, table: Array, arrays: Sequence[int], per_array: PerArray, values: int, memory: Memory) -> None:
        groups = np.split(table, np.cumsum(arrays))[: len(arrays)]  # views
        for rows in groups:
            rows[:, BLOCKS] = np.cumsum(-(-np.diff(rows[:, END], prepend=0) // BLOCK))
        self.blocks = [int(rows[-1, BLOCKS]) for rows in groups]
        self._sums = memory.zeros((max(sum(self.blocks), 1), values), FLOAT64)
        width = 2 * max(len(per_array.given), 1)  # as numbers of the parameter's dtype, too
        self._numbers = memory.zeros((max(len(table), 1), width), FLOAT64)
        sums, numbers = memory.address(self._sums), memory.address(self._numbers)
        table[:, NUMBERS] = numbers + np.arange(len(table)) * width * FLOAT64.itemsize
        first = 0
        for rows, blocks in zip(groups, self.blocks, strict=True):
            before = first + np.concatenate([[0], rows[:-1, BLOCKS]])
            rows[:, SUMS] = sums + before * values * FLOAT64.itemsize
            first += blocks
