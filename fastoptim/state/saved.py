"""What was saved, looked at before anything is taken over."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from fastoptim.arrays.info import check_array
from fastoptim.arrays.memory import HOST, Memory
from fastoptim.kernels.storage import EXPECTED, is_stored


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
) -> dict[Any, Any]:
    """Arrays by name: of NumPy, or what has their dtype and shape and `read_into(array)`, as the arrays of a file.

    Args:
        views: from name to array.
        what: for errors.
        kinds: dtype and shape by name: wherever a name appears, it has the same ones. What is new is added.
        names: those that there may be, or None for any.

    Raises:
        TypeError, ValueError
    """
    arrays = mapping(views, what)
    for name, array in arrays.items():
        where = f"state dict: {what}[{name!r}]"
        if not hasattr(array, "read_into"):
            check_array(array, where)
        elif not is_stored(array.dtype):
            raise TypeError(f"{where}: expected dtype {EXPECTED}, got {array.dtype}")
        if names is not None and name not in names:
            raise ValueError(f"{where}: expected a name that steps has, too")
        expected = kinds.setdefault(name, (array.dtype, array.shape))
        if (array.dtype, array.shape) != expected:
            raise ValueError(f"{where}: expected {expected[0]} {expected[1]}, got {array.dtype} {array.shape}")
    return arrays


def copy_from(source: Any, target: Any, memory: Memory) -> None:
    """Copy an array, or one that is still in a file, into one that is in a memory."""
    if not hasattr(source, "read_into"):
        memory.write(target, np.ascontiguousarray(source) if memory is not HOST else source)
    elif memory is HOST:
        source.read_into(target)
    else:
        memory.write(target, np.ascontiguousarray(source))
