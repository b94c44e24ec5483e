"""What is measured of each array in the pass that updates it, for those who want to know why a run diverges."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fastoptim.kernels.fuse import Fused
from fastoptim.kernels.jit import jitable
from fastoptim.kernels.unroll import of_each


class Statistics(NamedTuple):
    """What was measured of an array in its last step. What was not asked for is None.

    Attributes:
        grad_norm: the norm of its gradient, divided by `grad_scale`, before it was clipped.
        param_norm: the norm of the parameter before the step.
        update_norm: the norm of what the step has added to the parameter.
        clipped: the part of its elements whose gradients `clip_value` has limited.
        nan, inf: how many elements of its gradient are nan, and how many are infinite.
    """

    grad_norm: float | None = None
    param_norm: float | None = None
    update_norm: float | None = None
    clipped: float | None = None
    nan: int | None = None
    inf: int | None = None


NAMES = Statistics._fields


def statistics_of(names: Sequence[str], sums: Sequence[float], size: int) -> Statistics:
    """The statistics of an array from sums over its elements."""
    found: dict[str, Any] = {}
    for name, total in zip(names, sums, strict=True):
        if name.endswith("norm"):
            found[name] = math.sqrt(total)
        else:
            found[name] = (total / size if size else 0.0) if name == "clipped" else int(total)
    return Statistics(**found)


def measured(element: Callable[..., Any], names: Sequence[str], first: int, fused: Fused) -> Callable[..., Any]:
    """The function of one element, which returns what is summed for these statistics behind the new numbers.

    Args:
        element: `(p, g, *numbers) -> (p, *state)`, jitable.
        names: of the statistics.
        first: the place of the first number of the options.
        fused: the options in it.
    """
    places = {name: first + i for i, name in enumerate(fused.scalars)}
    values = _values(names, places)

    def measured_element(p: Any, g: Any, *numbers: Any) -> Any:
        new = element(p, g, *numbers)
        return new + values(p, g, new[0], numbers)

    return measured_element


def _values(names: Sequence[str], places: dict[str, int]) -> Callable[..., Any]:
    """`(p, g, new_p, numbers) -> ` a tuple of what is summed of one element for each statistic."""
    own = [_value(name, places) for name in names]
    return of_each("values", "p, g, q, numbers", "own(p, g, q, numbers)", own, *places, *places.values())


def _value(name: str, places: dict[str, int]) -> Callable[..., Any]:
    """`(p, g, new_p, numbers) -> ` what is summed of one element for a statistic."""
    has_scale, has_coef, has_limit = (x in places for x in ("grad_scale", "clip_norm", "clip_value"))
    scale, coef, limit = (places.get(x, 0) for x in ("grad_scale", "clip_norm", "clip_value"))

    def value(p: Any, g: Any, q: Any, numbers: Any) -> Any:
        if name == "param_norm":
            return p * p
        if name == "update_norm":
            return (q - p) * (q - p)
        if name == "nan":
            return math.isnan(g)
        if name == "inf":
            return math.isinf(g)
        if has_scale:
            g = numbers[scale] * g
        if name == "grad_norm":
            return g * g
        if has_coef:
            g = numbers[coef] * g
        return abs(g) > numbers[limit] if has_limit else False

    return jitable(name, *places, *places.values())(value)
