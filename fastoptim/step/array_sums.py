"""Memory for sums over arrays, and for the numbers that are computed of them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastoptim.arrays.memory import HOST, Array, Memory
from fastoptim.kernels.measures import Statistics, statistics_of
from fastoptim.kernels.reduce import BLOCK
from fastoptim.kernels.table import BLOCKS, END, NUMBERS, SUMS, PerArray
from fastoptim.step.segments import Segment, norm_order, table_order

FLOAT64 = np.dtype(np.float64)


class ArraySums:
    """What a step needs beside its table.

    Args:
        table: gets the addresses, and how many blocks there are.
        groups: the arrays of each dtype, one after another in the table.
        per_array: what a step has for each array.
        values: the most sums that a stage makes of an array.
        memory: where they are made.

    Attributes:
        groups: the same, with the number of their blocks.
    """

    def __init__(
        self, table: Array, groups: Sequence[Any], per_array: PerArray, values: int, memory: Memory = HOST
    ) -> None:
        self.groups, self._table, self._memory, first = list[Any](), table, memory, 0
        for group in groups:
            rows = table[first : first + group.arrays]
            rows[:, BLOCKS] = np.cumsum(-(-np.diff(rows[:, END], prepend=0) // BLOCK))
            self.groups.append(group._replace(blocks=int(rows[-1, BLOCKS])))
            first += group.arrays
        self._sums = memory.zeros((sum(group.blocks for group in self.groups), values), FLOAT64)
        self._numbers = memory.zeros((len(table), max(len(per_array.given), 1)), FLOAT64)
        sums_at, numbers_at = memory.address(self._sums), memory.address(self._numbers)
        self._ends: list[int] = []
        first, begin = 0, 0
        for group in self.groups:
            rows = table[first : first + group.arrays]
            before = begin + np.concatenate([[0], rows[:-1, BLOCKS]])
            rows[:, SUMS] = sums_at + before * self._sums.strides[0]
            numbers = np.arange(first, first + group.arrays)
            rows[:, NUMBERS] = numbers_at + numbers * self._numbers.strides[0]
            self._ends += [*(before[1:]), begin + group.blocks]
            first, begin = first + group.arrays, begin + group.blocks

    def order_of(self, segments: Sequence[Segment]) -> int:
        """The address of `order_words`, for a table on the host."""
        self._order = self.order_words(segments, self._table.ctypes.data)
        return int(self._order.ctypes.data)

    def order_words(self, segments: Sequence[Segment], table: int) -> Array:
        """The order in which sums over all arrays are added: how many; address of the row, blocks and elements of each.

        It is that of the names, as in the norm: it must depend on nothing else.

        Args:
            segments: of the step.
            table: the address of the table, where the arrays are.
        """
        rows = {i: row for row, i in enumerate(table_order(segments))}
        words = [len(rows)]
        for i, _, size in norm_order(segments):
            words += [table + rows[i] * self._table.strides[0], -(-size // BLOCK), size]
        return np.array(words, np.int64)

    def totals(self, values: int) -> list[list[float]]:
        """The sums of the last stage over each array, in the order of the table.

        Args:
            values: how many it makes of an array. It writes them one behind the other from the array's first place on,
                also where another stage makes more.
        """
        starts, width, sums = [0, *self._ends[:-1]], self._sums.shape[1], self._memory.read(self._sums).reshape(-1)
        found = []
        for start, end in zip(starts, self._ends, strict=True):
            own = sums[start * width : start * width + (end - start) * values]
            found.append(own.reshape(-1, values).sum(axis=0).tolist())
        return found


class StatisticsOf:
    """Makes statistics of the sums over a step's arrays.

    Args:
        segments: of the step, one for each name.
        names: of the statistics.
    """

    def __init__(self, segments: Sequence[Segment], names: Sequence[str]) -> None:
        self._names = names
        order = table_order(segments)
        self._rows = sorted((i, row, *segments[i].parts, segments[i].own.size) for row, i in enumerate(order))

    def by_name(self, sums: ArraySums) -> dict[Any, Statistics]:
        """The statistics by name, in the order of the parameters."""
        totals = sums.totals(len(self._names))
        return {name: statistics_of(self._names, totals[row], size) for _, row, name, size in self._rows}


def counted(
    names: Any, params: Sequence[Any], grads: Sequence[Any], memory: Memory, asked: Sequence[str]
) -> Callable[[], dict[Any, Statistics]]:
    """How many elements of each gradient are nan or infinite, of a step that is not made: the pass has not run.

    Args:
        names: of the gradients.
        params: what they are for. On the host, a gradient may become infinite in its parameter's dtype.
        grads: on the host, or on a GPU.
        memory: where they are.
        asked: the statistics that were asked for; the others stay None.
    """
    found: dict[Any, Statistics] = {}
    for name, param, grad in zip(names, params, grads, strict=True) if {"nan", "inf"} & set(asked) else ():
        with np.errstate(over="ignore"):
            numbers = np.asarray(memory.read(grad), param.dtype if memory is HOST else None)
        counts = {"nan": int(np.isnan(numbers).sum()), "inf": int(np.isinf(numbers).sum())}
        found[name] = Statistics(**{key: count for key, count in counts.items() if key in asked})
    return lambda: found
