"""What an optimizer carries from step to step: a number, or a tuple of numbers."""

from typing import Any

Carry = Any  # a float, a tuple of floats, or None for nothing: a class knows which


def carried(value: Any, like: Carry) -> Carry:
    """A value in the form of another carry: as a float, or as a tuple of as many floats.

    Where `like` is a named tuple, so is what is returned.

    Raises:
        TypeError: the value has another form. The error says which one was expected.
    """
    if not isinstance(like, tuple):
        return _number(value, value, like)
    if not isinstance(value, tuple | list) or len(value) != len(like):
        raise _refusal(value, like)
    numbers = [_number(each, value, like) for each in value]
    return like._make(numbers) if hasattr(like, "_make") else tuple(numbers)


def declared(value: Any, owner: str) -> Carry:
    """What a class has declared to be carried before the first step.

    Raises:
        TypeError: it is neither a number nor a tuple of numbers.
    """
    try:
        if value == ():
            raise TypeError
        return None if value is None else carried(value, value)
    except TypeError:
        raise TypeError(f"{owner}.carry: expected a number or a tuple of numbers, got {value!r}") from None


def _number(value: Any, whole: Any, like: Carry) -> float:
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise _refusal(whole, like) from None


def _refusal(value: Any, like: Carry) -> TypeError:
    expected = "a number"
    if isinstance(like, tuple):
        names = f" ({', '.join(like._fields)})" if hasattr(like, "_fields") else ""
        expected = f"a tuple of {len(like)} number{'s' * (len(like) > 1)}{names}"
    return TypeError(f"expected {expected}, got {value!r}")
