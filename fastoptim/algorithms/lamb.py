"""LAMB. You et al. 2020, "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes",
https://arxiv.org/abs/1904.00962, Algorithm 2
"""

from math import sqrt

from fastoptim.kernels.rule import rule
from fastoptim.kernels.stages import Reduction
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, fraction, nonnegative


@rule
def moments(p, g, m, v, one_minus_beta1, one_minus_beta2, scale, eps, weight_decay):
    m = m + one_minus_beta1 * (g - m)
    v = v + one_minus_beta2 * (g * g - v)
    r = scale * m / (sqrt(v) + eps) + weight_decay * p
    return m, v, p * p, r * r


def trust_ratio(p_squares, r_squares):
    return sqrt(p_squares) / sqrt(r_squares) if p_squares > 0 and r_squares > 0 else 1.0


@rule
def lamb(p, g, m, v, trust_ratio, scale, eps, weight_decay, lr):
    r = scale * m / (sqrt(v) + eps) + weight_decay * p
    return p - lr * trust_ratio * r, m, v


class LAMB(Optimizer):
    """Adam's step with decay, made as long for each array as the array's norm says: `p -= lr * |p| / |r| * r`.

    `r` is Adam's step with both moments corrected, plus `weight_decay * p`. The ratio is 1 where one of the norms is
    zero. Names are left out of the decay by `groups={"b*": {"weight_decay": 0}}`.

    Args:
        lr: learning rate, at least 0.
        beta1, beta2: the parts of the first and second moment that stay from one step to the next, in [0, 1).
        eps: what keeps the division from zero, at least 0.
        weight_decay: this part of the parameter is added to the step.
    """

    rule, slots = lamb, ("m", "v")
    reductions = (Reduction(moments, ("p_squares", "r_squares"), trust_ratio),)
    lr: Number = nonnegative(0.001)
    beta1: Number = fraction(0.9)
    beta2: Number = fraction(0.999)
    eps: Number = nonnegative(1e-6)
    weight_decay: Number = nonnegative(0.0)

    def scalars(self, t: int) -> tuple[float, ...]:
        bias1, bias2 = 1 - self.beta1**t, sqrt(1 - self.beta2**t)
        return 1 - self.beta1, 1 - self.beta2, bias2 / bias1, self.eps * bias2, self.weight_decay, self.lr
