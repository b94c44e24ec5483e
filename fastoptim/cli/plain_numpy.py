"""An optimizer's steps in plain NumPy, by its rule on whole arrays: what the demo compares the kernels with."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastoptim import Optimizer
from fastoptim.cli.plain_sums import PlainSums
from fastoptim.kernels.vectorize import in_place

Array = np.ndarray[Any, Any]


class PlainNumpy:
    """Makes the steps of an optimizer as people write them: `m += (1 - beta1) * (g - m)` and so on, array by array.

    It keeps a state of its own and leaves the optimizer as it is. Options, as `clip_norm`, are left out; the
    hyperparameters have to be numbers, not schedules. The bits are those of the kernels, but where there are sums over
    arrays, see `PlainSums`.

    Args:
        optimizer: says the rule and the scalars of each step. What is assigned to it holds from the next step.
        params: the arrays that are updated, in place.

    Raises:
        ValueError: the optimizer's rule has no counterpart for arrays, or matrices follow a function of their own; it
            says why.
    """

    def __init__(self, optimizer: Optimizer, params: Mapping[Any, Array]) -> None:
        self.params = params
        if optimizer.matrices is not None:
            raise ValueError(
                f"{type(optimizer).__name__} updates matrices by a function: expected a rule for all arrays"
            )
        self._sums = PlainSums(optimizer, params) if optimizer.reductions else None
        if self._sums is not None:
            return
        self._scalars, self._rule = optimizer.successive_scalars(), in_place(optimizer.rule, len(optimizer.slots))
        self._by_dtype: dict[Any, list[tuple[Any, Array, list[Array]]]] = {}
        for name, param in params.items():
            state = [np.zeros_like(param) for _ in optimizer.slots]
            self._by_dtype.setdefault(param.dtype.type, []).append((name, param, state))

    def update(self, grads: Mapping[Any, Array]) -> None:
        """Make a step."""
        if self._sums is not None:
            self._sums.update(grads)
            return
        numbers, rule = next(self._scalars), self._rule
        for dtype, arrays in self._by_dtype.items():
            scalars = [dtype(number) for number in numbers]
            for name, param, state in arrays:
                rule(param, grads[name], *state, *scalars)
