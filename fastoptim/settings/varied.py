"""What differs from group to group: values of fields, and the numbers of the options."""

from collections.abc import Callable, Mapping
from math import inf
from typing import Any

from fastoptim.kernels.fuse import Fused
from fastoptim.kernels.random import pieces_of_step
from fastoptim.settings.bounds import interval
from fastoptim.settings.fields import Field, Number


class Varied:
    """The values and options of one group, or of the names in none.

    Args:
        values: all fields.
        own: those that have a value of their own here.
        linked: from names of fields to others whose values they have here.
        fields: what they may be.
        off: options that are off for this optimizer.
        fused: the options that the pass includes.

    Raises:
        ValueError: the options cannot go together.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        own: Mapping[str, Any],
        linked: Mapping[str, str],
        fields: Mapping[str, Field],
        off: Mapping[str, Any],
        fused: Fused,
    ) -> None:
        self._fixed = {name: value for name, value in own.items() if not callable(value)}
        self.scheduled: list[tuple[str, Number, Callable[[int], Any]]] = []
        for name, value in own.items():
            field = fields[name]
            if callable(value) and isinstance(field, Number):
                self.scheduled.append((name, field, value))
        self._linked, self._fused, held = linked, fused, {**values, **own, **off}
        self._sign = -1 if held["maximize"] else 1
        self._limit = inf if held["clip_value"] is None else held["clip_value"]
        self._decoupled, self._has_decay = held["decoupled"], "weight_decay" not in off
        self._interval = interval(held)
        self._weight = 1 - (held["ema"] or 0.0)

    def at(self, step: int, base: Mapping[str, Any]) -> dict[str, Any]:
        """The values at a step: those of `base`, and these.

        Raises:
            ValueError: a schedule returns a wrong number.
        """
        own = {**base, **self._fixed}
        for name, field, schedule in self.scheduled:
            own[name] = field.at(schedule, step)
        return own | {name: own[other] for name, other in self._linked.items()}

    def add_scalars(self, scalars: list[float], numbers: Any, divisor: float, t: int) -> None:
        """Add the options' numbers of step `t`. The last is a place for `clip_coef`, which depends on the gradients."""
        fused = self._fused
        if fused.grad_scale:
            scalars.append(self._sign / divisor)
        if fused.clip_value:
            scalars.append(self._limit)
        if fused.weight_decay or fused.decoupled:
            decay = numbers.weight_decay if self._has_decay else 0.0
            if fused.weight_decay:
                scalars.append(0.0 if self._decoupled else decay)
            if fused.decoupled:
                scalars.append(numbers.lr * decay if self._decoupled else 0.0)
        if fused.bounds:
            scalars += self._interval
        if fused.ema:
            scalars.append(self._weight)
        if fused.stochastic:
            scalars += pieces_of_step(numbers.seed, t)
        if fused.clip_norm:
            scalars.append(1.0)
