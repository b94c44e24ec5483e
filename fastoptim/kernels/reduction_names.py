"""The names by which rules and functions of sums take what they need: each has to be one thing, and known in time."""

import inspect
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from fastoptim.kernels.adapt import arguments_of

OF_EVERY_RULE = "p", "g", "size"


def check_function(function: Callable[..., float]) -> None:
    """Refuse what cannot be given its arguments by name, or whose result has no name.

    Raises:
        TypeError
    """
    name = getattr(function, "__name__", repr(function))
    if not inspect.isfunction(function) or not name.isidentifier():
        raise TypeError(f"Reduction: expected functions that are made with `def`, got {name}")
    if any(x.kind is not x.POSITIONAL_OR_KEYWORD for x in inspect.signature(function).parameters.values()):
        raise TypeError(f"Reduction: {name}{inspect.signature(function)}: expected arguments that have names")


def check_names(
    owner: str,
    rule: Any,
    slots: Collection[str],
    array_slots: Collection[str],
    shared_slots: Collection[str],
    reductions: Sequence[Any],
) -> None:
    """Refuse names that mean two things, and arguments that are not known where they are taken.

    Args:
        owner: the optimizer's name, for errors.
        rule: what is applied to each element at the end.
        slots: names of the state of each element.
        array_slots: names of the state's numbers of an array.
        shared_slots: those of them that all arrays share.
        reductions: what is summed before; see `Reduction`.

    Raises:
        TypeError
    """
    results = [name for each in reductions for name in each.results]
    sums = [name for each in reductions for name in each.sums]
    others = [name for name in results if name not in array_slots]  # or else it is the state's new number
    times = Counter((*OF_EVERY_RULE, *slots, *array_slots, *sums, *others)) | Counter(results)
    for name in (name for name, count in times.items() if count > 1):
        raise TypeError(f"{owner}: expected {name!r} to be the name of one thing, it is that of several")
    pending, elements = set(results) - set(array_slots), {"size", *sums}
    for each in reductions:
        _refuse(owner, each.rule, pending | elements, "a rule takes results of earlier reductions, and no sums")
        for name in set(each.results) & set(array_slots):
            if each.over_all != (name in shared_slots):
                place = "shared_slots" if each.over_all else "array_slots, and not in shared_slots"
                raise TypeError(f"{owner}: expected {name!r} in {place}: it follows from sums over {each.whole}")
        for function in each.functions:
            foreign = {"p", "g", *slots, *sums} - set(each.sums)
            _refuse(
                owner,
                function,
                pending | foreign,
                "it takes the sums of its own reduction, and earlier results",
            )
            pending.discard(function.__name__)
    _refuse(owner, rule, elements, "a rule takes results of functions, and no sums")


def _refuse(owner: str, function: Callable[..., Any], unknown: Iterable[str], why: str) -> None:
    wrong = [name for name in arguments_of(function) if name in set(unknown)]
    if wrong:
        raise TypeError(f"{owner}: {function.__name__} cannot take {', '.join(wrong)}: {why}")
