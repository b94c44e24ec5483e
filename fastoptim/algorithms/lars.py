"""LARS. You, Gitman & Ginsburg 2017, "Large Batch Training of Convolutional Networks", https://arxiv.org/abs/1708.03888,
Algorithm 1
"""

from math import sqrt

from fastoptim.kernels.rule import rule
from fastoptim.kernels.stages import Reduction
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, fraction, nonnegative


@rule
def squares(p, g):
    return p * p, g * g


def trust_ratio(p_squares, g_squares, trust, weight_decay, eps):
    p_norm, g_norm = sqrt(p_squares), sqrt(g_squares)
    return trust * p_norm / (g_norm + weight_decay * p_norm + eps) if p_norm > 0 and g_norm > 0 else 1.0


@rule
def lars(p, g, v, trust_ratio, lr, momentum, weight_decay):
    v = momentum * v + lr * trust_ratio * (g + weight_decay * p)
    return p - v, v


class LARS(Optimizer):
    """Momentum with a learning rate for each array, in proportion to the norm of the parameter and not of the gradient.

    `v = momentum * v + lr * ratio * (g + weight_decay * p); p -= v`, where the ratio is
    `trust * |p| / (|g| + weight_decay * |p| + eps)`, with the norms of whole arrays. It is 1 where one of them is zero.

    Args:
        lr: learning rate, at least 0.
        momentum: the part of the velocity that stays from one step to the next, in [0, 1).
        weight_decay: this part of the parameter is added to the gradient, and to its norm.
        trust: the paper's coefficient, how far a step may go beside the norm of the parameter, at least 0.
        eps: what keeps the division from zero, at least 0.
    """

    rule, slots = lars, ("v",)
    reductions = (Reduction(squares, ("p_squares", "g_squares"), trust_ratio),)
    lr: Number = nonnegative(1.0)
    momentum: Number = fraction(0.9)
    weight_decay: Number = nonnegative(0.0)
    trust: Number = nonnegative(0.001)
    eps: Number = nonnegative(0.0)

    def scalars(self, t: int) -> tuple[float, ...]:
        return self.trust, self.weight_decay, self.eps, self.lr, self.momentum
