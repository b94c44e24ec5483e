"""Passes over arrays that are no optimizer's step, but made as one: on any array, on either device, all checked."""

from collections.abc import Mapping
from typing import Any

from fastoptim.buffers import FlatDict, Layout, Memory, memory_order
from fastoptim.kernels.rule import rule
from fastoptim.optimizer import Optimizer


@rule
def copy(p: Any, g: Any) -> Any:
    return g


@rule
def clear(p: Any, g: Any, zero: Any) -> Any:
    return zero


@rule
def add(p: Any, g: Any) -> Any:
    return p + g


class Copy(Optimizer):
    """Copy the "gradients" into the "parameters"."""

    rule = copy

    def scalars(self, t: int) -> tuple[float, ...]:
        return ()


class Clear(Optimizer):
    """Set the "parameters" to zero, whatever the "gradients" are."""

    rule = clear

    def scalars(self, t: int) -> tuple[float, ...]:
        return (0.0,)


class Add(Optimizer):
    """Add the gradients to the "parameters", which are their sums."""

    rule = add

    def scalars(self, t: int) -> tuple[float, ...]:
        return ()


def copy_into(arrays: Mapping[Any, Any], others: Mapping[Any, Any]) -> None:
    """Copy those of the second mapping into arrays of the first, bit for bit.

    Raises:
        KeyError, TypeError, ValueError: as `Optimizer.update` does.
    """
    Copy().update({name: arrays[name] for name in others}, others)


def following(
    flat: FlatDict | None,
    params: Mapping[Any, Any],
    like: Mapping[Any, Any],
    memory: Memory,
) -> FlatDict:
    """A `FlatDict` that has all the names of `like`: `flat` itself if it does, or else a new one.

    It has the layout of `params`, where that is a `FlatDict`, so that one update can take both. What `flat` had is
    copied, the rest is zero.

    Args:
        flat: what there is already, or None.
        params: the parameters.
        like: those of them that are to be there, or what has their dtypes and shapes.
        memory: where they are.
    """
    known = {} if flat is None else {name: run[:3] for name, run in flat.layout.places.items()}
    theirs = params.layout if type(params) is FlatDict and len(like) == len(params) else None
    if theirs is not None and known.keys() <= params.keys() and (flat is None or flat.layout is not theirs):
        layout = theirs
    elif flat is None or not known.keys() >= like.keys():
        new = {name: (x.dtype, tuple(x.shape), memory_order(x)) for name, x in like.items() if name not in known}
        layout = Layout(known | new)
    else:
        return flat
    larger = FlatDict(layout, memory)
    if flat is not None:
        copy_into(larger, flat)
    return larger
