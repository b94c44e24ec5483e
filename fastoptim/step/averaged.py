"""The averages instead of the parameters, for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastoptim.arrays.devices import info_of
from fastoptim.arrays.flat import FlatDict
from fastoptim.arrays.named import ByName, by_name
from fastoptim.settings.patterns import first_match
from fastoptim.step.checks import check_like
from fastoptim.step.stepper import Stepper


@contextmanager
def holding_averages(
    stepper: Stepper, averages: FlatDict | None, frozen: tuple[str, ...], params: ByName
) -> Iterator[None]:
    """Within it, the parameters hold their averages, and the stepper makes no step. See `Optimizer.averaged`.

    Raises:
        RuntimeError: there are no averages, or the parameters are the averages already.
        KeyError: a parameter has no average yet, and no pattern of `frozen` matches its name.
        TypeError, ValueError: an array is not what it was when it was updated. Nothing has changed then.
    """
    if averages is None:
        raise RuntimeError("averaged: there are no averages, expected an optimizer with ema=...")
    if stepper.is_averaged:
        raise RuntimeError("averaged: the parameters are the averages already")
    arrays = {
        name: array
        for name, array in by_name(params, "params").items()
        if name in averages or first_match(frozen, name) is None
    }
    for name, array in arrays.items():
        what = f"params[{name!r}]"
        if name not in averages:
            raise KeyError(f"{what}: expected a parameter that was updated, it has no average")
        own = averages.layout.slices[name]
        check_like(info_of(array, what), what, own.dtype, own.shape)
    memory, saved = averages.memory, averages.only(arrays)
    memory.copy((saved[name], array) for name, array in arrays.items())
    stepper.is_averaged = True
    stepper.steps.clear()
    try:
        memory.copy((array, averages[name]) for name, array in arrays.items())
        yield
    finally:
        try:
            memory.copy((array, saved[name]) for name, array in arrays.items())
        finally:
            stepper.is_averaged = False
