"""Arrays by name: a mapping as it is, and a list or tuple with its positions as names."""

from collections.abc import Mapping
from typing import Any

ByName = Mapping[Any, Any] | list[Any] | tuple[Any, ...]


def check_mapping(arrays: Any, what: str) -> None:
    """Refuse what is no mapping.

    Raises:
        TypeError
    """
    if not isinstance(arrays, Mapping):
        expected = "a mapping from name to array, or a list or tuple of arrays"
        hint = f"; for one array, write [{what}]" if hasattr(arrays, "dtype") else ""
        raise TypeError(f"{what}: expected {expected}, got {type(arrays).__name__}{hint}")


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
    check_mapping(arrays, what)
    found: Mapping[Any, Any] = arrays
    return found


def both_by_name(params: Any, grads: Any) -> tuple[Any, Any]:
    """Parameters and gradients with lists and tuples by name, and anything else as it is.

    Raises:
        ValueError: both are lists or tuples, and one is longer.
    """
    lists = isinstance(params, (list, tuple)), isinstance(grads, (list, tuple))
    if all(lists) and len(params) != len(grads):
        raise ValueError(f"grads: expected {len(params)} arrays, as many as params has, got {len(grads)}")
    return dict(enumerate(params)) if lists[0] else params, dict(enumerate(grads)) if lists[1] else grads
