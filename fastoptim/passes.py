"""Passes over arrays that are no optimizer's step, but made as one: on any array, on either device, all checked."""

from collections.abc import Mapping
from typing import Any

from fastoptim.buffers import Described, FlatDict, Layout, Memory, Run, check_array
from fastoptim.checks import on_device
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
    """Copy those of the second mapping into arrays of the first, bit for bit. On a GPU this waits for all streams.

    Raises:
        KeyError, TypeError, ValueError: as `Optimizer.update` does.
    """
    there = any(map(on_device, others.values()))
    if there:
        wait()
    Copy().update({name: arrays[name] for name in others}, others)
    if there:
        wait()


def wait() -> None:
    """Wait for all that the current GPU was asked to do, on whatever stream."""
    from fastoptim.kernels.cuda_memory import cuda  # imported when it is asked for, as it takes a second

    cuda.synchronize()


def check_like(array: Any, what: str, run: Run) -> None:
    """Refuse an array that is not of the dtype and shape that it had.

    Raises:
        TypeError, ValueError
    """
    if on_device(array):
        from fastoptim.kernels.cuda_launch import described  # imported when it is asked for, as it takes a second

        array = described(array, what)
    else:
        check_array(array, what)
    if array.dtype != run.dtype:
        raise TypeError(f"{what}: expected dtype {run.dtype}, as it had, got {array.dtype}")
    if array.shape != run.shape:
        raise ValueError(f"{what}: expected shape {run.shape}, as it had, got {array.shape}")


def following(
    flat: FlatDict | None, params: Mapping[Any, Any], arrays: Mapping[Any, Described], memory: Memory
) -> FlatDict:
    """A `FlatDict` that has such arrays: `flat` itself if it does, or else a new one with all that `flat` had, too.

    It has the layout of `params`, where that is a `FlatDict` of the same arrays, so that one update can take both. What
    `flat` had is copied, the rest is zero.

    Args:
        flat: what there is already, or None.
        params: the parameters.
        arrays: dtype, shape and order of axes by name.
        memory: where they are.
    """
    if flat is not None and flat.memory is not memory:
        raise ValueError(
            f"the arrays are on {memory.name!r}, but the optimizer's averages or sums are on {flat.memory.name!r}: "
            f"opt.to({memory.name!r})"
        )
    known = {} if flat is None else {name: run[:3] for name, run in flat.layout.places.items()}
    wanted = known | dict(arrays)
    theirs = params.layout if type(params) is FlatDict else None
    if theirs is not None and {name: run[:3] for name, run in theirs.places.items()} == wanted:
        layout = theirs
    elif flat is not None and wanted == known:
        layout = flat.layout
    else:
        layout = Layout(wanted)
    if flat is not None and flat.layout is layout:
        return flat
    larger = FlatDict(layout, memory)
    if flat is not None:
        copy_into(larger, flat)
    return larger
