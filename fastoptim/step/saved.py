"""State dicts: a loop over the owners of what lasts."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from fastoptim.settings.algorithm import Algorithm
from fastoptim.settings.data import as_data
from fastoptim.settings.precision import dtype_of
from fastoptim.state.counts import StepCounts
from fastoptim.state.loading import load_store
from fastoptim.state.shaped import Shapes
from fastoptim.state.store import StateStore
from fastoptim.step.accumulate import Accumulator
from fastoptim.step.stepper import Stepper

KEYS = ("optimizer", "hyperparameters", "iter", "skipped", "steps", "slots", "ema", "micro_steps", "gradients")


class Owner(Protocol):
    """What has numbers that last."""

    def export(self) -> dict[str, Any]:
        """All of them, by name."""


def saved_of(algorithm: Algorithm, owners: Sequence[Owner]) -> dict[str, Any]:
    """The state dict of an optimizer and the owners of its numbers."""
    settings = {name: as_data(value) for name, value in algorithm.hyperparameters().items()}
    saved: dict[str, Any] = {"optimizer": type(algorithm).__name__, "hyperparameters": settings}
    for owner in owners:
        saved |= owner.export()
    return saved


def checked_values(algorithm: Algorithm, saved: Any, hyperparameters: bool, convert: bool) -> dict[str, Any]:
    """The hyperparameters that an optimizer will have: those of a state dict, or its own.

    Unless it is to be converted, state that lies in memory in another way than these say is refused.

    Raises:
        KeyError, TypeError, ValueError: the state dict lacks something, or is another class's.
    """
    name, keys = type(algorithm).__name__, KEYS if algorithm.carry is None else (*KEYS, "carry")
    if not isinstance(saved, Mapping):
        raise TypeError(f"state dict: expected a mapping, got {type(saved).__name__}")
    if "param_groups" in saved:
        raise ValueError("state dict: it is PyTorch's; docs/porting/pytorch-modules.md shows how to take it over")
    for key in keys:
        if key not in saved:
            raise KeyError(f"state dict: expected {', '.join(keys)}; {key!r} is missing")
    if saved["optimizer"] != name:
        raise ValueError(f"state dict: expected that of {name}, got that of {saved['optimizer']!r}")
    if not hyperparameters:
        values = algorithm.hyperparameters()
        if not convert and (found := lost(saved, values)):
            what = f"state dict: expected no {found[0]}, which this optimizer does not keep"
            raise ValueError(f"{what}; convert=True drops it")
        return values
    values = algorithm.values_from(saved["hyperparameters"])
    if saved["ema"] and values["ema"] is None:
        raise ValueError("state dict: there are averages, but the hyperparameter ema is None")
    return values


def loaded(
    saved: Mapping[str, Any],
    values: Mapping[str, Any],
    slots: tuple[str, ...],
    stepper: Stepper,
    accumulator: Accumulator,
    shapes: Shapes | None,
    convert: bool,
) -> tuple[StepCounts, StateStore, Accumulator]:
    """The owners with the numbers of a state dict. All is looked at before the first array is copied.

    Args:
        saved: the state dict.
        values: the hyperparameters that there will be.
        slots: those of an optimizer with these values.
        stepper: the present owner of counts and state.
        accumulator: that of the summed gradients.
        shapes: of the state that has other shapes than the parameters, None where that is not known yet.
        convert: whether state of another format is rounded to that of these values, or refused.

    Raises:
        TypeError, ValueError: something is not what it has to be.
    """
    kinds: dict[Any, Any] = {}
    counts, present = stepper.counts.load(saved), stepper.store
    format = present.format._replace(dtype=dtype_of(values["state_dtype"]))
    if (slots, format) != (present.slots, present.format):
        present = StateStore(slots, present.memory, shaped=present.shaped.holding_none(), format=format)
    make_store = load_store(present, saved, kinds, saved["steps"], shapes, convert)
    make_accumulator = accumulator.load(saved, kinds, present.memory)
    new, store = make_accumulator(), make_store()
    for name in unkept(values):
        store = store.without(name)
    return counts, store, new


def unkept(values: Mapping[str, Any]) -> list[str]:
    """What an optimizer with these hyperparameters does not have beside its state."""
    is_on = {name: values[name] is not None for name in ("ema", "master")}
    is_on["compensation"] = values["rounding"] == "kahan"
    return [name for name, each in is_on.items() if not each]


def lost(saved: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """What a state dict has of a parameter's lost bits, and an optimizer with these hyperparameters would drop."""
    return [name for name in unkept(values) if name != "ema" and saved.get(name)]
