"""Muon. Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks",
https://kellerjordan.github.io/posts/muon/; the scale `match_rms_adamw` is Liu et al. 2025, "Muon is Scalable for LLM
Training", https://arxiv.org/abs/2502.16982, equation 4
"""

from math import sqrt
from typing import Any

import numpy as np

from fastoptim.algorithms.adam import adam
from fastoptim.kernels.matrices import Matrices, same_shape
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, fraction, nonnegative, switch

A, B, C = 3.4445, -4.7750, 2.0315  # of Newton's and Schulz's quintic iteration


def orthogonalized(m: Any, steps: int, eps: float) -> Any:
    """Nearly the orthogonal matrix that is nearest to `m`, in float32: its singular values lie about 1."""
    x = m.astype(np.float32)
    is_tall = x.shape[0] > x.shape[1]
    x = x.T if is_tall else x
    x = x / max(float(np.linalg.norm(x)), eps)
    for _ in range(steps):
        gram = x @ x.T
        x = A * x + (B * gram + C * (gram @ gram)) @ x
    return x.T if is_tall else x


def muon(p, g, m, lr, momentum, nesterov, steps, muon_eps, is_matched):
    m *= momentum
    m += (1 - momentum) * g
    u = momentum * m + (1 - momentum) * g if nesterov else m
    outputs, inputs = g.shape
    scale = 0.2 * sqrt(max(outputs, inputs)) if is_matched else sqrt(max(1, outputs / inputs))
    return lr * scale * orthogonalized(u, int(steps), muon_eps)


class Muon(Optimizer):
    """Momentum whose matrices are made orthogonal. All other arrays, and matrices by name, follow AdamW."""

    rule, slots = adam, ("m", "v")
    matrices = Matrices(muon, {"m": same_shape})
    lr: Number = nonnegative(0.02)
    momentum: Number = fraction(0.95)
    nesterov: bool = switch(True)
    beta1: Number = fraction(0.9)
    beta2: Number = fraction(0.95)
    eps: Number = nonnegative(1e-8)

    def scalars(self, t: int) -> tuple[float, ...]:
        bias1, bias2 = 1 - self.beta1**t, sqrt(1 - self.beta2**t)
        adam = self.lr * bias2 / bias1, 1 - self.beta1, 1 - self.beta2, self.eps * bias2
        return *adam, self.lr, self.momentum, self.nesterov, 5, 1e-7, 0
