"""Optimizers by name: those of this package, and your own."""

from difflib import SequenceMatcher
from typing import Any

from fastoptim.optimizer import Optimizer
from fastoptim.settings.algorithm import subclasses


def optimizers() -> dict[str, type[Optimizer]]:
    """All optimizers by name, those of this package first.

    Your own subclasses of `Optimizer` are there as soon as they are defined, unless their name begins with an
    underscore. Of two classes with one name, the one that was defined last counts.
    """
    return subclasses(Optimizer)


def get(name: str, **hyperparameters: Any) -> Optimizer:
    """An optimizer by name: `fastoptim.get("adam", lr=0.1)`, for command lines and configuration files.

    Args:
        name: of a class, in upper or lower case.
        hyperparameters: the constructor's arguments.

    Raises:
        TypeError: `name` is no str, or a hyperparameter is unknown.
        ValueError: there is no optimizer of that name, or a hyperparameter is wrong.
    """
    if not isinstance(name, str):
        raise TypeError(f"name: expected a str, as 'adam', got {type(name).__name__}")
    known = optimizers()
    found = known.get(name) or next((cls for key, cls in known.items() if key.lower() == name.lower()), None)
    if found is None:
        nearest = sorted(known, key=lambda key: -SequenceMatcher(None, key.lower(), name.lower()).ratio())
        raise ValueError(f"there is no optimizer {name!r}; expected one of {', '.join(nearest)}")
    return found(**hyperparameters)
