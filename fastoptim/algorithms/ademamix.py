"""AdEMAMix. Pagliardini, Ablin & Grangier 2024, "The AdEMAMix Optimizer: Better, Faster, Older",
https://arxiv.org/abs/2409.03137, Algorithm 1
"""

from math import exp, log, sqrt

from fastoptim.kernels.rule import rule
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, fraction, nonnegative


@rule
def ademamix(p, g, m1, m2, v, m1_size, m2_size, one_minus_beta1, one_minus_beta2, one_minus_beta3, eps):
    m1 = m1 + one_minus_beta1 * (g - m1)  # fast mean of the gradients
    m2 = m2 + one_minus_beta3 * (g - m2)  # slow one
    v = v + one_minus_beta2 * (g * g - v)  # second moment
    return p - (m1_size * m1 + m2_size * m2) / (sqrt(v) + eps), m1, m2, v


class AdEMAMix(Optimizer):
    """Adam with a second, slow mean of the gradients, which remembers tens of thousands of steps.

    This is the paper's form, which does not correct the slow mean's bias. With warm-ups, `alpha` grows linearly from 0,
    and `beta3` grows from `beta1` so that the mean's half-life grows linearly. The paper's weight decay is
    `weight_decay` with `decoupled=True`. In `pytorch_optimizer`, both warm-ups have one length. Optax has no warm-ups,
    but schedules for both numbers.

    Args:
        lr: learning rate, at least 0.
        beta1, beta2: the parts of the fast mean and the second moment that stay from one step to the next, in [0, 1).
        beta3: the part of the slow mean that stays from one step to the next, in [0, 1).
        alpha: how much the slow mean counts, at least 0.
        alpha_warmup: the number of steps in which `alpha` grows, 0 for none; the paper's T_alpha.
        beta3_warmup: the number of steps in which `beta3` grows, 0 for none; the paper's T_beta3.
        eps: what keeps the division from zero, at least 0.
    """

    rule, slots = ademamix, ("m1", "m2", "v")
    nonnegative_slots = ("v",)
    lr: Number = nonnegative(0.001)
    beta1: Number = fraction(0.9)
    beta2: Number = fraction(0.999)
    beta3: Number = fraction(0.9999)
    alpha: Number = nonnegative(5.0)
    alpha_warmup: Number = nonnegative(0)
    beta3_warmup: Number = nonnegative(0)
    eps: Number = nonnegative(1e-8)

    def beta3_at(self, t: int) -> float:
        """The paper's f_beta3: 1 / log(beta), and so the half-life, grows linearly from that of `beta1`."""
        start, end = log(max(self.beta1, 1e-300)), log(max(self.beta3, 1e-300))  # 0 has no logarithm
        part = t / self.beta3_warmup
        return exp(1 / ((1 - part) / start + part / end))

    def scalars(self, t: int) -> tuple[float, ...]:
        bias1, bias2 = 1 - self.beta1**t, sqrt(1 - self.beta2**t)
        alpha_t = self.alpha if t >= self.alpha_warmup else self.alpha * t / self.alpha_warmup
        beta3_t = self.beta3 if t >= self.beta3_warmup else min(self.beta3_at(t), self.beta3)
        m1_size, m2_size = self.lr * bias2 / bias1, self.lr * bias2 * alpha_t
        return m1_size, m2_size, 1 - self.beta1, 1 - self.beta2, 1 - beta3_t, self.eps * bias2
