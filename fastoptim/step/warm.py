"""Compiles what the steps of an optimizer need, before the first one is made."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastoptim.arrays.devices import info_of, memory_of
from fastoptim.arrays.flat import FlatDict
from fastoptim.arrays.info import TensorInfo
from fastoptim.settings.algorithm import Algorithm
from fastoptim.step.accumulate import Accumulator
from fastoptim.step.stepper import Stepper


def warm(stepper: Stepper, accumulator: Accumulator, algorithm: Algorithm, params: Mapping[Any, Any]) -> None:
    """Find a step for these parameters, or bind a new one, which compiles everything, and forget it.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError, WrongScalarsError: see `Optimizer.update`.
    """
    accumulates = algorithm.accumulate > 1
    plan = stepper.plan(algorithm, accumulates)
    params, _ = stepper.taking_part(plan, params, params)
    infos = {name: info_of(array, f"params[{name!r}]") for name, array in params.items()}
    # A parameter may be its own gradient, unless gradients are set to zero.
    grads = _arrays_like(params, infos) if algorithm.zero_grads else params
    if accumulates:
        sums = accumulator.including(params)
        accumulator.bind(sums, params, grads, algorithm)
        grads = sums if type(params) is FlatDict else {name: sums[name] for name in params}
    stepper.find(algorithm, plan, params, grads)
    if algorithm.evaluation_stage is not None:
        stepper.bind_evaluation(algorithm, algorithm.evaluation_plan(algorithm.evaluation_stage), params)


def _arrays_like(params: Mapping[Any, Any], infos: Mapping[Any, TensorInfo]) -> Mapping[Any, Any]:
    """Other arrays of these kinds. On the host they cost no memory: the system assigns pages at the first write."""
    if type(params) is FlatDict:
        return params.zeros_like()
    if all(info.device is None for info in infos.values()):
        return {name: np.empty_like(array) for name, array in params.items()}
    memory = memory_of("cuda")
    with memory.current(list(infos.values())):
        return {name: memory.zeros(info.shape, info.dtype) for name, info in infos.items()}
