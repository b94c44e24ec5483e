"""An optimizer's state: flat, its own, made when a parameter is first seen."""

import math
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fastoptim.buffers import HOST, Array, Layout, Memory, memory_of, memory_order, view_of

LINE = 16  # elements: slots begin at cache lines, and where a GPU loads vectors


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
        return math.prod(self.shape)


class State:
    """Zeros at first, one number for each slot and element. Parameters first seen together share a block per dtype."""

    def __init__(
        self,
        slots: tuple[str, ...],
        places: Mapping[Any, Place] | None = None,
        blocks: Sequence[Any] = (),
        memory: Memory = HOST,
        unplaced: Collection[Any] = (),
    ) -> None:
        self.slots, self.memory, self._unplaced = slots, memory, frozenset(unplaced)
        self.places = dict(places or {})
        self._blocks = list(blocks)
        self._views: dict[str, dict[Any, Array]] = {slot: {} for slot in slots}
        for name, place in self.places.items():
            for row, slot in enumerate(slots):
                numbers = self._blocks[place.block][row][place.offset : place.offset + place.size]
                self._views[slot][name] = view_of(numbers, place.shape, place.axes)

    @property
    def views(self) -> Mapping[str, Mapping[Any, Array]]:
        """`views["m"]["W1"]`: arrays of the parameters' shapes, to read and to write into."""
        return MappingProxyType({slot: MappingProxyType(views) for slot, views in self._views.items()})

    def check(self, name: Any, param: Any) -> None:
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

    def including(self, names: Sequence[Any], params: Sequence[Any], flat: bool = False) -> "State":
        """This state and zeros for the parameters that are new to it. What was there is shared, not copied.

        `params` may be anything that has their dtypes, shapes and, on the CPU, strides; `flat` says that they lie
        without gaps in a buffer, and that their state has to, too.
        """
        alignment = 1 if flat else self.memory.alignment
        turned = [
            name
            for name, param in zip(names, params, strict=True)
            if name in self._unplaced and memory_order(param) != self.places[name].axes
        ]
        places: dict[Any, Place] = {}
        sizes: dict[np.dtype[Any], int] = {}
        for name, param in zip(names, params, strict=True):
            if name not in self.places or name in turned:
                offset = sizes.setdefault(param.dtype, 0)
                offset += -offset % max(1, alignment // param.dtype.itemsize)
                block = len(self._blocks) + list(sizes).index(param.dtype)
                place = Place(param.dtype, tuple(param.shape), memory_order(param), block, offset)
                places[name], sizes[param.dtype] = place, offset + place.size
        if not places and not self._unplaced:
            return self
        new = [self.memory.zeros((len(self.slots), size + -size % LINE), dtype) for dtype, size in sizes.items()]
        unplaced = self._unplaced.difference(names)
        larger = State(self.slots, {**self.places, **places}, [*self._blocks, *new], self.memory, unplaced)
        for slot, views in self._views.items():
            for name in turned:
                larger._views[slot][name][...] = views[name]
        return larger

    def loose(self) -> "State":
        """The same, whose numbers may be put into another order when the parameters' own is known."""
        return State(self.slots, self.places, self._blocks, self.memory, self.places)

    def moved(self, memory: Memory, flat: bool = False) -> "State":
        """A copy in another memory, `flat` as in `including`."""
        if memory is self.memory:
            return self
        like = [np.broadcast_to(np.zeros((), place.dtype), place.shape) for place in self.places.values()]
        state = State(self.slots, memory=memory).including(list(self.places), like, flat)
        for slot, views in self._views.items():
            for name, view in views.items():
                memory.write(state._views[slot][name], np.ascontiguousarray(self.memory.read(view)))
        return state

    def address(self, place: Place) -> tuple[int, int]:
        """The address of a parameter's first number of state, and the bytes from one slot to the next."""
        block = self._blocks[place.block]
        if not self.slots:
            return 0, 0
        return self.memory.address(block) + place.offset * place.dtype.itemsize, block.strides[0]

    def flat_places(self, layout: Layout) -> list[Place] | None:
        """The places of the layout's whole buffers, if the state of each is one run in the buffer's order."""
        first: dict[np.dtype[Any], Place] = {}
        for name, run in layout.places.items():
            place, size = self.places[name], layout.sizes[run.dtype]
            start = first.setdefault(run.dtype, Place(run.dtype, (size,), (0,), place.block, place.offset))
            if place.axes != run.axes or (place.block, place.offset) != (start.block, start.offset + run.offset):
                return None
        return list(first.values())

    def __reduce__(self) -> tuple[Any, ...]:  # for pickle and copy.deepcopy: views would become arrays of their own
        blocks = [np.array(self.memory.read(block)) for block in self._blocks]
        return _restored, (self.slots, self.places, blocks, self.memory.name)


def _restored(slots: tuple[str, ...], places: dict[Any, Place], blocks: list[Array], device: str) -> State:
    memory = memory_of(device)
    own = [memory.zeros(block.shape, block.dtype) for block in blocks]
    for block, numbers in zip(own, blocks, strict=True):
        memory.write(block, numbers)
    return State(slots, places, own, memory)
