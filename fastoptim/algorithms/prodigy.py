"""Prodigy. Mishchenko & Defazio 2024, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner",
https://arxiv.org/abs/2306.06101, Algorithm 4, in the form of the authors' code
"""

from math import sqrt

from fastoptim.kernels.rule import rule
from fastoptim.kernels.stages import Reduction
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, fraction, nonnegative, switch


@rule
def moments(p, g, m, v, s, p0, d, d0, inverse_d0, is_first, one_minus_beta1, one_minus_beta2, beta3, lr, s_lr):
    p0 = p0 + is_first * (p - p0)  # where the parameter began
    d = d if d > 0 else d0
    m = m + one_minus_beta1 * (d * g - m)
    v = v + one_minus_beta2 * (d * g * (d * g) - v)
    s = beta3 * s + d * inverse_d0 * d * s_lr * g
    return m, v, s, p0, d * inverse_d0 * d * lr * g * (p0 - p), abs(s)


def step_size(d, d0, lr):
    return (d if d > 0 else d0) * lr  # the estimate before this step


def numerator(gained, numerator, beta3):
    return beta3 * numerator + gained


def d_max(numerator, length, d_max, d0, d_coef):
    return max(d_max, d0, d_coef * numerator / length if length > 0 else 0.0)


def d(d, d_max, d0, growth_rate):
    return min(d_max, d * growth_rate) if d > d0 else d_max  # the first estimate may be any


@rule
def prodigy(p, g, m, v, s, p0, step_size, d, weight_decay, eps):
    return p - step_size * weight_decay * p - step_size * m / (sqrt(v) + d * eps), m, v, s, p0


class Prodigy(Optimizer):
    """AdamW whose learning rate is estimated: `lr` stays 1, or is a schedule whose largest value is 1.

    `d` estimates how far the parameters began from the solution. It is one number for all arrays together, never falls,
    and multiplies the learning rate.

    Args:
        lr: multiplies the estimated learning rate, at least 0.
        beta1, beta2: the parts of the first and second moment that stay from one step to the next, in [0, 1). The
            part of the estimate's sums that stays is the root of `beta2`.
        eps: what keeps the division from zero, at least 0; it is multiplied by `d`.
        weight_decay: this part of the parameter is taken from it at each step, times the learning rate.
        d0: the first estimate, above 0.
        d_coef: multiplies every new estimate.
        growth_rate: how many times as large as the one before an estimate may be, from the second on; at least 1.
        bias_correction: True to correct the moments for having begun at zero.
        safeguard_warmup: True to leave `lr` out of the estimate's denominator, for schedules that begin near 0.
    """

    rule, slots, shared_slots = prodigy, ("m", "v", "s", "p0"), ("d", "d_max", "numerator")
    reductions = (Reduction(moments, ("gained", "length"), step_size, numerator, d_max, d, over_all=True),)
    lr: Number = nonnegative(1.0)
    beta1: Number = fraction(0.9)
    beta2: Number = fraction(0.999)
    eps: Number = nonnegative(1e-8)
    weight_decay: Number = nonnegative(0.0)
    d0: Number = Number(1e-6, "a number in [1e-30, 1]", low=1e-30, high=1.000001)
    d_coef: Number = nonnegative(1.0)
    growth_rate: Number = Number(1e30, "a number in [1, 1e30]", low=1.0, high=1.1e30)
    bias_correction: bool = switch(False)
    safeguard_warmup: bool = switch(False)

    def scalars(self, t: int) -> tuple[float, ...]:
        beta1, beta2 = self.beta1, self.beta2
        lr = self.lr * sqrt(1 - beta2**t) / (1 - beta1**t) if self.bias_correction else self.lr
        s_lr = 1.0 if self.safeguard_warmup else lr
        numbers = self.d0, 1 / self.d0, float(t == 1), 1 - beta1, 1 - beta2, sqrt(beta2), lr, s_lr
        return *numbers, self.d_coef, self.growth_rate, self.weight_decay, self.eps
