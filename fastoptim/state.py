"""An optimizer's state: flat, its own, made when a parameter is first seen."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fastoptim.buffers import Array, Layout, zeros


class Place(NamedTuple):
    """Where one parameter's state is: `block[:, offset : offset + size]`, with its axes in the order `axes`.

    The axes are those of the parameter from the largest stride to the smallest, so that a Fortran-ordered parameter and
    its state are walked in the same order.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    block: int
    offset: int

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


class State:
    """Zeros at first, one number for each slot and element. Parameters first seen together share a block per dtype."""

    def __init__(
        self, slots: tuple[str, ...], places: Mapping[Any, Place] | None = None, blocks: Sequence[Array] = ()
    ) -> None:
        self.slots = slots
        self.places = dict(places or {})
        self._blocks = list(blocks)
        self._views: dict[str, dict[Any, Array]] = {slot: {} for slot in slots}
        for name, place in self.places.items():
            block = self._blocks[place.block][:, place.offset : place.offset + place.size]
            for slot, numbers in zip(slots, block, strict=True):
                in_memory = numbers.reshape([place.shape[axis] for axis in place.axes])
                self._views[slot][name] = in_memory.transpose(np.argsort(place.axes))

    @property
    def views(self) -> Mapping[str, Mapping[Any, Array]]:
        """`views["m"]["W1"]`: arrays of the parameters' shapes, to read and to write into."""
        return MappingProxyType({slot: MappingProxyType(views) for slot, views in self._views.items()})

    def check(self, name: Any, param: Array) -> None:
        """Refuse a known parameter that has another shape or dtype than it had."""
        place = self.places.get(name)
        if place is None:
            return
        if param.shape != place.shape:
            raise ValueError(
                f"params[{name!r}]: its shape is {param.shape}, but the optimizer's state has {place.shape}"
            )
        if param.dtype != place.dtype:
            raise TypeError(
                f"params[{name!r}]: its dtype is {param.dtype}, but the optimizer's state has {place.dtype}"
            )

    def including(self, names: Sequence[Any], params: Sequence[Array]) -> "State":
        """This state and zeros for the parameters that are new to it. What was there is shared, not copied."""
        places: dict[Any, Place] = {}
        sizes: dict[np.dtype[Any], int] = {}
        for name, param in zip(names, params, strict=True):
            if name not in self.places:
                offset = sizes.setdefault(param.dtype, 0)
                block = len(self._blocks) + list(sizes).index(param.dtype)
                places[name] = Place(param.dtype, param.shape, memory_order(param), block, offset)
                sizes[param.dtype] += param.size
        if not places:
            return self
        new = [zeros((len(self.slots), size), dtype) for dtype, size in sizes.items()]
        return State(self.slots, {**self.places, **places}, [*self._blocks, *new])

    def address(self, place: Place) -> tuple[int, int]:
        """The address of a parameter's first number of state, and the bytes from one slot to the next."""
        block = self._blocks[place.block]
        return block.ctypes.data + place.offset * block.itemsize, block.strides[0]

    def flat_places(self, layout: Layout) -> list[Place] | None:
        """The places of the layout's whole buffers, if the state of each is one run in the buffer's order."""
        first: dict[np.dtype[Any], Place] = {}
        for name, (dtype, shape, offset) in layout.places.items():
            place = self.places[name]
            run = first.setdefault(dtype, Place(dtype, (layout.sizes[dtype],), (0,), place.block, place.offset))
            in_order = place.axes == tuple(range(len(shape)))
            if not in_order or (place.block, place.offset) != (run.block, run.offset + offset):
                return None
        return list(first.values())

    def __reduce__(self) -> tuple[Any, ...]:  # for pickle and copy.deepcopy: views would become arrays of their own
        return State, (self.slots, self.places, [block.copy() for block in self._blocks])


def memory_order(array: Array) -> tuple[int, ...]:
    """The axes from the largest stride to the smallest: C-contiguous arrays have theirs in order."""
    if array.flags.c_contiguous:
        return tuple(range(array.ndim))
    return tuple(sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis])))
