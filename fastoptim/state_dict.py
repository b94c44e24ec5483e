"""An optimizer as plain data, by names, and back. See `Optimizer.state_dict`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastoptim.buffers import HOST, Array, FlatDict, Layout, check_array, memory_order
from fastoptim.state import State

if TYPE_CHECKING:
    from fastoptim.optimizer import Optimizer

KEYS = ("optimizer", "hyperparameters", "iter", "skipped", "calls", "steps", "slots", "ema", "gradients")


def of(opt: "Optimizer") -> dict[str, Any]:
    """What `Optimizer.state_dict` returns."""
    state, average, accumulation = opt._state, opt._average, opt._accumulation
    sums = None if accumulation is None else accumulation.sums

    def host(arrays: Mapping[Any, Any], memory: Any) -> dict[Any, Array]:
        return {name: memory.read(array) for name, array in arrays.items()}

    return {
        "optimizer": type(opt).__name__,
        "hyperparameters": {name: _as_data(value) for name, value in opt.hyperparameters().items()},
        "iter": opt.iter,
        "skipped": opt.skipped,
        "calls": opt._calls,
        "steps": opt._own_counts(),
        "slots": {slot: host(views, state.memory) for slot, views in state.views.items()},
        "ema": {} if average is None or opt.ema is None else host(average, average.memory),
        "gradients": {}
        if accumulation is None or sums is None or not opt._calls
        else host(accumulation.gradients(), sums.memory),
    }


def _as_data(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _as_data(each) for name, each in value.items()}
    if callable(value):
        from fastoptim import schedules  # imported when there is one

        try:
            return schedules.as_data(value)
        except TypeError:  # anybody's function
            return {"callable": getattr(value, "__qualname__", type(value).__qualname__)}
    return value


def _from_data(data: Any, present: Any, what: str) -> Any:
    """The value, where `present` is the optimizer's now."""
    if not isinstance(data, Mapping):
        return data
    if data.keys() == {"callable"}:
        if not callable(present):
            raise ValueError(f"{what}: it was {data['callable']!r}, which is no data: assign a callable before loading")
        return present
    from fastoptim import schedules

    return schedules.from_data(data)


def _groups_from_data(data: Any, present: Any) -> Any:
    if not isinstance(data, Mapping):
        return data
    now = present or {}
    return {
        pattern: {
            name: _from_data(value, now.get(pattern, {}).get(name), f"groups[{pattern!r}]: {name}")
            for name, value in _mapping(values, f"groups[{pattern!r}]").items()
        }
        for pattern, values in data.items()
    }


def load(opt: "Optimizer", saved: Any) -> None:
    """What `Optimizer.load_state_dict` does: all is looked at, then all is taken over."""
    if not isinstance(saved, Mapping):
        raise TypeError(f"state dict: expected a mapping, got {type(saved).__name__}")
    for key in KEYS:
        if key not in saved:
            raise KeyError(f"state dict: expected {', '.join(KEYS)}; {key!r} is missing")
    if saved["optimizer"] != type(opt).__name__:
        raise ValueError(f"state dict: expected that of {type(opt).__name__}, got that of {saved['optimizer']!r}")
    values = _hyperparameters(opt, saved["hyperparameters"])
    counts = {key: _count(saved[key], key) for key in ("iter", "skipped", "calls")}
    steps = {name: _count(count, f"steps[{name!r}]") for name, count in _mapping(saved["steps"], "steps").items()}
    for name, count in steps.items():
        if count > counts["iter"]:
            raise ValueError(f"state dict: steps[{name!r}]: expected at most iter, {counts['iter']}, got {count}")
    slots = _mapping(saved["slots"], "slots")
    if tuple(slots) != opt.slots:
        raise ValueError(f"state dict: expected the slots {opt.slots}, got {tuple(slots)}")
    shapes: dict[Any, tuple[Any, Any]] = {}
    arrays = {slot: _arrays(views, f"slots[{slot!r}]", shapes, steps) for slot, views in slots.items()}
    if any(views.keys() != shapes.keys() for views in arrays.values()):
        raise ValueError("state dict: expected the same names in all slots")
    ema = _arrays(saved["ema"], "ema", shapes, steps)
    gradients = _arrays(saved["gradients"], "gradients", shapes, None)
    if ema and values["ema"] is None:
        raise ValueError("state dict: there are averages, but the hyperparameter ema is None")
    if gradients and not (counts["calls"] and values["accumulate"] > 1):
        raise ValueError("state dict: there are sums of gradients, but no calls that they are of")

    memory = opt._state.memory
    first = next(iter(arrays.values()), {})
    state = State(opt.slots).including(list(first), list(first.values())).loose()
    for slot, views in arrays.items():
        for name, array in views.items():
            state.views[slot][name][...] = array
    from fastoptim.accumulation import Accumulation  # has an optimizer itself

    accumulation = Accumulation.of(_flat(gradients), counts["calls"]).moved(memory) if counts["calls"] else None
    average = _flat(ema).moved(memory) if ema else None
    state = state.moved(memory)
    for name, value in values.items():
        setattr(opt, name, value)
    opt._forget_binding()
    opt._clock, opt._norm = None, None
    opt._iter = opt._since = counts["iter"]
    opt.skipped, opt._counts = counts["skipped"], steps
    opt._state, opt._average, opt._accumulation = state, average, accumulation


def _hyperparameters(opt: "Optimizer", saved: Any) -> dict[str, Any]:
    """Their values, checked."""
    given, present = _mapping(saved, "hyperparameters"), opt.hyperparameters()
    if given.keys() != present.keys():
        different = ", ".join(sorted(map(repr, given.keys() ^ present.keys())))
        raise ValueError(f"state dict: hyperparameters: expected {', '.join(present)}; there differ {different}")
    scratch = object.__new__(type(opt))
    for name, value in given.items():
        try:
            groups = name == "groups"
            made = _groups_from_data(value, present[name]) if groups else _from_data(value, present[name], name)
            setattr(scratch, name, made)
        except ValueError as error:
            raise ValueError(f"state dict: hyperparameters: {error}") from None
    return {name: scratch.__dict__[name] for name in present}


def _mapping(value: Any, what: str) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"state dict: {what}: expected a mapping, got {type(value).__name__}")
    return dict(value)


def _count(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"state dict: {what}: expected an integer, got {value!r}")
    if value < 0:
        raise ValueError(f"state dict: {what}: expected an integer >= 0, got {value}")
    return int(value)


def _arrays(views: Any, what: str, shapes: dict[Any, tuple[Any, Any]], steps: Any) -> dict[Any, Array]:
    """Arrays by name, of one shape and dtype wherever a name appears."""
    arrays = _mapping(views, what)
    for name, array in arrays.items():
        where = f"state dict: {what}[{name!r}]"
        check_array(array, where)
        if steps is not None and name not in steps:
            raise ValueError(f"{where}: expected a name that steps has, too")
        expected = shapes.setdefault(name, (array.dtype, array.shape))
        if (array.dtype, array.shape) != expected:
            raise ValueError(f"{where}: expected {expected[0]} {expected[1]}, got {array.dtype} {array.shape}")
    return arrays


def _flat(arrays: dict[Any, Array]) -> FlatDict:
    flat = FlatDict(Layout({name: (x.dtype, x.shape, memory_order(x)) for name, x in arrays.items()}), HOST)
    for name, array in arrays.items():
        flat[name][...] = array
    return flat
