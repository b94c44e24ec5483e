"""The interval that parameters are kept in."""

from collections.abc import Mapping, Sequence
from math import inf, nan
from typing import TYPE_CHECKING, Any

import numpy as np

from fastoptim.settings.fields import Field

LARGEST = float(np.finfo(np.float32).max)  # parameters may be float32, and a larger bound would be an infinite one


class Bounds(Field):
    """A pair of the lowest and the highest number, each None where there is no bound; or None."""

    if TYPE_CHECKING:

        def __get__(self, instance: Any, owner: Any = None) -> tuple[float | None, float | None] | None: ...
        def __set__(self, instance: Any, value: Sequence[float | None] | None) -> None: ...

    def check(self, value: Any, fields: Mapping[str, Field]) -> tuple[float | None, float | None] | None:
        if value is None:
            return None
        low, high = value if isinstance(value, list | tuple) and len(value) == 2 else (nan, nan)
        low, high = _number(low, -inf), _number(high, inf)
        if not (low <= high and low <= LARGEST and high >= -LARGEST and all(map(_fits, (low, high)))):
            raise self.refusal(
                "(low, high) with low <= high, each a number that float32 can hold or None; or None", value
            )
        return None if (low, high) == (-inf, inf) else (None if low == -inf else low, None if high == inf else high)


def _number(value: Any, absent: float) -> float:
    """An end of an interval; nan for what is none."""
    if value is None:
        return absent
    try:
        return nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        return nan


def _fits(number: float) -> bool:
    return abs(number) <= LARGEST or abs(number) == inf


def interval(values: Mapping[str, Any]) -> tuple[float, float]:
    """What the options `bounds` and `nonnegative` come to together: both hold. The ends may be infinite.

    Raises:
        ValueError: no number is within both.
    """
    low, high = values["bounds"] or (None, None)
    low, high = -inf if low is None else low, inf if high is None else high
    if values["nonnegative"]:
        if high < 0:
            raise ValueError(f"bounds: expected some numbers >= 0, as nonnegative is True, got {values['bounds']}")
        low = max(low, 0.0)
    return low, high
