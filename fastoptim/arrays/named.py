"""Arrays by name: a mapping as it is, and a list or tuple with its positions as names."""

from collections.abc import Mapping
from typing import Any

ByName = Mapping[Any, Any] | list[Any] | tuple[Any, ...]


def by_name(arrays: Any, what: str) -> Mapping[Any, Any]:
    """The arrays by name.

    Args:
        arrays: a mapping from name to array, or a list or tuple of arrays.
        what: what they are, for errors.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(arrays, (list, tuple)):
        return dict(enumerate(arrays))
    if isinstance(arrays, Mapping):
        return arrays
    expected = "a mapping from name to array, or a list or tuple of arrays"
    hint = f"; for one array, write [{what}]" if hasattr(arrays, "dtype") else ""
    raise TypeError(f"{what}: expected {expected}, got {type(arrays).__name__}{hint}")


def both_by_name(params: Any, grads: Any) -> tuple[Mapping[Any, Any], Mapping[Any, Any]]:
    """Parameters and gradients by name.

    Raises:
        TypeError: one of them is no mapping, list or tuple.
        ValueError: both are lists or tuples, and one is longer.
    """
    if isinstance(params, (list, tuple)) and isinstance(grads, (list, tuple)) and len(params) != len(grads):
        raise ValueError(f"grads: expected {len(params)} arrays, as many as params has, got {len(grads)}")
    return by_name(params, "params"), by_name(grads, "grads")
