"""All arrays that last: an optimizer's slots, and what is beside them."""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fastoptim.arrays.devices import memory_of
from fastoptim.arrays.flat import FlatDict, extended
from fastoptim.arrays.info import TensorInfo, in_c_order
from fastoptim.arrays.layout import Layout, Slice, kind_of, memory_order
from fastoptim.arrays.memory import HOST, Array, Memory
from fastoptim.kernels.storage import F4, computed_in
from fastoptim.state.shaped import ShapedState, Shapes

LINE = 16  # elements: slots begin at cache lines, and where a GPU loads vectors


class Beside(NamedTuple):
    """What lasts beside the rule's state: arrays that are as long as their parameters, None where there are none.

    Attributes:
        ema: averages of the parameters.
        master: the parameters in the dtype of computation, where they themselves have less bits.
        compensation: what parameters have lost by being rounded, in their dtypes.
    """

    ema: FlatDict | None = None
    master: FlatDict | None = None
    compensation: FlatDict | None = None

    def is_same(self, other: "Beside") -> bool:
        """Whether the arrays of both are the very same."""
        return self is other or all(own is theirs for own, theirs in zip(self, other, strict=True))


class Grown(NamedTuple):
    """A store that has all names of a step.

    Attributes:
        store: it shares the memory of the one before.
        fresh: what has to begin as the parameters: names, and arrays of `beside`.
    """

    store: "StateStore"
    fresh: list[tuple[Any, Array]]


