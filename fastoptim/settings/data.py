"""Settings as plain data, and back."""

from collections.abc import Mapping
from typing import Any

from fastoptim import schedules
from fastoptim.settings.fields import Field
from fastoptim.settings.loss_scale import LossScale


def as_data(value: Any) -> Any:
    """A field's value as what JSON can hold. Of a callable that is not one of our schedules, its name alone."""
    if isinstance(value, LossScale):
        return value.as_data()
    if isinstance(value, Mapping):
        return {name: as_data(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return list(value)
    if callable(value):
        try:
            return schedules.as_data(value)
        except TypeError:  # anybody's function
            return {"callable": getattr(value, "__qualname__", type(value).__qualname__)}
    return value


def values_from_data(saved: Any, present: Mapping[str, Any], fields: Mapping[str, Field]) -> dict[str, Any]:
    """The values of all fields from a state dict, checked. One that is missing is at its default.

    An older version may not have had the field.

    Args:
        saved: what `as_data` made of each value, by name.
        present: the values now.
        fields: what they may be.

    Raises:
        TypeError, ValueError: a value is unknown or wrong.
    """
    if not isinstance(saved, Mapping):
        raise TypeError(f"state dict: hyperparameters: expected a mapping, got {type(saved).__name__}")
    if not saved.keys() <= present.keys():
        unknown = ", ".join(sorted(map(repr, saved.keys() - present.keys())))
        raise ValueError(f"state dict: hyperparameters: unknown: {unknown}; expected some of {', '.join(present)}")
    values = {name: fields[name].default for name in present}
    for name, value in saved.items():
        try:
            values[name] = fields[name].check(from_data(value, present[name], name), fields)
        except ValueError as error:
            raise ValueError(f"state dict: hyperparameters: {error}") from None
    return values


def from_data(data: Any, present: Any, name: str) -> Any:
    """The value that `as_data` made the data of, where `present` is the field's value now.

    Raises:
        TypeError, ValueError: the data are not a value's.
    """
    if name != "groups" or not isinstance(data, Mapping):
        return _value(data, present, name)
    now = present or {}
    groups = {}
    for pattern, values in data.items():
        what = f"groups[{pattern!r}]"
        if not isinstance(values, Mapping):
            raise TypeError(f"{what}: expected a mapping, got {type(values).__name__}")
        own = now.get(pattern, {})
        groups[pattern] = {key: _value(value, own.get(key), f"{what}: {key}") for key, value in values.items()}
    return groups


def _value(data: Any, present: Any, what: str) -> Any:
    if not isinstance(data, Mapping):
        return data
    if data.keys() == {"loss_scale"}:
        return LossScale.from_data(data["loss_scale"])
    if data.keys() == {"callable"}:
        if not callable(present):
            raise ValueError(
                f"{what}: it was the function {data['callable']!r}, which a state dict cannot hold: assign a callable "
                "before loading"
            )
        return present
    return schedules.from_data(data)
