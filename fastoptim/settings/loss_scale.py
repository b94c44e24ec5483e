"""Loss scaling, for gradients of float16: a number that grows until gradients overflow."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from fastoptim.settings.fields import Count, Field, Number

LOWEST, HIGHEST = 1e-30, 1e30  # neither such a number nor its inverse overflows in float32


class LossScale:
    """What a loss is multiplied by, so that its gradients do not vanish in float16.

    Multiply the loss, or the gradient that you begin with, by `scale.value` in each step. The optimizer divides the
    gradients by it. Where they are not finite, `skip_nonfinite`, which has to be on, makes no step, and the value is
    divided by `growth`. After `interval` steps in a row, it is multiplied by it. That is the rule of Micikevicius et
    al. 2018, "Mixed Precision Training", https://arxiv.org/abs/1710.03740, with the numbers of PyTorch's GradScaler.
    The value is in the state dict and in checkpoints. Two optimizers need one each.

    Args:
        initial: the value at first, in [1e-30, 1e30).
        growth: what it is multiplied by, above 1.
        interval: the number of steps in a row after which it grows, at least 1.

    Attributes:
        value: the present one.
        steps: how many steps in a row were made since it last changed.

    Raises:
        ValueError: an argument is out of its interval.

    Examples:
        >>> from fastoptim import Adam, LossScale
        >>> opt = Adam(grad_scale=LossScale(), skip_nonfinite=True)
        >>> opt.grad_scale.value
        65536.0
    """

    value: float

    def __init__(self, initial: float = 2.0**16, growth: float = 2.0, interval: int = 2000) -> None:
        self.value = _checked("initial", Number(1.0, "a number in [1e-30, 1e30)", LOWEST, HIGHEST), initial)
        self.growth = _checked("growth", Number(2.0, "a finite number > 1", 1.0, open_below=True), growth)
        self.interval = _checked("interval", Count(1), interval)
        self.steps = 0

    def follow(self, made: bool) -> None:
        """Take notice of a call that has made a step, or was skipped."""
        self.steps = self.steps + 1 if made else 0
        if not made:
            self.value = max(self.value / self.growth, LOWEST)
        elif self.steps == self.interval:
            self.steps = 0
            larger = self.value * self.growth
            if isfinite(larger) and larger < HIGHEST:
                self.value = larger

    def take(self, other: "LossScale") -> None:
        """Go on with the numbers of another one."""
        vars(self).update(vars(other))

    def as_data(self) -> dict[str, Any]:
        """What JSON can hold."""
        return {"loss_scale": dict(vars(self))}

    @classmethod
    def from_data(cls, data: Any) -> "LossScale":
        """The scale that `as_data` made the data of.

        Raises:
            ValueError: the data are not a scale's.
        """
        expected = {"value", "growth", "interval", "steps"}
        if not isinstance(data, Mapping) or data.keys() != expected:
            raise ValueError(f"grad_scale: expected the numbers {', '.join(sorted(expected))}, got {data!r}")
        scale = cls(data["value"], data["growth"], data["interval"])
        if isinstance(data["steps"], bool) or not isinstance(data["steps"], int) or data["steps"] < 0:
            raise ValueError(f"grad_scale: steps: expected an integer >= 0, got {data['steps']!r}")
        scale.steps = data["steps"]
        return scale

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        return f"LossScale(value={self.value:g}, growth={self.growth:g}, interval={self.interval}, steps={self.steps})"


def _checked(name: str, field: Field, value: Any) -> Any:
    field.name = f"LossScale: {name}"
    return field.check(value, {})


class GradScale(Number):
    """The option `grad_scale`: a number, or a `LossScale`."""

    def __init__(self, default: float) -> None:
        super().__init__(default, "a number in [1e-30, 1e30) or a LossScale", low=LOWEST, high=HIGHEST)

    def check(self, value: Any, fields: Mapping[str, Field]) -> Any:
        return value if isinstance(value, LossScale) else super().check(value, fields)
