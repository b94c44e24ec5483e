"""Plain NumPy's whole step: the rule on whole arrays, and one pass for each thing that is around it."""

import copy
from fnmatch import fnmatchcase
from math import sqrt
from typing import Any

import numpy as np

from bench.options import options
from bench.workloads import Arrays
from fastoptim import Optimizer
from fastoptim.cli.plain_numpy import PlainNumpy


class PlainStep:
    """An optimizer's steps on these parameters, in place.

    Attributes:
        average: of the parameters, by name; empty if the optimizer has none.
    """

    def __init__(self, optimizer: Optimizer, params: Arrays) -> None:
        self.params, self._h, self._steps = params, options(optimizer), 0
        self._lr = self._h.lr if callable(self._h.lr) else None
        self._optimizer: Any = copy.copy(optimizer)  # whose learning rate is what the schedule says
        self._rule = PlainNumpy(self._optimizer, params)
        self._decay = {name: number for name in params if (number := self._decay_of(name))}
        self.average = {} if self._h.ema is None else {name: param.copy() for name, param in params.items()}

    def _decay_of(self, name: str) -> float:
        for pattern, values in (self._h.groups or {}).items():
            if fnmatchcase(name, pattern):
                return float(values["weight_decay"])  # the only one that recipes have
        return float(self._h.weight_decay)

    def update(self, grads: Arrays) -> None:
        """Make a step."""
        h = self._h
        if self._lr:
            self._optimizer.lr = h.lr = self._lr(self._steps)
            self._steps += 1
        if h.clip_norm is not None:
            norm = sqrt(sum(float(np.vdot(grad, grad)) for grad in grads.values()))
            scale = min(1.0, h.clip_norm / (norm + 1e-6))
            grads = {name: scale * grad for name, grad in grads.items()}
        for name, decay in self._decay.items():
            self.params[name] *= 1 - h.lr * decay  # decoupled from the gradient
        self._rule.update(grads)
        for name, average in self.average.items():
            average += (1 - h.ema) * (self.params[name] - average)
