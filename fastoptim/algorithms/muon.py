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
from fastoptim.settings.fields import Number, choice, count, fraction, nonnegative, switch
from fastoptim.settings.patterns import Patterns, first_match, patterns

A, B, C = 3.4445, -4.7750, 2.0315  # of the quintic iteration: steep at 0, so that few steps are enough


def orthogonalized(x: Any, steps: int) -> Any:
    """A matrix with the singular vectors of `x`, whose singular values come near 1: Newton and Schulz's iteration.

    The norm of `x` is at most 1, and its memory is used.
    """
    is_tall, short = x.shape[0] > x.shape[1], min(x.shape)
    gram, polynomial, product = (np.empty(shape, x.dtype) for shape in ((short, short), (short, short), x.shape))
    for _ in range(steps):  # x = A x + (B G + C G^2) x, on the shorter side
        left, right = (x.T, x) if is_tall else (x, x.T)
        np.matmul(left, right, out=gram)
        np.matmul(gram, gram.T, out=polynomial)  # of a product by the own transpose, BLAS computes one half alone
        polynomial *= C
        gram *= B
        polynomial += gram
        polynomial.reshape(-1)[:: short + 1] += A
        left, right = (x, polynomial) if is_tall else (polynomial, x)
        np.matmul(left, right, out=product)
        x, product = product, x
    return x


def muon(p, g, m, lr, momentum, nesterov, steps, norm_eps, is_matched, is_in_out):
    m += (1 - momentum) * (g - m)
    g += momentum * (m - g) if nesterov else m - g
    x = g.reshape((-1, g.shape[-1]) if is_in_out else (g.shape[0], -1))
    inputs, outputs = x.shape if is_in_out else x.shape[::-1]
    x /= max(float(np.linalg.norm(x)), norm_eps)
    u = orthogonalized(x, steps)
    u *= lr * (0.2 * sqrt(max(inputs, outputs)) if is_matched else sqrt(max(1, outputs / inputs)))
    return u.reshape(g.shape)


class Muon(Optimizer):
    """Momentum for matrices, made nearly orthogonal: all directions of the step are equally long. Others follow AdamW.

    Matrices are arrays of two axes or more, but for the names that `adamw` lists. Of more than two axes, as in
    convolutions, all but the one of the outputs count as inputs. The matrix products are NumPy's, so the last bits
    depend on the number of BLAS's threads. The arrays have to be on the CPU.

    Args:
        lr: learning rate of matrices, at least 0.
        momentum: the part of the mean gradient that stays from one step to the next, in [0, 1).
        nesterov: True to look one step ahead, as Nesterov's momentum does.
        steps: of the iteration that makes the matrix orthogonal, at least 1.
        eps: what keeps the division by the matrix's norm from zero, at least 0.
        scale: how long the step is: "original" for `lr * sqrt(max(1, outputs / inputs))`; "match_rms_adamw" for
            `lr * 0.2 * sqrt(max(inputs, outputs))`, which suits an `lr` and a decay that were found for AdamW.
        axes: "in_out" for weights with a row for each input, as in `x @ W`; "out_in" as in PyTorch, `x @ W.T`.
        adamw_lr: learning rate of other arrays, at least 0. It also multiplies their decay.
        beta1, beta2: the parts of their first and second moment that stay from one step to the next, in [0, 1).
        adamw_eps: what keeps their division from zero, at least 0.
        adamw: glob patterns of names that follow AdamW though they are matrices: embeddings and the last layer.
    """

    rule, slots = adam, ("m", "v")
    matrices = Matrices(muon, {"m": same_shape}, for_others={"lr": "adamw_lr"})
    lr: Number = nonnegative(0.02)
    momentum: Number = fraction(0.95)
    nesterov: bool = switch(True)
    steps: int = count(5)
    eps: Number = nonnegative(1e-7)
    scale: str = choice("original", "match_rms_adamw")
    axes: str = choice("in_out", "out_in")
    adamw_lr: Number = nonnegative(3e-4)
    beta1: Number = fraction(0.9)
    beta2: Number = fraction(0.95)
    adamw_eps: Number = nonnegative(1e-10)
    adamw: Patterns = patterns()
    decoupled = True

    def is_matrix(self, name: Any, shape: tuple[int, ...]) -> bool:
        return len(shape) > 1 and first_match(self.adamw, name) is None

    def scalars(self, t: int) -> tuple[float, ...]:
        bias1, bias2 = 1 - self.beta1**t, sqrt(1 - self.beta2**t)
        adamw = self.lr * bias2 / bias1, 1 - self.beta1, 1 - self.beta2, self.adamw_eps * bias2
        is_matched, is_in_out = self.scale == "match_rms_adamw", self.axes == "in_out"
        return *adamw, self.lr, self.momentum, self.nesterov, self.steps, self.eps, is_matched, is_in_out
