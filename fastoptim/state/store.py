"""All arrays that last: an optimizer's slots, and what is beside them."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fastoptim.arrays.devices import memory_of
from fastoptim.arrays.flat import FlatDict, extended
from fastoptim.arrays.info import TensorInfo, in_c_order
from fastoptim.arrays.layout import Layout, Slice, kind_of, memory_order
from fastoptim.arrays.memory import HOST, Array, Memory, copy_from
from fastoptim.kernels.storage import Storage
from fastoptim.settings.state_format import CODE_LINE, StateFormat
from fastoptim.state.blocks import Block, array_in, new_block
from fastoptim.state.coded import Coded, SlotViews
from fastoptim.state.shaped import ShapedState, Shapes

LINE = 16  # elements of float32 in a cache line: there slots begin, and where a GPU loads vectors


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
    """Zeros at first, one number for each slot and element. Parameters first seen together share blocks.

    A store does not change its names: `including` returns another one that shares its memory.

    Attributes:
        slots: the names of the slots, in the rule's order.
        memory: where the arrays are.
        slices: where each name lies. The axes are those of the parameter from the largest stride to the smallest, so
            that a Fortran-ordered parameter and its state are walked in the same order.
        blocks: the buffers.
        beside: averages and masters.
        format: how the slots lie in memory.
        unplaced: names that were loaded. Their axes take the parameters' order at the next step.
        shaped: the state of other shapes than the parameters'.
    """

    def __init__(
        self,
        slots: tuple[str, ...],
        memory: Memory = HOST,
        slices: Mapping[Any, Slice] | None = None,
        blocks: Sequence[Block] = (),
        beside: Beside = Beside(),  # noqa: B008  # it never changes
        unplaced: Collection[Any] = (),
        shaped: ShapedState | None = None,
        format: StateFormat = StateFormat(),  # noqa: B008  # nor does this
    ) -> None:
        self.format = format
        self.slots, self.memory, self.beside = slots, memory, beside
        self.shaped = shaped or ShapedState({})
        self.slices, self.blocks, self.unplaced = dict(slices or {}), list(blocks), frozenset(unplaced)
        self.arrays: dict[str, dict[Any, Array | Coded]] = {slot: {} for slot in slots}
        for name, own in self.slices.items():
            rows = zip(slots, self.storages(own), self.blocks[own.block].rows, strict=True)
            for slot, storage, row in rows:
                self.arrays[slot][name] = array_in(row, own, storage, memory)

    @property
    def averages(self) -> FlatDict | None:
        """Of the parameters, None where there are none."""
        return self.beside.ema

    @property
    def views(self) -> Mapping[str, Mapping[Any, Array]]:
        """`views["m"]["W1"]`: arrays of the parameters' shapes, to read and to write into."""
        kind: Any = SlotViews if any(block.has_codes for block in self.blocks) else MappingProxyType
        own: dict[str, Mapping[Any, Array]] = {slot: kind(arrays) for slot, arrays in self.arrays.items()}
        return MappingProxyType(own | self.shaped.views)

    def but(self, **changes: Any) -> "StateStore":
        """The same with other attributes."""
        names = "slots", "memory", "slices", "blocks", "beside", "unplaced", "shaped", "format"
        return StateStore(**{name: getattr(self, name) for name in names} | changes)

    def storages(self, own: Slice) -> tuple[Storage, ...]:
        """How a parameter's slots lie in memory."""
        block = self.blocks[own.block]
        return tuple(self.format.storage(slot, block.computed, block.has_codes) for slot in self.slots)

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
        if param.dtype != own.dtype:
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
        store = self.with_slices(params, memory, flat=like is not None)
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
        """A store whose slots have these parameters, too; `flat` says that their state lies without gaps.

        Codes lie in C order, in which their scales are counted.
        """
        has_codes = self.format.has_codes
        params = {k: in_c_order(x.dtype, x.shape) if has_codes(x.dtype, x.size) else x for k, x in params.items()}
        alignment = 1 if flat else memory.alignment
        turned = self.unplaced.intersection(params)  # together, so that nothing is left in their block
        if all(memory_order(params[name]) == self.slices[name].axes for name in turned):
            turned = frozenset()
        slices: dict[Any, Slice] = {}
        sizes: dict[tuple[np.dtype[Any], bool], int] = {}  # of blocks: by dtype, and whether they have codes
        for name, param in params.items():
            if name not in self.slices or name in turned:
                kind = param.dtype, has_codes(param.dtype, param.size)
                offset = self.format.next_offset(sizes.setdefault(kind, 0), *kind, param.size, alignment)
                block = len(self.blocks) + list(sizes).index(kind)
                slices[name] = own = Slice(*kind_of(param), block, offset)
                sizes[kind] = offset + own.size
        if not slices and not self.unplaced and memory is self.memory:
            return self
        new = [
            new_block(self.format, self.slots, size + -size % (CODE_LINE if kind[1] else LINE), *kind, memory)
            for kind, size in sizes.items()
        ]
        every, blocks = {**self.slices, **slices}, [*self.blocks, *new]
        if turned:  # a block that nobody uses any more may be as large as all others
            used = {block: i for i, block in enumerate(sorted({own.block for own in every.values()}))}
            every = {name: own._replace(block=used[own.block]) for name, own in every.items()}
            blocks = [blocks[block] for block in used]
        unplaced = self.unplaced.difference(params)
        larger = self.but(memory=memory, slices=every, blocks=blocks, unplaced=unplaced)
        larger.take(self, turned)
        return larger

    def take(self, other: "StateStore", names: Collection[Any]) -> None:
        """Copy these names' state from another store, of whatever format and memory."""
        for slot, arrays in other.arrays.items():
            for name in names:
                source = arrays[name]
                self.load(slot, name, source.on_host() if isinstance(source, Coded) else other.memory.read(source))

    def load(self, slot: str, name: Any, source: Any) -> None:
        """Copy an array of the host, or of a file, or what is `Coded`, into a slot; rounded, where formats differ."""
        target = self.arrays[slot][name]
        if isinstance(source, Coded):
            if isinstance(target, Coded):  # the very same codes
                target.take(source)
                return
            source = source.read()
        if isinstance(target, Coded):
            target.write(np.asarray(source))
        elif source.dtype == target.dtype:
            copy_from(source, target, self.memory)
        else:
            with np.errstate(over="ignore"):
                copy_from(np.asarray(source).astype(target.dtype), target, self.memory)

    def with_slots(self, slots: tuple[str, ...]) -> "StateStore":
        """The same parameters with other slots: what is new is zero."""
        with self._here:
            blocks = [new_block(self.format, slots, *block[1:], self.memory) for block in self.blocks]
        kept = [(row, self.slots.index(slot)) for row, slot in enumerate(slots) if slot in self.slots]
        for new, block in zip(blocks, self.blocks, strict=True):
            self.memory.copy((new.rows[row], block.rows[old]) for row, old in kept)
        return self.but(slots=slots, blocks=blocks)

    @property
    def _here(self) -> AbstractContextManager[Any]:
        """Within it, new arrays are where the store's are."""
        rows = [row for block in self.blocks for row in block.rows if row.size]
        return self.memory.at(rows[0]) if rows else nullcontext()

    def with_format(self, format: StateFormat) -> "StateStore":
        """The same numbers, rounded to another format of the slots."""
        with self._here:
            return self._copied(self.but(format=format, slices={}, blocks=(), unplaced=()), self.memory, flat=False)

    def _copied(self, empty: "StateStore", memory: Memory, flat: bool) -> "StateStore":
        """The slots' numbers in an empty store. They lie in C order there until the next step says otherwise."""
        like = {name: in_c_order(own.dtype, own.shape) for name, own in self.slices.items()}
        store = empty.with_slices(like, memory, flat)
        store.take(self, self.slices)
        return store.with_everything_unplaced()

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
        beside = Beside(*(None if each is None else each.moved(memory) for each in self.beside))
        shaped = self.shaped.moved(self.memory, memory)
        empty = StateStore(self.slots, memory, beside=beside, shaped=shaped, format=self.format)
        return self._copied(empty, memory, flat)

    def addresses(self, own: Slice) -> tuple[int, ...]:
        """The addresses of a parameter's first number in each slot."""
        rows = self.blocks[own.block].rows
        return tuple(self.memory.address(row) + own.offset * row.dtype.itemsize for row in rows)

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
        """The arrays by slot and name, and what is beside them: the store's own, or copies of those on a GPU.

        Codes are arrays of uint8, whose scales are in "scales".
        """

        def read(views: Mapping[Any, Any] | None) -> dict[Any, Array]:
            return {name: self.memory.read(array) for name, array in (views or {}).items()}

        there = {key: views for key, views in self.beside._asdict().items() if key == "ema" or views is not None}
        slots, scales = dict[str, dict[Any, Array]](), dict[str, dict[Any, Array]]()
        for slot, arrays in self.arrays.items():
            coded = {name: x.on_host() for name, x in arrays.items() if isinstance(x, Coded)}
            plain = read({name: x for name, x in arrays.items() if name not in coded})
            slots[slot] = {name: coded[name].codes if name in coded else plain[name] for name in arrays}
            if coded:
                scales[slot] = {name: own.scales for name, own in coded.items()}
        slots |= {slot: read(views) for slot, views in self.shaped.views.items()}
        return {
            "slots": slots,
            **({"scales": scales} if scales else {}),
            **{key: read(views) for key, views in there.items()},
        }

    def __reduce__(self) -> tuple[Any, ...]:  # for pickle and copy.deepcopy: views would become arrays of their own
        blocks = [x._replace(rows=tuple(np.array(self.memory.read(row)) for row in x.rows)) for x in self.blocks]
        shaped = self.shaped.moved(self.memory, HOST)
        others = self.beside, self.unplaced, shaped, self.format
        return _restored, (self.slots, self.memory.name, self.slices, blocks, *others)


def _restored(
    slots: tuple[str, ...],
    device: str,
    slices: dict[Any, Slice],
    blocks: list[Block],
    beside: Beside,
    unplaced: Collection[Any],
    shaped: ShapedState,
    format: StateFormat,
) -> StateStore:
    memory = memory_of(device)
    own = [new_block(format, slots, *block[1:], memory) for block in blocks]
    for block, before in zip(own, blocks, strict=True):
        for row, numbers in zip(block.rows, before.rows, strict=True):
            memory.write(row, numbers)
    return StateStore(slots, memory, slices, own, beside, unplaced, shaped.moved(HOST, memory), format)
