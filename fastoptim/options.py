"""What a step does beside the optimizer's formula: options that every optimizer takes, all off by default."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from math import inf
from types import MappingProxyType
from typing import Any, ClassVar

from fastoptim.hyperparameters import Count, HasHyperparameters, Hyperparameter, Number, Switch, nonnegative, option
from fastoptim.kernels.extras import Extras

# The options that may differ from name to name, and their values where an optimizer declares a hyperparameter of the
# name itself: then that is the optimizer's affair, and no option.
OFF = {"weight_decay": 0.0, "decoupled": False, "clip_value": None, "maximize": False}


def _scale(default: float) -> Number:
    return Number(default, "a number in [1e-30, 1e30)", low=1e-30, high=1e30)  # neither it nor its inverse overflows


def _limit(default: None) -> Number:
    return Number(default, "a finite number > 0", open_below=True, optional=True)


class _Average(Number):
    """Assigned a number, read as the averaged parameters."""

    def __init__(self, default: None) -> None:
        super().__init__(default, "a number in [0, 1)", high=1.0, optional=True)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else instance._averages()


class _Groups(Hyperparameter):
    """Other hyperparameters for some of the names."""

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        groups = None if instance is None else instance.__dict__[self.name]
        if groups is None:  # the class's own, or none
            return self if instance is None else None
        # what was written into them would go unnoticed
        return MappingProxyType({pattern: MappingProxyType(values) for pattern, values in groups.items()})

    def __set__(self, instance: Any, value: Any) -> None:
        groups = self.check(value)
        instance.__dict__[self.name] = groups and self._checked(groups, type(instance)._hyperparameters)
        instance._reconsider()

    def check(self, value: Any) -> Any:
        if value is not None and not isinstance(value, Mapping):
            raise self.refusal("a mapping from glob patterns to hyperparameters, or None", value)
        return value

    def _checked(self, groups: Mapping[Any, Any], known: dict[str, Hyperparameter]) -> dict[str, dict[str, Any]]:
        may = [name for name, x in known.items() if not x.kw_only or name in OFF]
        checked: dict[str, dict[str, Any]] = {}
        for pattern, values in groups.items():
            if not isinstance(pattern, str) or not isinstance(values, Mapping):
                raise self.refusal("a mapping from glob patterns to hyperparameters", {pattern: values})
            checked[pattern] = {}
            for name, value in values.items():
                if name not in may:
                    raise ValueError(f"groups[{pattern!r}]: expected one of {', '.join(may)}, got {name!r}")
                try:
                    checked[pattern][name] = known[name].check(value)
                except ValueError as error:
                    raise ValueError(f"groups[{pattern!r}]: {error}") from None
        return checked


class Options(HasHyperparameters):
    """What a step does in the one pass beside the formula, in this order.

    Args:
        grad_scale: the gradients are divided by it, as by a loss scale.
        accumulate: so many calls make one step, on the mean of their gradients.
        clip_norm: what the norm of all gradients together is brought down to, by `clip_norm / (norm + 1e-6)` as in
            PyTorch; None for no limit. `opt.grad_norm` is the norm before.
        clip_value: each element is limited to the interval from `-clip_value` to `clip_value`; None for no limit.
        maximize: step along the gradient and not against it.
        weight_decay: the part of the parameter that is added to its gradient, at least 0.
        decoupled: take `lr * weight_decay` of the parameter from it instead, as in AdamW (Loshchilov & Hutter 2019,
            https://arxiv.org/abs/1711.05101).
        ema: the part of an average that stays from one step to the next, in [0, 1). It begins as the parameters
            before the first step. Read, `opt.ema` is the `FlatDict` of averages, a new one when parameters are new; or
            None.
        zero_grads: set the gradients to zero afterwards, for those who add to them.
        skip_nonfinite: if an element of the gradients is infinite or nan, make no step, and count it in `opt.skipped`.
        groups: other values for some names: from a glob pattern to hyperparameters by name. The first pattern that
            matches a name holds for it.
        capturable: keep the step count in a GPU's memory, see `Optimizer`.

    An optimizer's own numbers and `weight_decay` may be schedules: callables of the step, 0 at the first, that return a
    float.
    """

    grad_scale: float = option(_scale, default=1.0, kw_only=True)
    accumulate: int = option(Count, default=1, kw_only=True)
    clip_norm: float | None = option(_limit, default=None, kw_only=True)
    clip_value: float | None = option(_limit, default=None, kw_only=True)
    maximize: bool = option(Switch, default=False, kw_only=True)
    weight_decay: Number = option(nonnegative, default=0.0, kw_only=True)
    decoupled: bool = option(Switch, default=False, kw_only=True)
    ema: Any = option(_Average, default=None, kw_only=True)
    zero_grads: bool = option(Switch, default=False, kw_only=True)
    skip_nonfinite: bool = option(Switch, default=False, kw_only=True)
    groups: Mapping[str, Mapping[str, Any]] | None = option(_Groups, default=None, kw_only=True)
    capturable: bool = option(Switch, default=False, kw_only=True)
    _off: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, value in Options._hyperparameters.items():
            if name not in OFF and not cls._hyperparameters.get(name, value).kw_only:
                raise TypeError(f"{cls.__name__}: {name} is an option of every optimizer, expected another name")
        cls._off = {name: value for name, value in OFF.items() if not cls._hyperparameters[name].kw_only}

    @property
    def _divisor(self) -> float:
        """What the gradients of a step are divided by: sums of them have been divided by the loss scale before."""
        return max(self._calls, 1) if self.accumulate > 1 else self.grad_scale

    @property
    def _calls(self) -> int:
        """How many calls the sums of gradients are of."""
        raise NotImplementedError

    def _schedules(self) -> list[str]:
        """The names of the hyperparameters that are schedules, for all names of parameters."""
        return [name for name, value in self.hyperparameters().items() if callable(value)]

    def _extras(self) -> Extras:
        """What the pass has to do for at least one name of a parameter."""
        own = self.hyperparameters()
        members = [own | dict(group) | self._off for group in ({}, *(self.__dict__["groups"] or {}).values())]
        decays = [bool(each["decoupled"]) for each in members if callable(x := each["weight_decay"]) or x > 0]
        if True in decays and "lr" not in own:
            raise ValueError(f"decoupled: expected an optimizer that has an lr, {type(self).__name__} has none")
        return Extras(
            factor=self.grad_scale != 1 or self.accumulate > 1 or any(each["maximize"] for each in members),
            limit=any(each["clip_value"] is not None for each in members),
            decay=False in decays,
            shrink=True in decays,
            average=own["ema"] is not None,
            norm=self.clip_norm is not None,
            zero=self.zero_grads or self.accumulate > 1,
        )

    def _extra_scalars(self, extras: Extras) -> list[float]:
        """The numbers of these extras, but for the last one, which depends on the gradients."""
        own = self.__dict__ | self._off if self._off else self.__dict__
        decay, numbers = own["weight_decay"], []
        if extras.factor:
            numbers.append((-1 if own["maximize"] else 1) / self._divisor)
        if extras.limit:
            numbers.append(inf if own["clip_value"] is None else own["clip_value"])
        if extras.decay:
            numbers.append(0.0 if own["decoupled"] else decay)
        if extras.shrink:
            numbers.append(own["lr"] * decay if own["decoupled"] else 0.0)
        if extras.average:
            numbers.append(1 - own["ema"])
        return numbers

    def _group(self, name: Any) -> int | None:
        """The number of the first group that a name is in."""
        groups = enumerate(self.__dict__["groups"] or ())
        return next((i for i, pattern in groups if fnmatchcase(str(name), pattern)), None)

    def _as_in(self, group: int | None, step: int) -> Any:
        """A copy for looking at numbers: with those of a group, and of a step where there are schedules."""
        values = list((self.__dict__["groups"] or {}).values())[group] if group is not None else {}
        view = object.__new__(type(self))
        view.__dict__ = {**self.__dict__, **values}
        for name, value in view.hyperparameters().items():
            if callable(value):
                kind = self._hyperparameters[name]
                assert isinstance(kind, Number)
                view.__dict__[name] = kind.at(value, step)
        return view
