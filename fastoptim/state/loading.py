"""A store from what was saved."""

import itertools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from fastoptim.arrays.flat import extended
from fastoptim.arrays.info import in_c_order
from fastoptim.arrays.layout import kind_of
from fastoptim.arrays.memory import HOST
from fastoptim.state.saved import arrays_in, copy_from, mapping
from fastoptim.state.shaped import ShapedState, Shapes
from fastoptim.state.store import StateStore


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
        saved: with "slots" and "ema".
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
    arrays = {slot: arrays_in(slots[slot], f"slots[{slot!r}]", kinds, steps) for slot in store.slots}
    others = {slot: arrays_in(slots[slot], f"slots[{slot!r}]", {}, steps) for slot in store.shaped.slots}
    of_all = [*arrays.values(), *(others[slot] for slot in store.shaped.numbers)]
    if any(views.keys() != first.keys() for first, views in itertools.pairwise(of_all)):
        raise ValueError("state dict: expected the same names in all slots")
    if shapes is not None:
        _check_shapes(store.shaped, others, kinds, shapes)
    averages = arrays_in(saved["ema"], "ema", kinds, steps)
    first = next(iter(arrays.values()), {})

    def loaded() -> StateStore:
        target = store if _fits(store, first, averages) else _zeros(store, first, averages)
        target = target.with_shaped(others)
        for slot, views in arrays.items():
            for name, array in views.items():
                copy_from(array, target.views[slot][name], target.memory)
        for name, array in averages.items():
            assert target.averages is not None
            copy_from(array, target.averages[name], target.memory)
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


def _fits(store: StateStore, first: Mapping[Any, Any], averages: Mapping[Any, Any]) -> bool:
    """Whether arrays of a file fit into the memory that there is: for a second store there may be no room."""
    if store.memory is not HOST or not all(hasattr(x, "read_into") for x in (*first.values(), *averages.values())):
        return False
    own = {} if store.averages is None else store.averages.layout.kinds
    return _kinds(first) == {name: each[:2] for name, each in store.slices.items()} and _kinds(averages) == {
        name: each[:2] for name, each in own.items()
    }


def _kinds(arrays: Mapping[Any, Any]) -> dict[Any, Any]:
    return {name: (array.dtype, tuple(array.shape)) for name, array in arrays.items()}


def _zeros(store: StateStore, first: Mapping[Any, Any], averages: Mapping[Any, Any]) -> StateStore:
    """A new store for arrays of these dtypes and shapes."""
    infos = {name: in_c_order(array.dtype, tuple(array.shape)) for name, array in first.items()}
    kinds = {name: kind_of(in_c_order(array.dtype, tuple(array.shape))) for name, array in averages.items()}
    flat = extended(None, None, kinds, store.memory) if averages else None
    made = StateStore(store.slots, store.memory, averages=flat, shaped=store.shaped)
    return made.with_slices(infos, store.memory, flat=False).with_everything_unplaced()
