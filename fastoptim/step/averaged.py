"""Other numbers in the place of the parameters for a while: averages, or an optimizer's own evaluation parameters."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastoptim.arrays.devices import info_of
from fastoptim.arrays.flat import FlatDict
from fastoptim.arrays.layout import Kind, Layout, kind_of
from fastoptim.arrays.named import ByName, by_name
from fastoptim.settings.algorithm import Algorithm
from fastoptim.settings.patterns import first_match
from fastoptim.step.checks import check_like
from fastoptim.step.evaluated import Replacement, evaluation
from fastoptim.step.stepper import Stepper


@contextmanager
def holding_averages(
    stepper: Stepper, algorithm: Algorithm, averages: FlatDict | None, params: ByName
) -> Iterator[None]:
    """Within it, the parameters hold their averages, and the stepper makes no step. See `Optimizer.averaged`.

    Raises:
        RuntimeError: there are no averages, or the parameters are the averages already.
        KeyError: a parameter has no average yet, and no pattern of `frozen` matches its name.
        TypeError, ValueError: an array is not what it was when it was updated. Nothing has changed then.
    """
    if algorithm.evaluation_stage is None and averages is None:
        raise RuntimeError("averaged: there are no averages, expected ema=..., or an optimizer that averages itself")
    if stepper.is_averaged:
        raise RuntimeError("averaged: the parameters are the averages already")
    named, frozen = by_name(params, "params"), algorithm.frozen
    if averages is None:
        replacement = evaluation(stepper, algorithm, named)
    else:
        own = {k: x for k, x in named.items() if k in averages or first_match(frozen, k) is None}
        replacement = _averages(averages, own)
    memory, arrays, kinds, put = replacement
    waiting = FlatDict(Layout(kinds), memory)
    memory.copy((waiting[name], array) for name, array in arrays.items())
    stepper.is_averaged = True
    stepper.steps.clear()
    try:
        put()
        yield
    finally:
        try:
            memory.copy((array, waiting[name]) for name, array in arrays.items())
        finally:
            stepper.is_averaged = False


def _averages(averages: FlatDict, arrays: dict[Any, Any]) -> Replacement:
    kinds, own = averages.layout.kinds, dict[Any, Kind]()
    for name, array in arrays.items():
        what = f"params[{name!r}]"
        if name not in averages:
            raise KeyError(f"{what}: expected a parameter that was updated, it has no average")
        found = info_of(array, what)
        check_like(found.as_computed, what, *kinds[name][:2])
        own[name] = kind_of(found)
    memory = averages.memory
    return Replacement(memory, arrays, own, lambda: memory.copy((arrays[name], averages[name]) for name in arrays))
