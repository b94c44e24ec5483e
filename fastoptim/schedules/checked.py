"""What the arguments of a schedule may be: looked at when one is made."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Annotated, Any

Schedule = Callable[[int], float]

# What an argument may be, in words for the error, and a test that nan fails.
Rate = Annotated[float, "a finite number >= 0", lambda x: 0 <= x < math.inf]
Positive = Annotated[float, "a finite number > 0", lambda x: 0 < x < math.inf]
Divisor = Annotated[float, "a finite number >= 1", lambda x: 1 <= x < math.inf]
Part = Annotated[float, "a number from 0 to 1", lambda x: 0 <= x <= 1]
Count = Annotated[int, "a positive integer below 2**63", lambda n: 1 <= n < 2**63]
Then = Annotated[Schedule | float, "a schedule or a finite number >= 0", lambda x: 0 <= x < math.inf]


@dataclass(frozen=True)
class Checked:
    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__module__ = __package__  # where users find it, and what pickles say

    def __post_init__(self) -> None:
        for field in fields(self):
            kind: Any = field.type
            value = getattr(self, field.name)
            if kind is Then and callable(value) and not isinstance(value, type):
                continue
            expected, accepts = kind.__metadata__
            number = _plain(value, Integral if kind is Count else Real)
            if not accepts(number):
                raise ValueError(f"{type(self).__name__}.{field.name}: expected {expected}, got {value!r}")
            object.__setattr__(self, field.name, number)

    def __call__(self, t: int) -> float:
        raise NotImplementedError


def _plain(value: Any, kind: Any) -> float:
    """A number of NumPy or anyone as Python's int or float, and nan for what is no number of that kind."""
    if isinstance(value, bool) or not isinstance(value, kind):
        return math.nan
    try:
        return int(value) if kind is Integral else float(value)
    except OverflowError:
        return math.inf
