"""What kernels get: where each operand of a parameter, or of a whole flat buffer, is."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from fastoptim.arrays.info import TensorInfo
from fastoptim.arrays.layout import Slice
from fastoptim.kernels.storage import Storage
from fastoptim.kernels.table import PARAM


class Segment(NamedTuple):
    """One parameter, or one flat buffer of all parameters of a dtype.

    Attributes:
        param, grad: what they are.
        master: the address of what is updated in the parameter's place, and rounded to it; 0 where there is none.
        shadow: what else the new parameter is rounded to, if there is such an array.
        own: where the state lies; the kernels walk all operands in the order of its axes.
        storages: how the operands lie in memory: what is updated, the gradient, what `state` has the addresses of, and
            the parameter where there is a master, or the shadow.
        state: the addresses of the first number in each slot, and behind them that of the average, if there is one.
        extra: the address of one more operand, if there is one; 0 where it comes with each call: what is written beside
            the master, or the shadow.
        numbers: the addresses of the state's numbers of the array.
        row: the number of its row of scalars.
        parts: the gradients in it by name: the bytes from its beginning, and the elements.
    """

    param: TensorInfo
    grad: TensorInfo
    master: int
    shadow: TensorInfo | None
    own: Slice
    storages: tuple[Storage, ...]
    state: tuple[int, ...]
    extra: tuple[int, ...]
    numbers: tuple[int, ...]
    row: int
    parts: dict[Any, tuple[int, int]]

    @property
    def param_column(self) -> int:
        """The column of a table that has the address of the parameter."""
        return len(self.storages) - 1 if self.master else PARAM

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype in which the update is computed."""
        return self.storages[PARAM].computed


def storage_groups(segments: Sequence[Segment]) -> Iterator[tuple[tuple[Storage, ...], list[int]]]:
    """The numbers of the segments of the same storages: a kernel call takes one group. Those of float64 are last."""

    def key(i: int) -> tuple[int, list[str]]:
        return segments[i].dtype.itemsize, [storage.name for storage in segments[i].storages]

    for _, members in groupby(sorted(range(len(segments)), key=key), key):
        found = list(members)
        yield segments[found[0]].storages, found


def table_order(segments: Sequence[Segment]) -> list[int]:
    """The numbers of the segments in the order of a table's rows."""
    return [i for _, members in storage_groups(segments) for i in members]


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
