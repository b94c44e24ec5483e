"""What parameters of 16 bits have beside their state, and what cannot go together with less bits."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastoptim.arrays.info import TensorInfo
from fastoptim.settings.algorithm import Algorithm
from fastoptim.settings.plan import Plan
from fastoptim.state.store import StateStore


def beside(plan: Plan, params: Mapping[Any, TensorInfo]) -> dict[str, dict[Any, np.dtype[Any]]]:
    """Which parameters have an array of `Beside`, by its names, and of which dtype."""
    found = dict[str, dict[Any, np.dtype[Any]]]()
    computed = {name: info.as_computed.dtype for name, info in params.items()}
    halves = {name: info.dtype for name, info in params.items() if info.is_half}
    if plan.fused.ema:
        found["ema"] = computed
    if halves and plan.has_masters:
        found["master"] = {name: computed[name] for name in halves}
    if halves and plan.is_kahan:
        found["compensation"] = halves
    return found


def check_precision(
    algorithm: Algorithm, plan: Plan, store: StateStore, params: Mapping[Any, TensorInfo], shadow: Any
) -> None:
    """Refuse what the kernels cannot do with these parameters.

    Args:
        algorithm: the optimizer.
        plan: what its options come to.
        store: its state.
        params: what the parameters are.
        shadow: the other arrays that these are rounded to, or None.

    Raises:
        TypeError, ValueError
    """
    if shadow is not None and plan.has_masters:
        raise ValueError("shadow: expected None, as with `master` the parameters themselves are what is rounded")
    if shadow is not None and plan.is_kahan:
        raise ValueError("shadow: expected None, or another rounding than 'kahan'")
    halves = [info.is_half for info in params.values()]
    owner = type(algorithm).__name__
    if plan.matrix_stages and store.format.dtype is not None:
        raise TypeError(f"state_dtype: expected None, as {owner} updates matrices by a function")
    has_two_parts = (plan.has_masters or plan.is_kahan) and any(halves) and not all(halves)
    if has_two_parts and any(stage.is_over_all for stage in plan.stages[:-1]):
        name = [*params][halves.index(False)]
        raise TypeError(f"params[{name!r}]: expected a dtype of 16 bits, as others have, as {owner} sums over all")
