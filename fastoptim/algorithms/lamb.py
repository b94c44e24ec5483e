"""LAMB. You et al. 2020, "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes",
https://arxiv.org/abs/1904.00962, Algorithm 2
"""

from math import sqrt

from fastoptim.kernels.rule import rule
from fastoptim.kernels.stages import Reduction
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, fraction, nonnegative, switch


@rule
def moments(p, g, m, v, one_minus_beta1, one_minus_beta2, scale, eps, weight_decay):
    m = m + one_minus_beta1 * (g - m)  # first moment
    v = v + one_minus_beta2 * (g * g - v)  # second moment
    r = scale * m / (sqrt(v) + eps) + weight_decay * p
    return m, v, p * p, r * r


def ratio(p_squares, r_squares, adapt):
    return sqrt(p_squares) / sqrt(r_squares) if adapt > 0 and p_squares > 0 and r_squares > 0 else 1.0


@rule
def lamb(p, g, m, v, ratio, scale, eps, weight_decay, lr):
    r = scale * m / (sqrt(v) + eps) + weight_decay * p
    return p - lr * ratio * r, m, v


class LAMB(Optimizer):
    """Adam's step with decay, which is given the length `lr` times the norm of its array.

    The norms are those of whole arrays. The ratio is 1 where one of them is zero. The paper's function phi is the norm
    itself. The weight decay is part of the rule, so the option `decoupled` changes nothing.

    Args:
        lr: learning rate, at least 0.
        beta1, beta2: the parts of the first and second moment that stay from one step to the next, in [0, 1).
        eps: what keeps the division from zero, at least 0.
        weight_decay: this part of the parameter is added to the step.
        adapt: False for a ratio of 1, as is usual for biases: `groups={"*.b": {"adapt": False, "weight_decay": 0}}`.
    """

    rule, slots = lamb, ("m", "v")
    nonnegative_slots = ("v",)
    reductions = (Reduction(moments, ("p_squares", "r_squares"), ratio),)
    lr: Number = nonnegative(0.001)
    beta1: Number = fraction(0.9)
    beta2: Number = fraction(0.999)
    eps: Number = nonnegative(1e-6)
    weight_decay: Number = nonnegative(0.0)
    adapt: bool = switch(True)

    def scalars(self, t: int) -> tuple[float, ...]:
        bias1, bias2 = 1 - self.beta1**t, sqrt(1 - self.beta2**t)
        moments = 1 - self.beta1, 1 - self.beta2, bias2 / bias1, self.eps * bias2, self.weight_decay
        return *moments, 1.0 if self.adapt else 0.0, self.lr
