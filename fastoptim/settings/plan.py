"""What the options come to: which of them the pass includes, and the numbers of a step."""

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

from fastoptim.kernels.fuse import Fused
from fastoptim.kernels.stages import Stage
from fastoptim.settings.fields import Field, Number
from fastoptim.settings.groups import group_of
from fastoptim.settings.rows import Kind, Numbers, Rows, WrongScalarsError


class Plan:
    """What the options come to. It changes when one is assigned.

    Args:
        values: the optimizer's fields by name.
        fields: what they may be.
        off: options that this optimizer declares as its own, and their values where they are off.
        stages: of a step.
        accumulates: whether the gradients are sums of several calls.

    Attributes:
        fused: the options that the pass includes.
        stages: those of a step, with the options included.
        patterns: of the groups.
        clip_norm, skip_nonfinite: the options.
        needs_norm: whether the norm of the gradients has to be known.
        is_plain: whether a step needs the numbers of `scalars` and nothing else.
        capturable: the option.

    Raises:
        ValueError: the options cannot go together.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        fields: Mapping[str, Field],
        off: Mapping[str, Any],
        stages: Sequence[Stage],
        accumulates: bool,
    ) -> None:
        groups = values["groups"] or {}
        self.patterns = tuple(groups)
        self.accumulates, self.fused = accumulates, _fused(values, off, accumulates)
        self.clip_norm: float | None = values["clip_norm"]
        self._grad_scale: float = values["grad_scale"]
        # where gradients are sums, this was looked at before they were added
        self.skip_nonfinite: bool = values["skip_nonfinite"]
        self.needs_norm = self.fused.clip_norm or self.skip_nonfinite
        self.capturable: bool = values["capturable"]
        self.stages = [stage.including(self.fused) for stage in stages]
        self._scalar_count = sum(stage.scalar_count for stage in stages)
        schedules = {name: value for name in fields if name != "groups" and callable(value := values[name])}
        self._base = _Varied(values, schedules, fields, off, self.fused)
        self._groups = [_Varied(values, group, fields, off, self.fused) for group in groups.values()]
        self._scheduled = [name for name, _, _ in self._base.scheduled]
        self._names = {*self._scheduled, *(name for group in groups.values() for name in group)}  # that may change
        self.is_plain = not (groups or self._scheduled or self.fused.scalars or self.needs_norm)
        if self.capturable:
            _check_capturable(values, self._scheduled)

    def is_like(self, other: "Plan") -> bool:
        """Whether steps that were bound for one plan are good for the other."""
        mine = self.fused, self.patterns, self.needs_norm, self.capturable, self.is_plain
        return mine == (other.fused, other.patterns, other.needs_norm, other.capturable, other.is_plain)

    def group_of(self, name: Any) -> int | None:
        """The number of the group that a name is in."""
        return group_of(self.patterns, name) if self.patterns else None

    def rows(self, numbers: Numbers, kinds: Sequence[Kind], divisor: float) -> Rows:
        """The numbers of a step, a row for each kind of name.

        A schedule is asked for the largest number of steps that these names have made. While `scalars` is asked, the
        attributes of `numbers` are what they are for that kind: fields as in its group and as schedules say, and what
        its names carry.

        Raises:
            ValueError: a schedule returns a wrong number.
            WrongScalarsError: `scalars` returns something else than the rule's numbers.
        """
        step = kinds[0][0].count if len(kinds) == 1 else max((cohort.count for cohort, _ in kinds), default=0)
        values = vars(numbers)
        kept = {name: values[name] for name in self._names}
        base = self._base.at(step, kept) if self._scheduled else kept
        rows = Rows()
        try:
            for cohort, group in kinds:
                varied = self._base if group is None else self._groups[group]
                values.update(base if group is None else varied.at(step, base))
                self._add_row(rows, numbers, varied, cohort.count + 1, cohort.carry, divisor)
        finally:
            values.pop("carry", None)
            values.update(kept)
        return rows

    def row_at(self, numbers: Numbers, t: int) -> list[float]:
        """The numbers of step `t`, where names do not differ and nothing is scheduled.

        Raises:
            WrongScalarsError: `scalars` returns something else than the rule's numbers.
        """
        rows = Rows()
        self._add_row(rows, numbers, self._base, t, None, self._grad_scale)
        return rows.scalars[: -1 if self.fused.clip_norm else None]

    def _add_row(
        self, rows: Rows, numbers: Numbers, varied: "_Varied", t: int, carry: float | None, divisor: float
    ) -> None:
        if carry is not None:
            values = vars(numbers)
            values["carry"] = carry
            values["carry"] = carry = numbers.next_carry(t)
        returned = numbers.scalars(t)
        if not isinstance(returned, tuple | list) or len(returned) != self._scalar_count:
            raise WrongScalarsError(repr(returned), t)
        rows.scalars += returned
        varied.add_scalars(rows.scalars, numbers, divisor)
        rows.returned.append(returned)
        rows.carries.append(carry)


class _Varied:
    """What differs from group to group.

    Args:
        values: all fields.
        own: those that have a value of their own here.
        fields: what they may be.
        off: options that are off for this optimizer.
        fused: the options that the pass includes.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        own: Mapping[str, Any],
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
        self._fused, held = fused, {**values, **own, **off}
        self._sign = -1 if held["maximize"] else 1
        self._limit = inf if held["clip_value"] is None else held["clip_value"]
        self._decoupled, self._has_decay = held["decoupled"], "weight_decay" not in off
        self._weight = 1 - (held["ema"] or 0.0)

    def at(self, step: int, base: Mapping[str, Any]) -> dict[str, Any]:
        """The values at a step: those of `base`, and these.

        Raises:
            ValueError: a schedule returns a wrong number.
        """
        own = {**base, **self._fixed}
        for name, field, schedule in self.scheduled:
            own[name] = field.at(schedule, step)
        return own

    def add_scalars(self, scalars: list[float], numbers: Any, divisor: float) -> None:
        """Add the numbers of the options. The last is a place for `clip_coef`, which depends on the gradients."""
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
        if fused.ema:
            scalars.append(self._weight)
        if fused.clip_norm:
            scalars.append(1.0)


def _fused(values: Mapping[str, Any], off: Mapping[str, Any], accumulates: bool) -> Fused:
    """What the pass has to do for at least one name."""
    members = [{**values, **group, **off} for group in ({}, *(values["groups"] or {}).values())]
    decays = [bool(each["decoupled"]) for each in members if callable(x := each["weight_decay"]) or x > 0]
    if True in decays and "lr" not in values:
        raise ValueError("decoupled: expected an optimizer that has an lr, this one has none")
    return Fused(
        grad_scale=values["grad_scale"] != 1 or accumulates or any(each["maximize"] for each in members),
        clip_value=any(each["clip_value"] is not None for each in members),
        weight_decay=False in decays,
        decoupled=True in decays,
        ema=values["ema"] is not None,
        clip_norm=values["clip_norm"] is not None,
        zero_grads=values["zero_grads"] or accumulates,
    )


def _check_capturable(values: Mapping[str, Any], scheduled: Sequence[str]) -> None:
    """Refuse what a replayed graph could not do.

    Raises:
        ValueError
    """
    on = {name: values[name] for name in ("groups", "skip_nonfinite")} | {"accumulate": values["accumulate"] > 1}
    found = [name for name, is_on in on.items() if is_on] + [f"the schedule of {name}" for name in scheduled]
    if found:
        raise ValueError(f"capturable: expected nothing that needs the host in every step, found {', '.join(found)}")
