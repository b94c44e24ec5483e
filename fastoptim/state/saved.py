"""What was saved, looked at before anything is taken over."""

from collections.abc import Collection, Mapping
from math import prod
from typing import Any

import numpy as np

from fastoptim.arrays.info import check_array
from fastoptim.kernels.codes import BYTES, CODED
from fastoptim.kernels.storage import EXPECTED, F4, computed_in, is_stored
from fastoptim.state.coded import Coded


def mapping(value: Any, what: str) -> dict[Any, Any]:
    """A mapping as a dict.

    Raises:
        TypeError
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"state dict: {what}: expected a mapping, got {type(value).__name__}")
    return dict(value)


def count(value: Any, what: str) -> int:
    """An integer of at least 0.

    Raises:
        TypeError, ValueError
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"state dict: {what}: expected an integer, got {value!r}")
    if value < 0:
        raise ValueError(f"state dict: {what}: expected an integer >= 0, got {value}")
    return int(value)


def counts(value: Any, what: str) -> dict[Any, int]:
    """Integers of at least 0 by name.

    Raises:
        TypeError, ValueError
    """
    return {name: count(each, f"{what}[{name!r}]") for name, each in mapping(value, what).items()}


def arrays_in(
    views: Any,
    what: str,
    kinds: dict[Any, tuple[np.dtype[Any], tuple[int, ...]]],
    names: Collection[Any] | None,
    others: Collection[np.dtype[Any]] = (),
) -> dict[Any, Any]:
    """Arrays by name: of NumPy, or what has their dtype and shape and `read_into(array)`, as the arrays of a file.

    Args:
        views: from name to array.
        what: for errors.
        kinds: dtype and shape by name: wherever a name appears, it has the same ones. What is new is added.
        names: those that there may be, or None for any.
        others: dtypes that there may be beside those of parameters.

    Raises:
        TypeError, ValueError
    """
    arrays = mapping(views, what)
    for name, array in arrays.items():
        where = f"state dict: {what}[{name!r}]"
        is_array = isinstance(array, np.ndarray) or hasattr(array, "read_into")
        if is_array and array.dtype in others:
            pass
        elif not hasattr(array, "read_into"):
            check_array(array, where)
        elif not is_stored(array.dtype):
            raise TypeError(f"{where}: expected dtype {EXPECTED}, got {array.dtype}")
        if names is not None and name not in names:
            raise ValueError(f"{where}: expected a name that steps has, too")
        check_kind(where, array, kinds.setdefault(name, (array.dtype, array.shape)))
    return arrays


def check_kind(where: str, array: Any, expected: tuple[np.dtype[Any], tuple[int, ...]]) -> None:
    """Refuse an array of another dtype or shape.

    Raises:
        ValueError
    """
    if (array.dtype, tuple(array.shape)) != expected:
        raise ValueError(f"{where}: expected {expected[0]} {expected[1]}, got {array.dtype} {tuple(array.shape)}")


def slot_in(
    views: Any, scales: Any, slot: str, is_root: bool, names: Collection[Any],
    kinds: dict[Any, tuple[np.dtype[Any], tuple[int, ...]]],
) -> dict[Any, Any]:  # fmt: skip
    """A slot's arrays by name: each as it is, or `Coded`.

    Args:
        views: from name to array; of uint8, where they are codes.
        scales: of these, by name.
        slot: its name.
        is_root: whether codes are of roots.
        names: those that there may be.
        kinds: dtype of computation and shape by name: they are the same in all slots. What is new is added.

    Raises:
        TypeError, ValueError
    """
    arrays = arrays_in(views, f"slots[{slot!r}]", {}, names, [BYTES])
    coded = {name for name, array in arrays.items() if array.dtype == BYTES}
    factors, found = arrays_in(scales, f"scales[{slot!r}]", {}, names), dict[Any, Any]()
    if coded != factors.keys():
        odd = ", ".join(map(repr, coded ^ factors.keys()))
        raise ValueError(f"state dict: scales[{slot!r}]: expected the names of all arrays of uint8, not in both: {odd}")
    for name, array in arrays.items():
        shape, where = tuple(array.shape), f"state dict: slots[{slot!r}][{name!r}]"
        computed = F4 if name in coded else computed_in(array.dtype)
        if (kind := kinds.setdefault(name, (computed, shape))) != (computed, shape):
            raise ValueError(f"{where}: expected {kind[0]} {kind[1]}, as another slot has, got {array.dtype} {shape}")
        if name in coded:
            blocks = -(-prod(shape) // CODED)
            check_kind(f"state dict: scales[{slot!r}][{name!r}]", factors[name], (F4, (blocks,)))
        found[name] = Coded(array, factors[name], is_root) if name in coded else array
    return found