class StateStore:
    """Zeros at first, one number for each slot and element. Parameters first seen together share a block per dtype.

    A store does not change its names: `including` returns another one that shares its memory.

    Attributes:
        slots: the names of the slots, in the rule's order.
        memory: where the arrays are.
        slices: where each name lies. The axes are those of the parameter from the largest stride to the smallest, so
            that a Fortran-ordered parameter and its state are walked in the same order.
        blocks: the buffers, each `(slots, elements)`.
        beside: averages and masters.
        state_dtype: of the slots of parameters that are updated in float32; None for float32.
        unplaced: names that were loaded. Their axes take the parameters' order at the next step.
        shaped: the state of other shapes than the parameters'.
    """

    def __init__(
        self,
        slots: tuple[str, ...],
        memory: Memory = HOST,
        slices: Mapping[Any, Slice] | None = None,
        blocks: Sequence[Any] = (),
        beside: Beside = Beside(),  # noqa: B008  # it never changes
        unplaced: Collection[Any] = (),
        shaped: ShapedState | None = None,
        state_dtype: np.dtype[Any] | None = None,
    ) -> None:
        self.state_dtype = state_dtype
        self.slots, self.memory, self.beside = slots, memory, beside
        self.shaped = shaped or ShapedState({})
        self.slices, self.blocks, self.unplaced = dict(slices or {}), list(blocks), frozenset(unplaced)
        self._views: dict[str, dict[Any, Array]] = {
            slot: {name: own.of(self.blocks[own.block][row]) for name, own in self.slices.items()}
            for row, slot in enumerate(slots)
        }

    @property
    def averages(self) -> FlatDict | None:
        """Of the parameters, None where there are none."""
        return self.beside.ema

    @property
    def views(self) -> Mapping[str, Mapping[Any, Array]]:
        """`views["m"]["W1"]`: arrays of the parameters' shapes, to read and to write into."""
        own = {slot: MappingProxyType(views) for slot, views in self._views.items()}
        return MappingProxyType(own | self.shaped.views)

    def but(self, **changes: Any) -> "StateStore":
        """The same with other attributes."""
        names = "slots", "memory", "slices", "blocks", "beside", "unplaced", "shaped", "state_dtype"
        return StateStore(**{name: getattr(self, name) for name in names} | changes)

    def dtype_of(self, computed: np.dtype[Any]) -> np.dtype[Any]:
        """The dtype of the slots of parameters that are updated in a dtype."""
        return self.state_dtype if self.state_dtype is not None and computed == F4 else computed

    def check(self, name: Any, param: TensorInfo, shapes: Shapes) -> None:
        """Refuse a known parameter that has another shape than it had, or is updated in another dtype.

        Raises:
            TypeError, ValueError
        """
        self.shaped.check(name, param, shapes)
        own = self.slices.get(name)
        if own is None:
            return
        if param.shape != own.shape:
            raise ValueError(f"params[{name!r}]: its shape is {param.shape}, but the optimizer's state has {own.shape}")
        if self.dtype_of(param.dtype) != own.dtype:
            raise TypeError(f"params[{name!r}]: its dtype is {param.dtype}, but the optimizer's state has {own.dtype}")

    def including(
        self,
        params: Mapping[Any, TensorInfo],
        memory: Memory,
        shapes: Shapes,
        like: Layout | None = None,
        beside: Mapping[str, Mapping[Any, np.dtype[Any]]] | None = None,
        in_order: bool = False,
    ) -> Grown:
        """A store that has these parameters, too. What was there is shared, not copied.

        Args:
            params: what the parameters are, by name, in the dtype in which they are updated.
            memory: where they are.
            shapes: of the state that has other shapes.
            like: their layout, if they are flat: then their state lies without gaps, too.
            beside: which of them have arrays of `Beside`, by its names, and the dtypes of these.
            in_order: whether the state lies in C order, whatever order the parameters have.

        Raises:
            ValueError: the store has numbers in another memory.
        """
        if self.slices and memory is not self.memory:
            here, there = self.memory.name, memory.name
            raise ValueError(
                f"the arrays are on {there!r}, but the optimizer's state is on {here!r}: opt.to({there!r})"
            )
        if in_order:
            params = {name: in_c_order(info.dtype, info.shape) for name, info in params.items()}
        state = {name: info.of_dtype(self.dtype_of(info.dtype)) for name, info in params.items()}
        store = self.with_slices(state, memory, flat=like is not None)
        shaped = self.shaped.including(params, memory, shapes)
        if shaped is not self.shaped:
            store = store.but(shaped=shaped)
        fresh: list[tuple[Any, Array]] = []
        for key, dtypes in (beside or {}).items():
            before = getattr(self.beside, key)
            axes = {name: store.slices[name].axes for name in dtypes}  # they lie as the state does
            kinds = {name: (dtype, params[name].shape, axes[name]) for name, dtype in dtypes.items()}
            flat = extended(before, like, kinds, memory)
            if flat is not before:
                store = store.but(beside=store.beside._replace(**{key: flat}))
            if key != "compensation":
                fresh += [(name, flat[name]) for name in dtypes if before is None or name not in before]
        return Grown(store, fresh)

    def with_slices(self, params: Mapping[Any, TensorInfo], memory: Memory, flat: bool) -> "StateStore":
        """A store whose slots have these parameters, too; `flat` says that their state lies without gaps."""
        alignment = 1 if flat else memory.alignment
        turned = self.unplaced.intersection(params)  # together, so that nothing is left in their block
        if all(memory_order(params[name]) == self.slices[name].axes for name in turned):
            turned = frozenset()
        slices: dict[Any, Slice] = {}
        sizes: dict[np.dtype[Any], int] = {}
        for name, param in params.items():
            if name not in self.slices or name in turned:
                offset = sizes.setdefault(param.dtype, 0)
                offset += -offset % max(1, alignment // param.dtype.itemsize)
                block = len(self.blocks) + list(sizes).index(param.dtype)
                slices[name] = own = Slice(*kind_of(param), block, offset)
                sizes[param.dtype] = offset + own.size
        if not slices and not self.unplaced and memory is self.memory:
            return self
        new = [memory.zeros((len(self.slots), size + -size % LINE), dtype) for dtype, size in sizes.items()]
        every, blocks = {**self.slices, **slices}, [*self.blocks, *new]
        if turned:  # a block that nobody uses any more may be as large as all others
            used = {block: i for i, block in enumerate(sorted({own.block for own in every.values()}))}
            every = {name: own._replace(block=used[own.block]) for name, own in every.items()}
            blocks = [blocks[block] for block in used]
        unplaced = self.unplaced.difference(params)
        larger = self.but(memory=memory, slices=every, blocks=blocks, unplaced=unplaced)
        for slot, views in self._views.items():
            for name in turned:
                larger.views[slot][name][...] = views[name]
        return larger

    def with_slots(self, slots: tuple[str, ...]) -> "StateStore":
        """The same parameters with other slots: what is new is zero."""
        blocks = [self.memory.zeros((len(slots), block.shape[1]), block.dtype) for block in self.blocks]
        kept = [(row, self.slots.index(slot)) for row, slot in enumerate(slots) if slot in self.slots]
        for new, block in zip(blocks, self.blocks, strict=True):
            self.memory.copy((new[row], block[old]) for row, old in kept)
        return self.but(slots=slots, blocks=blocks)

    def with_state_dtype(self, dtype: np.dtype[Any] | None) -> "StateStore":
        """The same numbers, rounded to another dtype of the slots."""
        other = self.but(state_dtype=dtype)
        dtypes = [other.dtype_of(computed_in(block.dtype)) for block in self.blocks]
        other.slices = {name: own._replace(dtype=dtypes[own.block]) for name, own in self.slices.items()}
        blocks = [self.memory.zeros(block.shape, own) for block, own in zip(self.blocks, dtypes, strict=True)]
        with np.errstate(over="ignore"):
            for block, before in zip(blocks, self.blocks, strict=True):
                self.memory.write(block, self.memory.read(before).astype(block.dtype))
        return other.but(blocks=blocks)

    def with_everything_unplaced(self) -> "StateStore":
        """The same, whose axes take the parameters' order at the next step."""
        return self.but(unplaced=frozenset(self.slices))

    def with_shaped(self, arrays: Mapping[str, Mapping[Any, Any]]) -> "StateStore":
        """The same with copies of these arrays as the state of other shapes."""
        return self.but(shaped=self.shaped.holding(arrays, self.memory))

    def without(self, name: str) -> "StateStore":
        """The same without one of `Beside`."""
        return self.but(beside=self.beside._replace(**{name: None}))

    def moved(self, memory: Memory, flat: bool = False) -> "StateStore":
        """A copy in another memory; `flat` says that the parameters lie there without gaps."""
        if memory is self.memory:
            return self
        like = {name: in_c_order(own.dtype, own.shape) for name, own in self.slices.items()}
        beside = Beside(*(None if each is None else each.moved(memory) for each in self.beside))
        shaped = self.shaped.moved(self.memory, memory)
        empty = StateStore(self.slots, memory, beside=beside, shaped=shaped, state_dtype=self.state_dtype)
        store = empty.with_slices(like, memory, flat)
        for slot, views in self._views.items():
            for name, view in views.items():
                memory.write(store.views[slot][name], np.ascontiguousarray(self.memory.read(view)))
        return store

    def addresses(self, own: Slice) -> tuple[int, ...]:
        """The addresses of a parameter's first number in each slot."""
        block = self.blocks[own.block] if self.slots else None
        if block is None:
            return ()
        start = self.memory.address(block) + own.offset * own.dtype.itemsize
        return tuple(start + row * block.strides[0] for row in range(len(self.slots)))

    def shaped_addresses(self, name: Any, slots: Sequence[str]) -> tuple[int, ...]:
        """The addresses of a parameter's state in slots of other shapes, 0 where there is none."""
        return self.shaped.addresses(name, slots, self.memory)

    def flat_slices(self, layout: Layout) -> list[Slice] | None:
        """The slices of a layout's whole buffers, if the state of each lies in one run in the buffer's order."""
        first: dict[np.dtype[Any], Slice] = {}
        for name, run in layout.slices.items():
            own, size = self.slices[name], layout.sizes[run.dtype]
            start = first.setdefault(run.dtype, Slice(own.dtype, (size,), (0,), own.block, own.offset))
            if own.axes != run.axes or (own.block, own.offset) != (start.block, start.offset + run.offset):
                return None
        return list(first.values())

    def export(self) -> dict[str, Any]:
        """The arrays by slot and name, and what is beside them: the store's own, or copies of those on a GPU."""

        def read(views: Mapping[Any, Any] | None) -> dict[Any, Array]:
            return {name: self.memory.read(view) for name, view in (views or {}).items()}

        there = {key: views for key, views in self.beside._asdict().items() if key == "ema" or views is not None}
        beside = {key: read(views) for key, views in there.items()}
        return {"slots": {slot: read(views) for slot, views in self.views.items()}, **beside}

    def __reduce__(self) -> tuple[Any, ...]:  # for pickle and copy.deepcopy: views would become arrays of their own
        blocks = [np.array(self.memory.read(block)) for block in self.blocks]
        shaped = self.shaped.moved(self.memory, HOST)
        others = self.beside, self.unplaced, shaped, self.state_dtype
        return _restored, (self.slots, self.memory.name, self.slices, blocks, *others)


def _restored(
    slots: tuple[str, ...],
    device: str,
    slices: dict[Any, Slice],
    blocks: list[Array],
    beside: Beside,
    unplaced: Collection[Any],
    shaped: ShapedState,
    state_dtype: np.dtype[Any] | None,
) -> StateStore:
    memory = memory_of(device)
    own = [memory.zeros(block.shape, block.dtype) for block in blocks]
    for block, numbers in zip(own, blocks, strict=True):
        memory.write(block, numbers)
    return StateStore(slots, memory, slices, own, beside, unplaced, shaped.moved(HOST, memory), state_dtype)
