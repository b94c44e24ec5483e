"""Fields: what a hyperparameter or an option may be."""

import copy
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np


class Field:
    """A value that is checked whenever it is assigned. It is kept in the instance's own dict, under the field's name.

    Attributes:
        name: set when the class is made.
        default: the value where none is given.
        kw_only: whether the constructor takes it as a keyword alone.
        chooses_rule: whether it is one of those that choose the optimizer's rule, see `Algorithm.variants`.
        is_common: whether all names have the same value, so that no group may have another one.
    """

    chooses_rule = is_common = False

    def __init__(self, default: Any) -> None:
        self.default = default
        self.kw_only = False
        self.name = ""

    if not TYPE_CHECKING:  # the value itself is found before this is called

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            if instance is None:
                return self
            raise instance.not_initialised()

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def check(self, value: Any, fields: Mapping[str, "Field"]) -> Any:
        """The value to keep.

        Args:
            value: what was assigned.
            fields: all fields of the class, by name.

        Raises:
            ValueError: it is a wrong one; the error names the field.
        """
        raise NotImplementedError

    def is_on(self, value: Any) -> bool:
        """Whether a value switches on what the field stands for."""
        return bool(value)

    def with_default(self, default: Any, fields: Mapping[str, "Field"]) -> Self:
        """The same field with another default."""
        other = copy.copy(self)
        other.default = self.check(default, fields)
        return other

    def refusal(self, expected: str, value: Any) -> ValueError:
        """The error for a wrong value."""
        return ValueError(f"{self.name}: expected {expected}, got {value!r}")


class Number(Field):
    """A float in an interval; or a schedule, a callable from the step to a float, where that is allowed.

    Args:
        default: its value where none is given.
        expected: the interval in words.
        low, high: its ends. `high` and infinity are not in it.
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

    if TYPE_CHECKING:  # a schedule may be assigned, but a step reads a float

        def __get__(self, instance: Any, owner: Any = None) -> float: ...
        def __set__(self, instance: Any, value: float | Callable[[int], float]) -> None: ...

    def check(self, value: Any, fields: Mapping[str, Field]) -> Any:
        if (self.optional and value is None) or (self.schedule and callable(value)):
            return value
        return self.number(value)

    def is_on(self, value: Any) -> bool:
        """Whether it is positive, or a schedule."""
        return value is not None and (callable(value) or value > 0)

    def number(self, value: Any) -> float:
        """The value as a float in the interval.

        Raises:
            ValueError
        """
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
        """What a schedule says of a step.

        Raises:
            ValueError: it is no number in the interval.
        """
        value = schedule(step)
        try:
            return self.number(value)
        except ValueError:
            raise ValueError(
                f"{self.name}: expected its schedule to return {self.expected} at step {step}, got {value!r}"
            ) from None


class Switch(Field):
    """True or False."""

    def check(self, value: Any, fields: Mapping[str, Field]) -> bool:
        if not isinstance(value, bool | np.bool_ | int) or value not in (0, 1):
            raise self.refusal("True or False", value)
        return bool(value)


class AlwaysOff(Switch):
    """The switch of a base class whose rule has no place here."""

    def check(self, value: Any, fields: Mapping[str, Field]) -> bool:
        if super().check(value, fields):
            raise self.refusal("False, as the class has a rule of its own", value)
        return False


class Refused(Field):
    """An option that has no place in a class, and why."""

    def __init__(self, name: str, default: Any, reason: str) -> None:
        super().__init__(default)
        self.name, self.reason, self.kw_only = name, reason, True

    def check(self, value: Any, fields: Mapping[str, Field]) -> Any:
        if type(value) is not type(self.default) or value != self.default:
            raise self.refusal(f"{self.default!r}, as {self.reason}", value)
        return value


class Count(Field):
    """An integer of at least 1."""

    def check(self, value: Any, fields: Mapping[str, Field]) -> int:
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < 1:
            raise self.refusal("an integer >= 1", value)
        return int(value)


class Choice(Field):
    """One of some words, or None if that is among them.

    Args:
        among: the words, the default first.
    """

    def __init__(self, among: tuple[str | None, ...]) -> None:
        super().__init__(among[0])
        self.among = among

    def check(self, value: Any, fields: Mapping[str, Field]) -> str | None:
        if not isinstance(value, str | None) or value not in self.among:
            raise self.refusal(" or ".join(map(repr, self.among)), value)
        return value


def nonnegative(default: float) -> Any:
    """A finite number of at least 0, or a schedule of such: `lr`, `eps`, `weight_decay`."""
    return Number(default, "a finite number >= 0", schedule=True)


def fraction(default: float) -> Any:
    """A number from 0 up to but not 1, or a schedule of such: `momentum`, `beta1`."""
    return Number(default, "a number in [0, 1)", high=1.0, schedule=True)


def count(default: int) -> Any:
    """An integer of at least 1."""
    return Count(default)


def choice(*among: str) -> Any:
    """One of these words, by default the first."""
    return Choice(among)


def switch(default: bool) -> Any:
    """True or False. It may choose another rule, see `variants` of `Optimizer`."""
    return Switch(default)


def common(field: Any) -> Any:
    """The same field, which groups cannot change: numbers that sums over all arrays depend on are the same for all."""
    field.is_common = True
    return field


def option(kind: Callable[[Any], Any], *, default: Any, kw_only: bool) -> Any:
    """Declare an option of every optimizer: a keyword-only field that type checkers recognise."""
    made: Field = kind(default)
    made.kw_only = kw_only
    return made
