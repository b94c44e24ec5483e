"""How much memory an optimizer needs for given parameters."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from fastoptim.arrays.devices import info_of
from fastoptim.settings.algorithm import Algorithm
from fastoptim.settings.patterns import first_match
from fastoptim.settings.precision import dtype_of
from fastoptim.state.shaped import ShapedState


class MemoryUse(NamedTuple):
    """Bytes that are held while a model is trained, without the gradients, which are yours.

    Attributes:
        params: the parameters themselves.
        state: the optimizer's slots.
        averages: of `ema`.
        masters: of `master`; or what `rounding="kahan"` keeps.
        accumulated: the summed gradients of `accumulate`.
    """

    params: int
    state: int
    averages: int
    masters: int
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
        TypeError: a parameter is no array, or has no float dtype.
    """
    infos = {name: info_of(array, f"params[{name!r}]") for name, array in params.items()}
    own = {name: x for name, x in infos.items() if name in stepped or first_match(algorithm.frozen, name) is None}
    format = algorithm.state_format(dtype_of(algorithm.state_dtype))
    computed = {name: info.as_computed for name, info in own.items()}
    size = sum(info.nbytes for info in computed.values())
    slots = sum(format.nbytes(algorithm.stored_slots, info.dtype, info.size) for info in computed.values())
    state = slots + shaped.nbytes(computed, algorithm.state_shape)
    has_averages, has_sums = algorithm.ema is not None, algorithm.accumulate > 1
    halves = {name: info for name, info in own.items() if info.is_half}
    masters = sum(computed[name].nbytes for name in halves) if algorithm.master is not None else 0
    masters += sum(info.nbytes for info in halves.values()) if algorithm.rounding == "kahan" else 0
    return MemoryUse(sum(info.nbytes for info in infos.values()), state, has_averages * size, masters, has_sums * size)
