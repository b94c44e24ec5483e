"""NovoGrad. Ginsburg et al. 2019, "Stochastic Gradient Methods with Layer-wise Adaptive Moments for Training of Deep
Networks", https://arxiv.org/abs/1905.11286, Algorithm 1
"""

from math import sqrt

from fastoptim.kernels.rule import rule
from fastoptim.kernels.stages import Reduction
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, fraction, nonnegative, switch


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
    """Momentum of gradients that are divided by the root of their array's second moment, which is one number.

    The first step has the whole gradient in both moments. The weight decay is part of the rule, so the option
    `decoupled` changes nothing. The defaults are those of the authors' code.

    Args:
        lr: learning rate, at least 0.
        beta1, beta2: the parts of the first and second moment that stay from one step to the next, in [0, 1).
        eps: what keeps the division from zero, at least 0.
        weight_decay: this part of the parameter is added to the scaled gradient.
        grad_averaging: True for a first moment that is a mean, of `1 - beta1` of each gradient from the second on.
    """

    rule, slots, array_slots = novograd, ("m",), ("v",)
    reductions = (Reduction(squares, ("g_squares",), v, scale),)
    lr: Number = nonnegative(0.001)
    beta1: Number = fraction(0.95)
    beta2: Number = fraction(0.98)
    eps: Number = nonnegative(1e-8)
    weight_decay: Number = nonnegative(0.0)
    grad_averaging: bool = switch(False)

    def scalars(self, t: int) -> tuple[float, ...]:
        one_minus_beta2 = 1.0 if t == 1 else 1 - self.beta2
        g_part = 1 - self.beta1 if self.grad_averaging and t > 1 else 1.0
        return one_minus_beta2, self.eps, self.lr, self.beta1, g_part, self.weight_decay
