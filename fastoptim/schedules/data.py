"""Schedules as plain data, and back."""

from dataclasses import fields
from typing import Any

from fastoptim.schedules import curves
from fastoptim.schedules.checked import Checked, Schedule, Then

_KNOWN: dict[str, type[Checked]] = {
    name: value
    for name, value in vars(curves).items()
    if isinstance(value, type) and issubclass(value, Checked) and value is not Checked
}


def as_data(schedule: Schedule) -> dict[str, Any]:
    """The name and the fields of a schedule of this module, as a dict that JSON can hold.

    Raises:
        TypeError: it is another callable.
    """
    if not isinstance(schedule, Checked) or type(schedule) not in _KNOWN.values():  # nor of a class made from ours
        raise TypeError(f"expected a schedule of fastoptim.schedules ({', '.join(_KNOWN)}), got {schedule!r}")
    values = {field.name: getattr(schedule, field.name) for field in fields(schedule)}
    return {"schedule": type(schedule).__name__} | {
        name: as_data(value) if callable(value) else value for name, value in values.items()
    }


def from_data(data: Any) -> Schedule:
    """The schedule that `as_data` made the data of. Nothing is called but the classes of this module.

    Raises:
        ValueError: the data are not a schedule's; says what of them, and what was expected.
    """
    try:
        return _built(data)
    except RecursionError:
        raise ValueError("schedule: expected fewer schedules within schedules") from None


def _built(data: Any) -> Checked:
    name = data.get("schedule") if isinstance(data, dict) else None
    if not isinstance(name, str) or name not in _KNOWN:
        raise ValueError(f"schedule: expected a dict whose 'schedule' is one of {', '.join(_KNOWN)}, got {data!r}")
    values = {key: value for key, value in data.items() if key != "schedule"}
    kinds = {field.name: field.type for field in fields(_KNOWN[name])}
    if values.keys() != kinds.keys():
        raise ValueError(f"{name}: expected the fields {list(kinds)}, got {list(values)}")
    for key, value in values.items():
        if kinds[key] is Then and not isinstance(value, int | float):
            values[key] = _built(value)
    return _KNOWN[name](**values)
