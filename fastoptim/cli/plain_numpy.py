"""The optimizers' formulas as NumPy expressions: what the demo compares the kernels with.

They are written as people write them, in place where that costs nothing to read, and with the state in the same dtype.
Each takes one parameter: `formula(opt, t, p, g, *state)`, `t` being 1 at the first step.
"""

from collections.abc import Callable, Mapping
from math import sqrt
from typing import Any

import numpy as np

from fastoptim import Optimizer

Array = np.ndarray[Any, Any]


def sgd(opt: Any, t: int, p: Array, g: Array) -> None:
    p -= opt.lr * g


def momentum(opt: Any, t: int, p: Array, g: Array, v: Array) -> None:
    v[...] = opt.momentum * v - opt.lr * g
    p += v


def nesterov(opt: Any, t: int, p: Array, g: Array, v: Array) -> None:
    v[...] = opt.momentum * v - opt.lr * g
    p += opt.momentum * v - opt.lr * g


def adagrad(opt: Any, t: int, p: Array, g: Array, h: Array) -> None:
    h += g * g
    p -= opt.lr * g / (np.sqrt(h) + opt.eps)


def rmsprop(opt: Any, t: int, p: Array, g: Array, h: Array) -> None:
    h[...] = opt.decay_rate * h + (1 - opt.decay_rate) * g * g
    p -= opt.lr * g / (np.sqrt(h) + opt.eps)


def adam(opt: Any, t: int, p: Array, g: Array, m: Array, v: Array) -> None:
    m += (1 - opt.beta1) * (g - m)
    v += (1 - opt.beta2) * (g * g - v)
    step_size = opt.lr * sqrt(1 - opt.beta2**t) / (1 - opt.beta1**t)
    p -= step_size * m / (np.sqrt(v) + opt.eps)


FORMULAS: dict[str, Callable[..., None]] = {
    "SGD": sgd,
    "Momentum": momentum,
    "Nesterov": nesterov,
    "AdaGrad": adagrad,
    "RMSprop": rmsprop,
    "Adam": adam,
}


class PlainNumpy:
    """Makes an optimizer's steps by its formula, on copies of the parameters and with a state of its own."""

    def __init__(self, optimizer: Optimizer, params: Mapping[str, Array]) -> None:
        self._optimizer = optimizer
        self._formula = FORMULAS[type(optimizer).__name__]
        self.params = {name: param.copy() for name, param in params.items()}
        self._state = {name: [np.zeros_like(p) for _ in optimizer.slots] for name, p in params.items()}
        self._t = 0

    def copy_from(self, params: Mapping[str, Array]) -> None:
        """Begin the next step at these parameters."""
        for name, param in params.items():
            self.params[name][...] = param

    def update(self, grads: Mapping[str, Array]) -> None:
        self._t += 1
        for name, param in self.params.items():
            self._formula(self._optimizer, self._t, param, grads[name], *self._state[name])
