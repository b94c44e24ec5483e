"""How much memory an optimizer needs for given parameters."""

from collections.abc import Collection, Mapping
from math import prod
from typing import Any, NamedTuple

from fastoptim.arrays.devices import info_of
from fastoptim.arrays.info import TensorInfo
from fastoptim.settings.algorithm import Algorithm
from fastoptim.settings.patterns import first_match

NUMBER = 8  # bytes of a number of float64


class MemoryUse(NamedTuple):
    """Bytes that are held while a model is trained, without the gradients, which are yours.

    Attributes:
        params: the parameters themselves.
        state: the optimizer's slots.
        averages: of `ema`.
        accumulated: the summed gradients of `accumulate`.
    """

    params: int
    state: int
    averages: int
    accumulated: int

    @property
    def total(self) -> int:
        """All of these together."""
        return sum(self)


def memory_use(algorithm: Algorithm, params: Mapping[Any, Any], stepped: Collection[Any]) -> MemoryUse:
    """What an optimizer will hold for these parameters.

    Args:
        algorithm: with its options.
        params: the parameters.
        stepped: names that have made a step. They have a state, also while they are frozen.

    Raises:
        TypeError: a parameter is no array, or of another dtype than float32 and float64.
    """
    infos = {name: info_of(array, f"params[{name!r}]") for name, array in params.items()}
    moving = {name: x for name, x in infos.items() if name in stepped or first_match(algorithm.frozen, name) is None}
    size = sum(info.nbytes for info in moving.values())
    state = len(algorithm.stored_slots) * size + sum(
        _shaped(algorithm, slot, moving) for slot in algorithm.shaped_slots
    )
    has_averages, has_sums = algorithm.ema is not None, algorithm.accumulate > 1
    return MemoryUse(sum(x.nbytes for x in infos.values()), state, has_averages * size, has_sums * size)


def _shaped(algorithm: Algorithm, slot: str, infos: Mapping[Any, TensorInfo]) -> int:
    """The bytes of a slot of other shapes: a number is float64, and one that all share is there once."""
    shapes = [(algorithm.state_shape(slot, name, info.shape), info.dtype.itemsize) for name, info in infos.items()]
    found = [NUMBER if shape == () else prod(shape) * itemsize for shape, itemsize in shapes if shape is not None]
    return sum(found[:1] if slot in algorithm.shared_slots else found)
