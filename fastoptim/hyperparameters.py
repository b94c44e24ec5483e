"""Hyperparameters: plain attributes that refuse a wrong value, at construction and whenever they are assigned."""

import inspect
import math
from typing import Any, ClassVar, dataclass_transform

import numpy as np


class Hyperparameter:
    """A data descriptor that keeps the checked value in the instance's own dict, where reading it costs nothing."""

    def __init__(self, default: Any, kw_only: bool = False) -> None:
        self.default, self.kw_only = default, kw_only
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, instance: object, value: Any) -> None:
        instance.__dict__[self.name] = self.check(value)

    def check(self, value: Any) -> Any:
        """The value to keep; a ValueError that names the hyperparameter if it is a wrong one."""
        raise NotImplementedError


class _Number(Hyperparameter):
    def __init__(self, default: float, below: float) -> None:
        super().__init__(default)
        self.below = below

    def check(self, value: Any) -> float:
        expected = "a finite number >= 0" if self.below == math.inf else f"a number in [0, {self.below:g})"
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if isinstance(value, str | bytes) or not 0 <= number < self.below:
            raise ValueError(f"{self.name}: expected {expected}, got {value!r}")
        return number


class _Switch(Hyperparameter):
    def check(self, value: Any) -> bool:
        if not isinstance(value, bool | np.bool_ | int) or value not in (0, 1):
            raise ValueError(f"{self.name}: expected True or False, got {value!r}")
        return bool(value)


def nonnegative(default: float) -> Any:
    """A finite number of at least 0: `lr`, `eps`, `weight_decay`."""
    return _Number(default, math.inf)


def fraction(default: float) -> Any:
    """A number from 0 up to but not 1: `momentum`, `beta1`."""
    return _Number(default, 1.0)


def switch(default: bool) -> Any:
    """True or False."""
    return _Switch(default)


def option(*, default: bool, kw_only: bool) -> Any:
    """True or False, as keywords, which is how type checkers want them: for what every optimizer has behind its own."""
    return _Switch(default, kw_only)


@dataclass_transform(field_specifiers=(option,))  # anything else that a field is set to is its default to type checkers
class HasHyperparameters:
    """Makes the constructor, and the `repr`, of a class whose hyperparameters are declared in its body."""

    _hyperparameters: ClassVar[dict[str, Hyperparameter]] = {}
    _signature: ClassVar[inspect.Signature]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        members = {name: value for base in reversed(cls.__mro__) for name, value in vars(base).items()}
        found = {name: value for name, value in members.items() if isinstance(value, Hyperparameter)}
        cls._hyperparameters = dict(sorted(found.items(), key=lambda item: item[1].kw_only))
        kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
        cls._signature = inspect.Signature(
            [inspect.Parameter(name, kinds[x.kw_only], default=x.default) for name, x in cls._hyperparameters.items()]
        )
        if not any("__init__" in vars(base) for base in cls.__mro__[: cls.__mro__.index(HasHyperparameters) - 1]):
            cls.__signature__ = cls._signature  # type: ignore[attr-defined]  # what help() and inspect look at

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            values = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}{self._signature}: {error}") from None
        values.apply_defaults()
        for name, value in values.arguments.items():
            setattr(self, name, value)

    def hyperparameters(self) -> tuple[Any, ...]:
        """Their values, in order."""
        return tuple(getattr(self, name) for name in self._hyperparameters)

    def __repr__(self) -> str:
        values = ", ".join(
            f"{name}={getattr(self, name)!r}"
            for name, x in self._hyperparameters.items()
            if not x.kw_only or getattr(self, name) != x.default
        )
        return f"{type(self).__name__}({values})"
