"""LARS. You, Gitman & Ginsburg 2017, "Large Batch Training of Convolutional Networks", https://arxiv.org/abs/1708.03888,
Algorithm 1
"""

from math import sqrt

from fastoptim.kernels.rule import rule
from fastoptim.kernels.stages import Reduction
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, fraction, nonnegative, switch


@rule
def squares(p, g):
    return p * p, g * g


def ratio(p_squares, g_squares, trust, weight_decay, eps, adapt):
    p_norm, g_norm = sqrt(p_squares), sqrt(g_squares)
    local = trust * p_norm / (g_norm + weight_decay * p_norm + eps)
    return local if adapt > 0 and p_norm > 0 and g_norm > 0 else 1.0


@rule
def lars(p, g, v, ratio, lr, momentum, weight_decay):
    v = momentum * v + lr * ratio * (g + weight_decay * p)
    return p - v, v


class LARS(Optimizer):
    """Momentum whose learning rate follows, for each array, its norm and the norm of its gradient.

    The norms are those of whole arrays. The ratio is 1 where one of them is zero. The weight decay is part of the rule,
    so the option `decoupled` changes nothing.

    Args:
        lr: learning rate, at least 0.
        momentum: the part of the velocity that stays from one step to the next, in [0, 1).
        weight_decay: this part of the parameter is added to its gradient, and this part of its norm to the gradient's.
        trust: the paper's coefficient: with `lr` of 1, the part of an array's norm that a step has.
        eps: what keeps the division from zero, at least 0.
        adapt: False for a ratio of 1, as is usual for biases: `groups={"*.b": {"adapt": False, "weight_decay": 0}}`.
    """

    rule, slots = lars, ("v",)
    reductions = (Reduction(squares, ("p_squares", "g_squares"), ratio),)
    lr: Number = nonnegative(1.0)
    momentum: Number = fraction(0.9)
    weight_decay: Number = nonnegative(0.0)
    trust: Number = nonnegative(0.001)
    eps: Number = nonnegative(0.0)
    adapt: bool = switch(True)

    def scalars(self, t: int) -> tuple[float, ...]:
        return self.trust, self.weight_decay, self.eps, 1.0 if self.adapt else 0.0, self.lr, self.momentum
