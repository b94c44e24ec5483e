"""A store from what was saved."""

import itertools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from fastoptim.arrays.flat import FlatDict, extended
from fastoptim.arrays.info import in_c_order
from fastoptim.arrays.layout import kind_of
from fastoptim.arrays.memory import HOST
from fastoptim.kernels.storage import computed_in
from fastoptim.state.saved import arrays_in, copy_from, mapping
from fastoptim.state.shaped import ShapedState, Shapes
from fastoptim.state.store import Beside, StateStore


def load_store(
    store: StateStore,
    saved: Mapping[str, Any],
    kinds: dict[Any, tuple[np.dtype[Any], tuple[int, ...]]],
    steps: Collection[Any],
    shapes: Shapes | None,
) -> Callable[[], StateStore]:
    """Check what `StateStore.export` has returned; what this returns makes a store of it, with copies of the arrays.

    Arrays that are still in a file are read straight into `store`, if it has just these; otherwise it is left alone.

    Args:
        store: the present one.
        saved: with "slots", "ema" and perhaps "master".
        kinds: gets dtype and shape of each name.
        steps: the names that there may be.
        shapes: of the state that has other shapes, None where that is not known yet.

    Raises:
        TypeError, ValueError: something is not what it has to be.
    """
    slots = mapping(saved["slots"], "slots")
    every = *store.slots, *store.shaped.slots
    if tuple(slots) != every:
        raise ValueError(f"state dict: expected the slots {every}, got {tuple(slots)}")
    own: dict[Any, tuple[np.dtype[Any], tuple[int, ...]]] = {}
    arrays = {slot: arrays_in(slots[slot], f"slots[{slot!r}]", own, steps) for slot in store.slots}
    for name, (dtype, shape) in own.items():
        if dtype != (expected := store.dtype_of(computed_in(dtype))):
            what = f"state dict: slots: expected {expected} for {name!r}, as state_dtype says, got {dtype}"
            raise ValueError(f"{what}; load the hyperparameters, too, and assign state_dtype then")
        kinds[name] = computed_in(dtype), shape
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
    first = next(iter(arrays.values()), {})

    def loaded() -> StateStore:
        target = store if _fits(store, first, beside) else _zeros(store, first, beside)
        target = target.with_shaped(others)
        for slot, views in arrays.items():
            for name, array in views.items():
                copy_from(array, target.views[slot][name], target.memory)
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


def _fits(store: StateStore, first: Mapping[Any, Any], beside: Mapping[str, Mapping[Any, Any]]) -> bool:
    """Whether arrays of a file fit into the memory that there is: for a second store there may be no room."""
    every = [array for arrays in (first, *beside.values()) for array in arrays.values()]
    if store.memory is not HOST or not all(hasattr(array, "read_into") for array in every):
        return False
    there: list[Mapping[Any, Any]] = [{} if x is None else x.layout.kinds for x in store.beside]
    return all(
        _kinds(arrays) == {name: each[:2] for name, each in kinds.items()}
        for arrays, kinds in zip((first, *beside.values()), (store.slices, *there), strict=True)
    )


def _kinds(arrays: Mapping[Any, Any]) -> dict[Any, Any]:
    return {name: (array.dtype, tuple(array.shape)) for name, array in arrays.items()}


def _zeros(store: StateStore, first: Mapping[Any, Any], beside: Mapping[str, Mapping[Any, Any]]) -> StateStore:
    """A new store for arrays of these dtypes and shapes."""

    def zeros(arrays: Mapping[Any, Any]) -> FlatDict | None:
        kinds = {name: kind_of(in_c_order(array.dtype, tuple(array.shape))) for name, array in arrays.items()}
        return extended(None, None, kinds, store.memory) if arrays else None

    infos = {name: in_c_order(array.dtype, tuple(array.shape)) for name, array in first.items()}
    made = StateStore(
        store.slots, store.memory, beside=Beside(**{key: zeros(arrays) for key, arrays in beside.items()}),
        shaped=store.shaped, state_dtype=store.state_dtype,
    )  # fmt: skip
    return made.with_slices(infos, store.memory, flat=False).with_everything_unplaced()
