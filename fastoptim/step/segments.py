"""What kernels get: where each operand of a parameter, or of a whole flat buffer, is."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from fastoptim.arrays.info import TensorInfo
from fastoptim.arrays.layout import Slice


class Segment(NamedTuple):
    """One parameter, or one flat buffer of all parameters of a dtype.

    Attributes:
        param, grad: what they are.
        own: where the state lies; the kernels walk all operands in the order of its axes.
        state: the addresses of the first number in each slot, and behind them that of the average, if there is one.
        numbers: the addresses of the state's numbers of the array.
        row: the number of its row of scalars.
        parts: the gradients in it by name: the bytes from its beginning, and the elements.
    """

    param: TensorInfo
    grad: TensorInfo
    own: Slice
    state: tuple[int, ...]
    numbers: tuple[int, ...]
    row: int
    parts: dict[Any, tuple[int, int]]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the parameter, in which the update is computed."""
        return self.own.dtype


def dtype_groups(segments: Sequence[Segment]) -> Iterator[tuple[np.dtype[Any], list[int]]]:
    """The numbers of the segments of each dtype, float32 first: a kernel call takes one group."""
    order = sorted(range(len(segments)), key=lambda i: segments[i].dtype.itemsize)
    for dtype, members in groupby(order, key=lambda i: segments[i].dtype):
        yield dtype, list(members)


def table_order(segments: Sequence[Segment]) -> list[int]:
    """The numbers of the segments in the order of a table's rows."""
    return [i for _, members in dtype_groups(segments) for i in members]


def norm_order(segments: Sequence[Segment]) -> list[tuple[int, int, int]]:
    """The parts of all segments, each as its segment's number, bytes and elements, in the order of their names.

    The order of the additions in the norm must depend on nothing else, such as the order of a dict.
    """
    parts = [
        (str(name), type(name).__name__, i, *part)
        for i, each in enumerate(segments)
        for name, part in each.parts.items()
    ]
    return [part[2:] for part in sorted(parts)]
