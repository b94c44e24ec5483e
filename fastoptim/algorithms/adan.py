"""Adan. Xie et al. 2022, "Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep Models",
https://arxiv.org/abs/2208.06677, Algorithm 1
"""

from math import sqrt

from fastoptim.kernels.rule import rule
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, fraction, nonnegative


@rule
def adan(p, g, m, v, n, previous, m_size, v_size, has_previous, one_minus_beta1, beta2, one_minus_beta2,
         one_minus_beta3, eps, shrink):  # fmt: skip
    d = has_previous * (g - previous)  # how the gradient has changed
    m = m + one_minus_beta1 * (g - m)  # mean of the gradients
    v = v + one_minus_beta2 * (d - v)  # mean of their changes
    ahead = g + beta2 * d
    n = n + one_minus_beta3 * (ahead * ahead - n)  # second moment
    return shrink * (p - (m_size * m + v_size * v) / (sqrt(n) + eps)), m, v, n, g


class Adan(Optimizer):
    """Adam with Nesterov's momentum, which it takes from how the gradients change: it keeps the gradient before.

    This is the form of the authors' code, which corrects the moments' bias, as Algorithm 1 does not. The paper's betas
    are 1 - `beta1` and so on. The weight decay is proximal: the parameter is divided by `1 + lr * weight_decay` after
    the step. So the option `decoupled` has no effect. Optax multiplies changes by `1 - beta2` in the place of `beta2`.

    Args:
        lr: learning rate, at least 0.
        beta1, beta2, beta3: the parts of the means of gradients, of their changes, and of the second moment that stay
            from one step to the next, in [0, 1).
        eps: what keeps the division from zero, at least 0.
        weight_decay: the paper's lambda, at least 0.
    """

    rule, slots = adan, ("m", "v", "n", "previous")
    nonnegative_slots = ("n",)
    lr: Number = nonnegative(0.001)
    beta1: Number = fraction(0.98)
    beta2: Number = fraction(0.92)
    beta3: Number = fraction(0.99)
    eps: Number = nonnegative(1e-8)
    weight_decay: Number = nonnegative(0.0)

    def scalars(self, t: int) -> tuple[float, ...]:
        beta1, beta2, beta3, bias3 = self.beta1, self.beta2, self.beta3, sqrt(1 - self.beta3**t)
        m_size = self.lr * bias3 / (1 - beta1**t)
        v_size = self.lr * beta2 * bias3 / (1 - beta2**t)
        has_previous = 1.0 if t > 1 else 0.0
        shrink = 1 / (1 + self.lr * self.weight_decay)
        return m_size, v_size, has_previous, 1 - beta1, beta2, 1 - beta2, 1 - beta3, self.eps * bias3, shrink
