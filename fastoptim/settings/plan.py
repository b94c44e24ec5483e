"""The plan of a step: the options to fuse with the rule, and the numbers of each kind of name."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from fastoptim.kernels.fuse import Fused
from fastoptim.kernels.table import PerArray
from fastoptim.settings.carry import Carry
from fastoptim.settings.fields import Field
from fastoptim.settings.loss_scale import LossScale
from fastoptim.settings.patterns import Patterns, first_match
from fastoptim.settings.precision import EIGHT_BITS, is_stochastic
from fastoptim.settings.rows import Kind, Numbers, Rows, WrongScalarsError, numbers_of
from fastoptim.settings.varied import Varied


class Plan:
    """What the options come to. It changes when one is assigned.

    Args:
        values: the optimizer's fields by name.
        fields: what they may be.
        off: options that this optimizer declares as its own, and their values where they are off.
        for_others: see `Matrices`.
        stages: of a step.
        matrix_stages: of matrices, none where they follow the rule.
        accumulates: whether the gradients are sums of several calls.
        shadows: whether the parameters are also rounded to other arrays.
        ask: what asks for the numbers of a step.

    Attributes:
        fused: the options that the pass includes.
        stages: those of a step, with the options included.
        matrix_stages: those of matrices.
        copying_stages, copying_matrix_stages: those of parameters that are rounded to other arrays, or whose rests are
            kept; none where there are no such.
        has_masters: whether parameters of 16 bits have masters.
        is_kahan: whether what parameters of 16 bits lose is kept.
        is_usual: whether it is for calls of `update` without anything else.
        catches_up: whether rows make the steps later that they have missed.
        per_array: what a step has for each array beside its elements.
        by_array: whether each array needs a segment of its own.
        in_order: whether the state has to lie in C order, as what a step does depends on places in it.
        statistics: the option.
        patterns: of the groups.
        name_patterns: all that have to match a name, by the fields that they stand in.
        frozen: the patterns of names that do not take part.
        clip_norm, skip_nonfinite: the options.
        grad_scale: the option as a float.
        needs_norm: whether the norm of the gradients has to be known.
        is_plain: whether a step's numbers are one row that depends on the step alone, see `row_at`.
        is_bare: whether such a row is what `scalars` returns.
        capturable: the option.
        is_direct: whether a call's arrays are looked up as they are: all names take part, and the host counts.

    Raises:
        ValueError: the options cannot go together.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        fields: Mapping[str, Field],
        off: Mapping[str, Any],
        for_others: Mapping[str, str],
        stages: Sequence[Any],
        matrix_stages: Sequence[Any],
        accumulates: bool,
        shadows: bool = False,
        ask: Callable[[Numbers, int, Carry], tuple[Any, Carry]] = numbers_of,
    ) -> None:
        groups, self._ask, self._fields = values["groups"] or {}, ask, tuple(fields)
        self.patterns, self.frozen = tuple(groups), values["frozen"]
        of_fields = {name: values[name] for name, field in fields.items() if isinstance(field, Patterns)}
        self.name_patterns: dict[str, tuple[str, ...]] = {"groups": self.patterns, **of_fields}
        self.accumulates, self.shadows, self.fused = accumulates, shadows, _fused(values, off, accumulates)
        self.clip_norm: float | None = values["clip_norm"]
        self.grad_scale = float(values["grad_scale"])
        if isinstance(values["grad_scale"], LossScale) and not values["skip_nonfinite"]:
            raise ValueError(
                "grad_scale: expected skip_nonfinite=True beside a LossScale, which is told by it when to shrink"
            )
        # With `accumulate`, each gradient was looked at when it was added. The sum may overflow all the same.
        self.skip_nonfinite: bool = values["skip_nonfinite"]
        self.needs_norm = self.fused.clip_norm or self.skip_nonfinite
        self.capturable: bool = values["capturable"]
        self.statistics: tuple[str, ...] = values["statistics"]
        self.is_kahan, self.has_masters = values["rounding"] == "kahan", values["master"] is not None
        if self.is_kahan and self.has_masters:
            raise ValueError("rounding: expected another one than 'kahan' beside `master`, which loses nothing")
        fused = self.fused
        copying = fused._replace(compensation=True) if self.is_kahan else fused._replace(copy=True)
        self.stages, self.matrix_stages = self._with_options(stages, fused), self._with_options(matrix_stages, fused)
        has_copies = self.has_masters or shadows or self.is_kahan
        self.copying_stages = self._with_options(stages, copying) if has_copies else []
        self.copying_matrix_stages = self._with_options(matrix_stages, copying) if has_copies else []
        self.per_array: PerArray = self.stages[-1].per_array
        is_by_place = bool(matrix_stages) or fused.stochastic or values["state_dtype"] == EIGHT_BITS
        self.by_array, self.in_order = self.per_array.is_summed or is_by_place, len(stages) > 1 or is_by_place
        self._scalar_count = stages[-1].scalar_count
        self.is_usual, self.catches_up = not (accumulates or shadows), values["sparse"] == "catch_up"
        self.is_direct = self.is_usual and not (self.capturable or self.frozen)
        schedules = {name: value for name in fields if name != "groups" and callable(value := values[name])}
        self._for_others = for_others
        self._varied = [Varied(values, own, {}, fields, off, self.fused) for own in (schedules, *groups.values())]
        for own in ({}, *groups.values()) if for_others else ():
            self._varied.append(Varied(values, own, for_others, fields, off, self.fused))
        self._scheduled = [name for name, _, _ in self._varied[0].scheduled]
        others = {*for_others, *for_others.values()}
        self._names = {*self._scheduled, *(name for group in groups.values() for name in group), *others}
        varies = bool(groups or for_others or self._scheduled or accumulates)
        self.is_plain = not (varies or self.needs_norm or self.statistics)
        self.is_bare = not self.fused.scalars
        if self.capturable:
            _check_capturable(values, self._scheduled, bool(matrix_stages), fused.stochastic)

    def _with_options(self, stages: Sequence[Any], fused: Fused) -> list[Any]:
        """The stages with options included, and statistics in the last one."""
        if not stages:
            return []
        *included, last = (stage.including(fused) for stage in stages)
        if fused.rescaled:
            counted, last = last.rescaled()
            included.append(counted)
        return [*included, last.measuring(self.statistics)]

    def is_like(self, other: "Plan") -> bool:
        """Whether steps that were bound for one plan are good for the other."""
        stages = "stages", "matrix_stages", "copying_stages", "copying_matrix_stages"
        names = *stages, "needs_norm", "capturable", "is_plain", "catches_up"
        others = [{**plan.name_patterns, "frozen": ()} for plan in (self, other)]  # no step has frozen names
        return others[0] == others[1] and all(getattr(self, name) == getattr(other, name) for name in names)

    def group_of(self, name: Any, is_matrix: bool) -> int:
        """The number of the group that a name is in, 0 for none. Others than matrices may have groups of their own."""
        found = first_match(self.patterns, name) if self.patterns else None
        number = 0 if found is None else found + 1
        return number if is_matrix or not self._for_others else number + len(self.patterns) + 1

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
        base = self._varied[0].at(step, kept) if self._scheduled else kept
        rows = Rows()
        try:
            for cohort, group in kinds:
                varied = self._varied[group]
                values.update(varied.at(step, base) if group else base)
                self._add_row(rows, numbers, varied, cohort.count + 1, cohort.carry, divisor)
        finally:
            values.update(kept)
        return rows

    @property
    def scheduled(self) -> list[str]:
        """The names of fields that are schedules, for all names or in a group."""
        return [name for varied in self._varied for name, _, _ in varied.scheduled]

    def values_at(self, numbers: Numbers, group: int, step: int) -> list[Any]:
        """The values of all fields of the names in a group, as schedules say after so many steps.

        Raises:
            ValueError: a schedule returns a wrong number.
        """
        own = vars(numbers)
        if group or self._scheduled:
            own = self._varied[0].at(step, own) if self._scheduled else own
            own = self._varied[group].at(step, own) if group else own
        return [own[name] for name in self._fields]

    def rows_of(
        self, numbers: Numbers, group: int, step: int, made: Iterable[int], divisor: float, carry: Carry
    ) -> Iterator[tuple[int, list[float], Carry]]:
        """The numbers of several steps of a group, all with the values that hold after `step` steps.

        Args:
            numbers: what makes them.
            group: its number.
            step: what schedules are asked for.
            made: how many steps were made before each.
            divisor: what the gradients are divided by.
            carry: what is carried into the first of them, and on from each to the next.

        Yields:
            of each: how many were made before, the numbers, and what is carried on.

        Raises:
            ValueError: a schedule returns a wrong number.
            WrongScalarsError: `scalars` returns something else than the rule's numbers.
        """
        values, own = vars(numbers), self.values_at(numbers, group, step)
        kept = {name: values[name] for name in self._names}
        try:
            values.update({name: value for name, value in zip(self._fields, own, strict=True) if name in kept})
            for count in made:
                row: list[float] = []
                _, carry = self._add_scalars(row, numbers, self._varied[group], count + 1, carry, divisor)
                yield count, row, carry
        finally:
            values.update(kept)

    def row_at(self, numbers: Numbers, t: int) -> list[float]:
        """The numbers of step `t`, where names do not differ and nothing is scheduled.

        Raises:
            WrongScalarsError: `scalars` returns something else than the rule's numbers.
        """
        row: list[float] = []
        self._add_scalars(row, numbers, self._varied[0], t, None, self.grad_scale)
        return row[:-1] if self.fused.clip_norm else row

    def _add_row(self, rows: Rows, numbers: Numbers, varied: Varied, t: int, carry: Carry, divisor: float) -> None:
        returned, carry = self._add_scalars(rows.scalars, numbers, varied, t, carry, divisor)
        rows.returned.append(returned)
        rows.carries.append(carry)

    def _add_scalars(
        self, scalars: list[float], numbers: Numbers, varied: Varied, t: int, carry: Carry, divisor: float
    ) -> tuple[Any, Carry]:
        """Add a row to `scalars`. Returns what the algorithm gave, and what it carries on."""
        returned, carry = self._ask(numbers, t, carry)
        if not isinstance(returned, tuple | list) or len(returned) != self._scalar_count:
            raise WrongScalarsError(repr(returned), t)
        scalars += returned
        varied.add_scalars(scalars, numbers, divisor, t)
        return returned, carry


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
        cautious=bool(values["cautious"]),
        rescaled=values["cautious"] == "rescaled",
        bounds=any(each["nonnegative"] or each["bounds"] is not None for each in members),
        ema=values["ema"] is not None,
        stochastic=is_stochastic(values),
        clip_norm=values["clip_norm"] is not None,
        zero_grads=values["zero_grads"] or accumulates,
    )


def _check_capturable(values: Mapping[str, Any], scheduled: Sequence[str], has_matrices: bool, is_random: bool) -> None:
    """Refuse what a replayed graph could not do.

    Raises:
        ValueError
    """
    on = {name: values[name] for name in ("groups", "skip_nonfinite")} | {"accumulate": values["accumulate"] > 1}
    on |= {"a function of matrices": has_matrices, "random rounding": is_random}
    found = [name for name, is_on in on.items() if is_on] + [f"the schedule of {name}" for name in scheduled]
    if found:
        raise ValueError(f"capturable: expected nothing that needs the host in every step, found {', '.join(found)}")
