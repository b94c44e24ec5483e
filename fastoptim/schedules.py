"""Learning rates that change: functions of the step `t`, which is 0 at the first update.

    opt = fastoptim.Adam(lr=schedules.warmup(schedules.cosine(1e-3, steps=10_000), steps=500))

Any callable from a step to a float is a schedule. These check their arguments (ValueError), compute in float64, have a
`repr` and equality, and can be saved as plain data. Past its last step a schedule keeps its last value, unless it says
otherwise.
"""
# ruff: noqa: N801  # they are called like functions

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
class _Checked:
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


def _mix(init: float, end: float, part: float) -> float:
    return init * part + end * (1 - part)  # exactly `init` at 1 and `end` at 0, which end + (init - end) * part is not


def _half_cosine(init: float, end: float, done: float) -> float:
    return _mix(init, end, (1 + math.cos(math.pi * done)) / 2)


def _grown(init: float, rate: float, times: float) -> float:
    try:
        return init * math.pow(rate, times)
    except OverflowError:
        return math.inf if init else 0.0


@dataclass(frozen=True)
class constant(_Checked):
    """`value` at every step. As `optax.constant_schedule`."""

    value: Rate

    def __call__(self, t: int) -> float:
        return self.value


@dataclass(frozen=True)
class linear(_Checked):
    """From `init` to `end` in `steps`, along a straight line. As `optax.linear_schedule`."""

    init: Rate
    end: Rate
    steps: Count

    def __call__(self, t: int) -> float:
        return _mix(self.init, self.end, 1 - min(t, self.steps) / self.steps)


@dataclass(frozen=True)
class exponential(_Checked):
    """`init * rate ** (t / steps)`: times `rate` every `steps`, without an end. As `optax.exponential_decay`.

    PyTorch's `ExponentialLR` with `steps=1`.
    """

    init: Rate
    rate: Positive
    steps: Count = 1

    def __call__(self, t: int) -> float:
        return _grown(self.init, self.rate, t / self.steps)


@dataclass(frozen=True)
class step(_Checked):
    """`init`, multiplied by `gamma` all at once every `steps`, without an end. As PyTorch's `StepLR`."""

    init: Rate
    steps: Count
    gamma: Rate = 0.1

    def __call__(self, t: int) -> float:
        return _grown(self.init, self.gamma, t // self.steps)


@dataclass(frozen=True)
class polynomial(_Checked):
    """From `init` to `end` in `steps`, the distance to `end` shrinking as `(1 - t / steps) ** power`.

    As `optax.polynomial_schedule`; PyTorch's `PolynomialLR` with `end=0`.
    """

    init: Rate
    end: Rate
    steps: Count
    power: Positive = 1.0

    def __call__(self, t: int) -> float:
        return _mix(self.init, self.end, math.pow(1 - min(t, self.steps) / self.steps, self.power))


@dataclass(frozen=True)
class cosine(_Checked):
    """From `init` to `end` in `steps`, along half a cosine.

    As `optax.cosine_decay_schedule`, its alpha being `end / init`; PyTorch's `CosineAnnealingLR` up to `steps`, where
    that one turns back. Loshchilov & Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts",
    https://arxiv.org/abs/1608.03983
    """

    init: Rate
    steps: Count
    end: Rate = 0.0

    def __call__(self, t: int) -> float:
        return _half_cosine(self.init, self.end, min(t, self.steps) / self.steps)


@dataclass(frozen=True)
class warmup(_Checked):
    """Along a straight line from `init` to where `then` begins, in `steps`; after that `then`, from its own step 0.

    `then` is any schedule, or a number for a constant one. As `optax.join_schedules` of a linear schedule and another.
    Goyal et al. 2017, "Accurate, Large Minibatch SGD", https://arxiv.org/abs/1706.02677, section 2.2
    """

    then: Then
    steps: Count
    init: Rate = 0.0

    def __call__(self, t: int) -> float:
        after = max(t - self.steps, 0)
        value = self.then(after) if callable(self.then) else self.then
        return value if t >= self.steps else _mix(self.init, value, 1 - t / self.steps)


@dataclass(frozen=True)
class one_cycle(_Checked):
    """Half a cosine up to `peak` in the part `rise` of the `steps`, and half a cosine down to nearly nothing.

    From `peak / start_factor` to `peak / start_factor / end_factor`, which is also what follows where `rise` is 1. As
    `optax.cosine_onecycle_schedule`; PyTorch's `OneCycleLR` has its peak and its end one step earlier.
    Smith & Topin 2018, "Super-Convergence", https://arxiv.org/abs/1708.07120
    """

    peak: Rate
    steps: Count
    rise: Part = 0.3
    start_factor: Divisor = 25.0
    end_factor: Divisor = 1e4

    def __call__(self, t: int) -> float:
        start, top = self.peak / self.start_factor, int(self.rise * self.steps)
        end = start / self.end_factor
        if t >= self.steps:
            return end
        if t < top:
            return _half_cosine(start, self.peak, t / top)
        return _half_cosine(self.peak, end, (t - top) / (self.steps - top))


@dataclass(frozen=True)
class cosine_restarts(_Checked):
    """Half cosines from `init` to `end` without an end, the first in `steps`, each next one `factor` times as long.

    As PyTorch's `CosineAnnealingWarmRestarts`. Loshchilov & Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm
    Restarts", https://arxiv.org/abs/1608.03983
    """

    init: Rate
    steps: Count
    factor: Count = 1
    end: Rate = 0.0

    def __call__(self, t: int) -> float:
        period = self.steps
        while t >= period and self.factor > 1:
            t, period = t - period, period * self.factor
        return _half_cosine(self.init, self.end, t % period / period)


_KNOWN: dict[str, type[_Checked]] = {
    name: value
    for name, value in list(globals().items())
    if isinstance(value, type) and issubclass(value, _Checked) and value is not _Checked
}


def as_data(schedule: Schedule) -> dict[str, Any]:
    """The name and the fields of a schedule of this module, as a dict that JSON can hold.

    Raises:
        TypeError: it is another callable.
    """
    if not isinstance(schedule, _Checked) or type(schedule) not in _KNOWN.values():  # nor of a class made from ours
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


def _built(data: Any) -> _Checked:
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
