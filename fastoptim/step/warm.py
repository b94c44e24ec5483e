"""Compiles what the steps of an optimizer need, before the first one is made."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastoptim.arrays.devices import memory_of
from fastoptim.arrays.flat import FlatDict
from fastoptim.arrays.info import on_gpu
from fastoptim.settings.algorithm import Algorithm
from fastoptim.step.accumulate import Accumulator
from fastoptim.step.stepper import Stepper


def warm(stepper: Stepper, accumulator: Accumulator, algorithm: Algorithm, params: Mapping[Any, Any]) -> None:
    """Bind a step for these parameters, which compiles everything, and forget it.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError: see `Optimizer.update`.
    """
    accumulates = algorithm.accumulate > 1
    plan = stepper.plan(algorithm, accumulates)
    # A parameter may be its own gradient, unless gradients are set to zero.
    grads = _apart_from(params) if algorithm.zero_grads else params
    if accumulates:
        sums = accumulator.including(params)
        accumulator.bind(sums, params, grads, algorithm)
        grads = sums if type(params) is FlatDict else {name: sums[name] for name in params}
    stepper.bind(algorithm, plan, params, grads)


def _apart_from(params: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Arrays like these. On the host the system gives them no memory, as nobody writes into them."""
    if type(params) is FlatDict:
        return params.zeros_like()
    if not any(map(on_gpu, params.values())):
        return {name: np.empty_like(array) for name, array in params.items()}
    memory = memory_of("cuda")
    return {name: memory.zeros(tuple(array.shape), np.dtype(str(array.dtype))) for name, array in params.items()}
