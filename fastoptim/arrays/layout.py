"""Where arrays lie in flat buffers."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fastoptim.arrays.info import TensorInfo


class Slice(NamedTuple):
    """An array's elements `offset : offset + size` of a buffer, with its axes in the order `axes`, the slowest first.

    Attributes:
        dtype, shape: the array's.
        axes: for an array that is not C-contiguous, its axes from the largest stride to the smallest.
        block: the number of the buffer.
        offset: elements from the buffer's beginning.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    block: int
    offset: int

    @property
    def size(self) -> int:
        """How many elements there are."""
        return math.prod(self.shape)

    def of(self, buffer: Any) -> Any:
        """The array as a view of its buffer."""
        return view_of(buffer[self.offset : self.offset + self.size], self.shape, self.axes)


Kind = tuple[np.dtype[Any], tuple[int, ...], tuple[int, ...]]  # an array's dtype, shape and order of axes


class Layout:
    """Where each name lies: shared by all `FlatDict`s that one update can take together. One buffer for each dtype.

    Args:
        arrays: dtype, shape and order of axes by name.
        alignment: bytes that each array begins at a multiple of; 1 for no gaps between them.
    """

    def __init__(self, arrays: Mapping[Any, Kind], alignment: int = 1) -> None:
        self.slices: dict[Any, Slice] = {}
        self.sizes: dict[np.dtype[Any], int] = {}
        for name, (dtype, shape, axes) in arrays.items():
            offset = self.sizes.setdefault(dtype, 0)
            offset += -offset % max(1, alignment // dtype.itemsize)
            self.slices[name] = own = Slice(dtype, shape, axes, list(self.sizes).index(dtype), offset)
            self.sizes[dtype] = offset + own.size

    @property
    def kinds(self) -> dict[Any, Kind]:
        """Each name's dtype, shape and order of axes."""
        return {name: own[:3] for name, own in self.slices.items()}

    @property
    def is_in_order(self) -> bool:
        """Whether all arrays lie in C order."""
        return all(own.axes == tuple(range(len(own.shape))) for own in self.slices.values())

    @property
    def in_order(self) -> "Layout":
        """The same with all arrays in C order."""
        return Layout({name: (own.dtype, own.shape, tuple(range(len(own.shape)))) for name, own in self.slices.items()})


def kind_of(info: TensorInfo) -> Kind:
    """An array's dtype, shape and order of axes."""
    return info.dtype, info.shape, memory_order(info)


def view_of(numbers: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    """A contiguous 1-D array as one of a shape, whose axes lie there in the order `axes`, the slowest first."""
    view = numbers.reshape(tuple(shape[axis] for axis in axes))
    return view if axes == tuple(range(len(axes))) else view.transpose(np.argsort(axes))


def memory_order(info: TensorInfo) -> tuple[int, ...]:
    """The axes from the largest stride to the smallest; in order for a C-contiguous array."""
    in_order = tuple(range(len(info.shape)))
    if info.is_dense(in_order) or not any(info.strides):
        return in_order
    return tuple(sorted(in_order, key=lambda axis: -abs(info.strides[axis])))
