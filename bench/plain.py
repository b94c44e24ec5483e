"""Plain NumPy's whole step: the rule on whole arrays, and one pass for each thing that is around it."""

from math import sqrt

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
        self.params, self._h = params, options(optimizer)
        self._rule = PlainNumpy(optimizer, params)
        self.average = {} if self._h.ema is None else {name: param.copy() for name, param in params.items()}

    def update(self, grads: Arrays) -> None:
        """Make a step."""
        h = self._h
        if h.clip_norm is not None:
            norm = sqrt(sum(float(np.vdot(grad, grad)) for grad in grads.values()))
            scale = min(1.0, h.clip_norm / (norm + 1e-6))
            grads = {name: scale * grad for name, grad in grads.items()}
        if h.weight_decay:
            for param in self.params.values():
                param *= 1 - h.lr * h.weight_decay  # decoupled from the gradient
        self._rule.update(grads)
        for name, average in self.average.items():
            average += (1 - h.ema) * (self.params[name] - average)
