"""A store from what was saved."""

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from math import prod
from typing import Any

import numpy as np

from fastoptim.arrays.flat import FlatDict, extended
from fastoptim.arrays.info import in_c_order
from fastoptim.arrays.layout import kind_of
from fastoptim.arrays.memory import HOST, copy_from
from fastoptim.kernels.storage import computed_in
from fastoptim.state.coded import Coded
from fastoptim.state.saved import arrays_in, mapping, slot_in
from fastoptim.state.shaped import ShapedState, Shapes
from fastoptim.state.store import Beside, StateStore


def load_store(
    store: StateStore,
    saved: Mapping[str, Any],
    kinds: dict[Any, tuple[np.dtype[Any], tuple[int, ...]]],
    steps: Collection[Any],
    shapes: Shapes | None,
    convert: bool,
) -> Callable[[], StateStore]:
    """Check what `StateStore.export` has returned; what this returns makes a store of it, with copies of the arrays.

    Arrays that are still in a file are read straight into `store`, if it has just these; otherwise it is left alone.

    Args:
        store: the present one.
        saved: with "slots", "ema" and perhaps "scales", "master" and "compensation".
        kinds: gets dtype and shape of each name.
        steps: the names that there may be.
        shapes: of the state that has other shapes, None where that is not known yet.
        convert: whether slots of another format are rounded to the store's, or refused.

    Raises:
        TypeError, ValueError: something is not what it has to be.
    """
    slots, scales = mapping(saved["slots"], "slots"), mapping(saved.get("scales", {}), "scales")
    every = *store.slots, *store.shaped.slots
    if tuple(slots) != every:
        raise ValueError(f"state dict: expected the slots {every}, got {tuple(slots)}")
    if odd := scales.keys() - set(store.slots):
        raise ValueError(f"state dict: scales: expected names of slots, got {', '.join(sorted(map(repr, odd)))}")
    roots = store.format.nonnegative
    arrays = {
        slot: slot_in(slots[slot], scales.get(slot, {}), slot, slot in roots, steps, kinds) for slot in store.slots
    }
    if not convert:
        _check_format(store, arrays, kinds)
    others = {slot: arrays_in(slots[slot], f"slots[{slot!r}]", {}, steps) for slot in store.shaped.slots}
    of_all = [*arrays.values(), *(others[slot] for slot in store.shaped.numbers)]
    if any(views.keys() != first.keys() for first, views in itertools.pairwise(of_all)):
        raise ValueError("state dict: expected the same names in all slots")
    if shapes is not None:
        _check_shapes(store.shaped, others, kinds, shapes)
    beside = {key: arrays_in(saved.get(key, {}), key, kinds, steps) for key in ("ema", "master")}
    beside["compensation"] = arrays_in(saved.get("compensation", {}), "compensation", {}, steps)
    for name, array in beside["compensation"].items():
        shape = tuple(array.shape)
        if shape != kinds.setdefault(name, (computed_in(array.dtype), shape))[1]:
            raise ValueError(f"state dict: compensation[{name!r}]: expected {kinds[name][1]}, got {shape}")

    def loaded() -> StateStore:
        target = store if _fits(store, arrays, beside) else _zeros(store, arrays, kinds, beside)
        target = target.with_shaped(others)
        for slot, views in arrays.items():
            for name, array in views.items():
                target.load(slot, name, array)
        for key, own in beside.items():
            for name, array in own.items():
                copy_from(array, getattr(target.beside, key)[name], target.memory)
        return target

    return loaded


def _check_shapes(
    shaped: ShapedState,
    others: Mapping[str, Mapping[Any, Any]],
    kinds: Mapping[Any, tuple[np.dtype[Any], tuple[int, ...]]],
    shapes: Shapes,
) -> None:
    """Refuse state of other shapes that is not what the shapes of the parameters ask for.

    Raises:
        ValueError
    """
    for slot, arrays in others.items():
        found = {name: (shapes(slot, name, shape), dtype) for name, (dtype, shape) in kinds.items()}
        expected = {
            name: (shaped.dtype_of(slot, shape, dtype), shape)
            for name, (shape, dtype) in found.items()
            if shape is not None
        }
        if kinds and arrays.keys() != expected.keys():
            raise ValueError(f"state dict: slots[{slot!r}]: expected the names {[*expected]}, got {[*arrays]}")
        for name, (dtype, shape) in expected.items():
            array = arrays[name]
            if (array.dtype, tuple(array.shape)) != (dtype, shape):
                where = f"state dict: slots[{slot!r}][{name!r}]"
                raise ValueError(f"{where}: expected {dtype} {shape}, got {array.dtype} {tuple(array.shape)}")


def _check_format(
    store: StateStore,
    arrays: Mapping[str, Mapping[Any, Any]],
    kinds: Mapping[Any, tuple[np.dtype[Any], tuple[int, ...]]],
) -> None:
    """Refuse slots that do not lie in memory as the store's do.

    Raises:
        ValueError
    """
    for slot, name, array in _every(arrays):
        computed, shape = kinds[name]
        expected = store.format.storage(slot, computed, store.format.has_codes(computed, prod(shape))).dtype
        if array.dtype != expected:
            where = f"state dict: slots[{slot!r}][{name!r}]"
            how = "convert=True beside hyperparameters=False rounds it"
            raise ValueError(f"{where}: expected {expected}, as state_dtype says, got {array.dtype}; {how}")


def _every(arrays: Mapping[str, Mapping[Any, Any]]) -> Iterator[tuple[str, Any, Any]]:
    for slot, own in arrays.items():
        for name, array in own.items():
            yield slot, name, array


def _fits(store: StateStore, arrays: Mapping[str, Mapping[Any, Any]], beside: Mapping[str, Mapping[Any, Any]]) -> bool:
    """Whether arrays of a file fit into the memory that there is: for a second store there may be no room."""
    every = [x.codes if isinstance(x, Coded) else x for own in (arrays, beside) for _, _, x in _every(own)]
    if store.memory is not HOST or not all(hasattr(array, "read_into") for array in every):
        return False
    there = {key: {} if own is None else own.layout.kinds for key, own in store.beside._asdict().items()}
    own: dict[str, dict[Any, Any]] = {slot: _kinds(views) for slot, views in store.arrays.items()}
    own |= {key: {name: kind[:2] for name, kind in kinds.items()} for key, kinds in there.items()}
    return own == {key: _kinds(views) for key, views in {**arrays, **beside}.items()}


def _kinds(arrays: Mapping[Any, Any]) -> dict[Any, Any]:
    return {name: (array.dtype, tuple(array.shape)) for name, array in arrays.items()}


def _zeros(
    store: StateStore,
    arrays: Mapping[str, Mapping[Any, Any]],
    kinds: Mapping[Any, tuple[np.dtype[Any], tuple[int, ...]]],
    beside: Mapping[str, Mapping[Any, Any]],
) -> StateStore:
    """A new store for state of these names, and for what is beside it."""

    def zeros(arrays: Mapping[Any, Any]) -> FlatDict | None:
        kinds = {name: kind_of(in_c_order(array.dtype, tuple(array.shape))) for name, array in arrays.items()}
        return extended(None, None, kinds, store.memory) if arrays else None

    infos = {name: in_c_order(*kinds[name]) for name in next(iter(arrays.values()), {})}
    made = StateStore(
        store.slots, store.memory, beside=Beside(**{key: zeros(arrays) for key, arrays in beside.items()}),
        shaped=store.shaped, format=store.format,
    )  # fmt: skip
    return made.with_slices(infos, store.memory, flat=False).with_everything_unplaced()
