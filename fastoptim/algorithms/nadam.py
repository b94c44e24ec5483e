"""NAdam. Dozat 2016, "Incorporating Nesterov Momentum into Adam", https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ,
Algorithm 2
"""

from math import sqrt

from fastoptim.kernels.rule import rule
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, fraction, nonnegative


@rule
def nadam(p, g, m, v, g_size, m_size, one_minus_beta1, one_minus_beta2, eps):
    m = m + one_minus_beta1 * (g - m)  # first moment
    v = v + one_minus_beta2 * (g * g - v)  # second moment
    return p - (g_size * g + m_size * m) / (sqrt(v) + eps), m, v


class NAdam(Optimizer):
    """Adam with Nesterov's momentum: each step already looks along the momentum of the next one.

    This is PyTorch's form. The momentum is `mu(t) = beta1 * (1 - 0.5 * 0.96**(momentum_decay * t))`, which grows from
    half of `beta1` to `beta1`. The product of all momentums so far is carried from step to step. In the paper and in
    Keras, `momentum_decay` is 1. Optax's momentum is `beta1` from the first step on: any large `momentum_decay`.

    Args:
        lr: learning rate, at least 0.
        beta1, beta2: the parts of the first and second moment that stay from one step to the next, in [0, 1).
        eps: what keeps the division from zero, at least 0. It is added after the second moment's bias is corrected.
        momentum_decay: how fast the momentum grows to `beta1`, at least 0.
    """

    rule, slots = nadam, ("m", "v")
    nonnegative_slots = ("v",)
    carry = 1.0  # the product of the momentums so far
    lr: Number = nonnegative(0.002)
    beta1: Number = fraction(0.9)
    beta2: Number = fraction(0.999)
    eps: Number = nonnegative(1e-8)
    momentum_decay: Number = nonnegative(0.004)

    def mu(self, t: int) -> float:
        """The momentum of step `t`."""
        momentum: float = self.beta1 * (1 - 0.5 * 0.96 ** (self.momentum_decay * t))
        return momentum

    def next_carry(self, t: int) -> float:
        return self.carry * self.mu(t)

    def scalars(self, t: int) -> tuple[float, ...]:
        mu_t, mu_next, bias2 = self.mu(t), self.mu(t + 1), sqrt(1 - self.beta2**t)
        g_size = self.lr * bias2 * (1 - mu_t) / (1 - self.carry)
        m_size = self.lr * bias2 * mu_next / (1 - self.carry * mu_next)
        return g_size, m_size, 1 - self.beta1, 1 - self.beta2, self.eps * bias2
