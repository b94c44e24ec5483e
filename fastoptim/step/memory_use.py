"""How much memory an optimizer needs for given parameters."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from fastoptim.arrays.devices import info_of
from fastoptim.settings.algorithm import Algorithm
from fastoptim.settings.patterns import first_match
from fastoptim.state.shaped import ShapedState


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


def memory_use(
    algorithm: Algorithm, shaped: ShapedState, params: Mapping[Any, Any], stepped: Collection[Any]
) -> MemoryUse:
    """What an optimizer will hold for these parameters.

    Args:
        algorithm: with its options.
        shaped: its state of other shapes than the parameters'.
        params: the parameters.
        stepped: names that have made a step. They have a state, also while they are frozen.

    Raises:
        TypeError: a parameter is no array, or of another dtype than float32 and float64.
    """
    infos = {name: info_of(array, f"params[{name!r}]") for name, array in params.items()}
    own = {name: x for name, x in infos.items() if name in stepped or first_match(algorithm.frozen, name) is None}
    size = sum(info.nbytes for info in own.values())
    state = len(algorithm.stored_slots) * size + shaped.nbytes(own, algorithm.state_shape)
    has_averages, has_sums = algorithm.ema is not None, algorithm.accumulate > 1
    return MemoryUse(sum(info.nbytes for info in infos.values()), state, has_averages * size, has_sums * size)
