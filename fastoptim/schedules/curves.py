"""The schedules."""
# ruff: noqa: N801  # they are called like functions

import math
from dataclasses import dataclass

from fastoptim.schedules.checked import Checked, Count, Divisor, Part, Positive, Rate, Then


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
class constant(Checked):
    """`value` at every step. As `optax.constant_schedule`."""

    value: Rate

    def __call__(self, t: int) -> float:
        return self.value


@dataclass(frozen=True)
class linear(Checked):
    """From `init` to `end` in `steps`, along a straight line. As `optax.linear_schedule`."""

    init: Rate
    end: Rate
    steps: Count

    def __call__(self, t: int) -> float:
        return _mix(self.init, self.end, 1 - min(t, self.steps) / self.steps)


@dataclass(frozen=True)
class exponential(Checked):
    """`init * rate ** (t / steps)`: times `rate` every `steps`, without an end. As `optax.exponential_decay`.

    PyTorch's `ExponentialLR` with `steps=1`.
    """

    init: Rate
    rate: Positive
    steps: Count = 1

    def __call__(self, t: int) -> float:
        return _grown(self.init, self.rate, t / self.steps)


@dataclass(frozen=True)
class step(Checked):
    """`init`, multiplied by `gamma` all at once every `steps`, without an end. As PyTorch's `StepLR`."""

    init: Rate
    steps: Count
    gamma: Rate = 0.1

    def __call__(self, t: int) -> float:
        return _grown(self.init, self.gamma, t // self.steps)


@dataclass(frozen=True)
class polynomial(Checked):
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
class cosine(Checked):
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
class warmup(Checked):
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
class one_cycle(Checked):
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
class cosine_restarts(Checked):
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
