"""Hyperparameters: plain attributes that refuse a wrong value, at construction and whenever they are assigned."""

import copy
import inspect
import math
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, Self, dataclass_transform

import numpy as np


class Hyperparameter:
    """A data descriptor that keeps the checked value in the instance's own dict, where reading it costs nothing."""

    def __init__(self, default: Any) -> None:
        self.default = default
        self.kw_only = False
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, instance: Any, value: Any) -> None:
        old, new = instance.__dict__.get(self.name), self.check(value)
        instance.__dict__[self.name] = new
        if self.kw_only or callable(old) or callable(new):
            instance._reconsider()

    def check(self, value: Any) -> Any:
        """The value to keep; a ValueError that names the hyperparameter if it is a wrong one."""
        raise NotImplementedError

    def with_default(self, default: Any) -> Self:
        """The same hyperparameter with another default."""
        other = copy.copy(self)
        other.default = self.check(default)
        return other

    def refusal(self, expected: str, value: Any) -> ValueError:
        """The error for a wrong value."""
        return ValueError(f"{self.name}: expected {expected}, got {value!r}")


class Number(Hyperparameter):
    """A float in an interval.

    Args:
        default: its value where none is given.
        expected: the interval in words.
        low, high: its ends; it includes neither infinity, nor `high`.
        open_below: whether it leaves `low` out.
        optional: whether None switches it off.
        schedule: whether a callable of the step may stand in its place.
    """

    def __init__(
        self,
        default: float | None,
        expected: str,
        low: float = 0.0,
        high: float = math.inf,
        *,
        open_below: bool = False,
        optional: bool = False,
        schedule: bool = False,
    ) -> None:
        super().__init__(default)
        self.low, self.high, self.open_below, self.schedule = low, high, open_below, schedule
        self.expected, self.optional = expected, optional

    if TYPE_CHECKING:  # what is read is what holds in a step, whatever was assigned

        def __get__(self, instance: Any, owner: Any = None) -> float: ...
        def __set__(self, instance: Any, value: float | Callable[[int], float]) -> None: ...

    def check(self, value: Any) -> Any:
        if (self.optional and value is None) or (self.schedule and callable(value)):
            return value
        return self.number(value)

    def number(self, value: Any) -> float:
        """The value as a float in the interval."""
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        inside = self.low <= number < self.high and not (self.open_below and number == self.low)
        if isinstance(value, str | bytes) or not inside:
            may_be = " or a callable of the step" * self.schedule + " or None" * self.optional
            raise self.refusal(self.expected + may_be, value)
        return number

    def at(self, schedule: Callable[[int], Any], step: int) -> float:
        """What a schedule says of a step."""
        value = schedule(step)
        try:
            return self.number(value)
        except ValueError:
            raise ValueError(
                f"{self.name}: expected its schedule to return {self.expected} at step {step}, got {value!r}"
            ) from None


class Switch(Hyperparameter):
    """True or False."""

    def check(self, value: Any) -> bool:
        if not isinstance(value, bool | np.bool_ | int) or value not in (0, 1):
            raise self.refusal("True or False", value)
        return bool(value)


class Count(Hyperparameter):
    """An integer of at least 1."""

    def check(self, value: Any) -> int:
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < 1:
            raise self.refusal("an integer >= 1", value)
        return int(value)


def nonnegative(default: float) -> Any:
    """A finite number of at least 0, or a schedule of such: `lr`, `eps`, `weight_decay`."""
    return Number(default, "a finite number >= 0", schedule=True)


def fraction(default: float) -> Any:
    """A number from 0 up to but not 1, or a schedule of such: `momentum`, `beta1`."""
    return Number(default, "a number in [0, 1)", high=1.0, schedule=True)


def switch(default: bool) -> Any:
    """True or False."""
    return Switch(default)


def option(kind: Callable[[Any], Any], *, default: Any, kw_only: bool) -> Any:
    """What every optimizer has behind its own: a keyword, declared as type checkers want it."""
    made: Hyperparameter = kind(default)
    made.kw_only = kw_only
    return made


@dataclass_transform(field_specifiers=(option,))  # anything else that a field is set to is its default to type checkers
class HasHyperparameters:
    """Makes the constructor, and the `repr`, of a class whose hyperparameters are declared in its body."""

    _hyperparameters: ClassVar[dict[str, Hyperparameter]] = {}
    _signature: ClassVar[inspect.Signature]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        found: dict[str, Hyperparameter] = {}
        for base in reversed(cls.__mro__):
            for name, value in list(vars(base).items()):
                plain = not hasattr(value, "__get__") or isinstance(value, FunctionType)
                if name in found and not isinstance(value, Hyperparameter) and plain:
                    value = found[name].with_default(value)  # `lr = 0.1` in a subclass
                    setattr(base, name, value)
                if isinstance(value, Hyperparameter):
                    if name in found and found[name].kw_only != value.kw_only:
                        del found[name]  # it was a keyword, and stands where it is declared now
                    found[name] = value
                else:  # a property, say
                    found.pop(name, None)
        cls._hyperparameters = dict(sorted(found.items(), key=lambda item: item[1].kw_only))
        kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
        cls._signature = inspect.Signature(
            [inspect.Parameter(name, kinds[x.kw_only], default=x.default) for name, x in cls._hyperparameters.items()]
        )
        _, *taken = inspect.signature(cls.__init__).parameters.values()
        if [x.kind for x in taken] == [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]:
            cls.__signature__ = cls._signature  # type: ignore[attr-defined]  # what help() and inspect look at

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            values = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}{self._signature}: {error}") from None
        values.apply_defaults()
        for name, value in values.arguments.items():
            setattr(self, name, value)

    def hyperparameters(self) -> dict[str, Any]:
        """Their values by name, in order."""
        return {name: self.__dict__[name] for name in self._hyperparameters}

    def _reconsider(self) -> None:
        """Called when something was assigned that changes more than a number."""

    def __repr__(self) -> str:
        values = ", ".join(
            f"{name}={value!r}"
            for name, value in self.hyperparameters().items()
            if not self._hyperparameters[name].kw_only or value != self._hyperparameters[name].default
        )
        return f"{type(self).__name__}({values})"
