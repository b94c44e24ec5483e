"""NovoGrad. Ginsburg et al. 2019, "Stochastic Gradient Methods with Layer-wise Adaptive Moments for Training of Deep
Networks", https://arxiv.org/abs/1905.11286, Algorithm 1
"""

from math import sqrt

from fastoptim.kernels.rule import rule
from fastoptim.kernels.stages import Reduction
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, fraction, nonnegative


@rule
def squares(p, g):
    return g * g


def v(g_squares, v, one_minus_beta2):
    return v + one_minus_beta2 * (g_squares - v)  # second moment of the array


def scale(v, eps):
    return 1 / (sqrt(v) + eps)


@rule
def novograd(p, g, m, scale, lr, beta1, g_part, weight_decay):
    m = beta1 * m + g_part * (scale * g + weight_decay * p)  # first moment
    return p - lr * m, m


class NovoGrad(Optimizer):
    """Momentum of gradients that are divided by the root of their array's second moment.

    Args:
        lr: learning rate, at least 0.
        beta1, beta2: the parts of the first and second moment that stay from one step to the next, in [0, 1).
        eps: what keeps the division from zero, at least 0.
        weight_decay: this part of the parameter is added to the scaled gradient.
    """

    rule, slots, array_slots = novograd, ("m",), ("v",)
    reductions = (Reduction(squares, ("g_squares",), v, scale),)
    lr: Number = nonnegative(0.001)
    beta1: Number = fraction(0.9)
    beta2: Number = fraction(0.25)
    eps: Number = nonnegative(1e-6)
    weight_decay: Number = nonnegative(0.0)

    def scalars(self, t: int) -> tuple[float, ...]:
        return 1.0 if t == 1 else 1 - self.beta2, self.eps, self.lr, self.beta1, 1.0, self.weight_decay
