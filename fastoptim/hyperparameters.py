"""Hyperparameters: plain attributes that refuse a wrong value, at construction and whenever they are assigned."""

import math
from typing import Any


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
        except (TypeError, ValueError):
            number = math.nan
        if isinstance(value, str | bytes) or not 0 <= number < self.below:
            raise ValueError(f"{self.name}: expected {expected}, got {value!r}")
        return number


class _Switch(Hyperparameter):
    def check(self, value: Any) -> bool:
        if value not in (True, False):
            raise ValueError(f"{self.name}: expected True or False, got {value!r}")
        return bool(value)


def nonnegative(default: float) -> Any:
    """A finite number of at least 0: `lr`, `eps`, `weight_decay`."""
    return _Number(default, math.inf)


def fraction(default: float) -> Any:
    """A number from 0 up to but not 1: `momentum`, `beta1`."""
    return _Number(default, 1.0)


def switch(default: bool, kw_only: bool = False) -> Any:
    """True or False; `kw_only` for an argument that is given by its name alone."""
    return _Switch(default, kw_only)
