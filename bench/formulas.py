"""The formulas in NumPy on dicts, in place, the way a good teaching network has them."""

from math import sqrt
from typing import Any

import numpy as np

from bench.workloads import Arrays


class Formula:
    """One optimizer: `h` are its hyperparameters and options, by fastoptim's names."""

    def __init__(self, params: Arrays, h: Any) -> None:
        self.h, self.t = h, 0
        self.m = {name: np.zeros_like(param) for name, param in params.items()}
        self.average = {} if h.ema is None else {name: param.copy() for name, param in params.items()}

    def update(self, params: Arrays, grads: Arrays) -> None:
        """The step, and one pass for each thing around it."""
        h = self.h
        if h.clip_norm is not None:
            norm = sqrt(sum(float(np.vdot(grad, grad)) for grad in grads.values()))
            scale = min(1.0, h.clip_norm / (norm + 1e-6))
            grads = {name: scale * grad for name, grad in grads.items()}
        if h.weight_decay:
            for param in params.values():
                param *= 1 - h.lr * h.weight_decay  # decoupled from the gradient
        self.step(params, grads)
        for name, average in self.average.items():
            average += (1 - h.ema) * (params[name] - average)

    def step(self, params: Arrays, grads: Arrays) -> None:
        raise NotImplementedError


class SGD(Formula):
    def step(self, params: Arrays, grads: Arrays) -> None:
        for name in params:
            params[name] -= self.h.lr * grads[name]


class Momentum(Formula):
    def step(self, params: Arrays, grads: Arrays) -> None:
        h, m = self.h, self.m
        for name in params:
            m[name] *= h.momentum
            m[name] -= h.lr * grads[name]
            params[name] += m[name]


class Nesterov(Formula):
    def step(self, params: Arrays, grads: Arrays) -> None:
        h, m = self.h, self.m
        for name in params:
            scaled = h.lr * grads[name]
            m[name] *= h.momentum
            m[name] -= scaled
            params[name] += h.momentum * m[name] - scaled


class AdaGrad(Formula):
    def step(self, params: Arrays, grads: Arrays) -> None:
        h, m = self.h, self.m
        for name in params:
            m[name] += grads[name] * grads[name]
            params[name] -= h.lr * grads[name] / (np.sqrt(m[name]) + h.eps)


class RMSprop(Formula):
    def step(self, params: Arrays, grads: Arrays) -> None:
        h, m = self.h, self.m
        for name in params:
            m[name] *= h.decay_rate
            m[name] += (1 - h.decay_rate) * grads[name] * grads[name]
            params[name] -= h.lr * grads[name] / (np.sqrt(m[name]) + h.eps)


class Adam(Formula):
    def __init__(self, params: Arrays, h: Any) -> None:
        super().__init__(params, h)
        self.v = {name: np.zeros_like(param) for name, param in params.items()}

    def step(self, params: Arrays, grads: Arrays) -> None:
        h, m, v = self.h, self.m, self.v
        self.t += 1
        bias1, bias2 = 1 - h.beta1**self.t, sqrt(1 - h.beta2**self.t)
        step_size, eps = h.lr * bias2 / bias1, h.eps if h.eps_hat else h.eps * bias2
        for name in params:
            m[name] += (1 - h.beta1) * (grads[name] - m[name])
            v[name] += (1 - h.beta2) * (grads[name] * grads[name] - v[name])
            params[name] -= step_size * m[name] / (np.sqrt(v[name]) + eps)


FORMULAS = {formula.__name__: formula for formula in (SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam)}
