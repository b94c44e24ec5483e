"""Prodigy. Mishchenko & Defazio 2024, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner",
https://arxiv.org/abs/2306.06101, Algorithm 4, in the form of the authors' code
"""

from math import inf, sqrt

from fastoptim.kernels.rule import rule
from fastoptim.kernels.stages import Reduction
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, common, fraction, nonnegative, switch


@rule
def gains(p, g, s, p0, d, d0, inverse_d0, is_first, beta3, lr, s_lr):
    p0 = p if is_first > 0 else p0  # where the parameter began
    d = d0 if d == 0 else d  # there is no estimate before the first step
    weight = d * inverse_d0 * d  # the paper's d * d would vanish in float32; what is divided has the same factor
    s = beta3 * s + weight * s_lr * g
    return s, p0, weight * lr * g * (p0 - p), abs(s)


def d_before(d, d0):
    return d0 if d == 0 else d


def numerator(gained, numerator, beta3):
    return beta3 * numerator + gained


def d_max(numerator, denominator, d_max, d0, d_coef):
    d_hat = d_coef * numerator / denominator if denominator != 0 else 0.0
    largest = d_max if d_max > d0 else d0
    return largest if largest >= d_hat else d_hat


def d(d, d_max, d0, growth_rate):
    limit, first = d * growth_rate, d0 * 1.000001  # `d` may be a `d0` that was rounded to float32
    return limit if d > first and d_max > limit else d_max  # the first estimate above d0 may be any


@rule
def prodigy(p, g, m, v, s, p0, d_before, d, one_minus_beta1, one_minus_beta2, lr, weight_decay, eps):
    g, lr = d_before * g, d_before * lr
    m = m + one_minus_beta1 * (g - m)
    v = v + one_minus_beta2 * (g * g - v)
    return p - lr * weight_decay * p - lr * m / (sqrt(v) + d * eps), m, v, s, p0


class Prodigy(Optimizer):
    """Adam with a decay beside its step and with an estimated learning rate: `lr` is 1, or a schedule of at most 1.

    The estimate `d` tells how far the parameters began from the solution. It is one number for all arrays together,
    never falls, and multiplies the learning rate. The sums that it is made of are those over the arrays of a call.

    Args:
        lr: multiplies the estimated learning rate, at least 0.
        beta1, beta2: the parts of the first and second moment that stay from one step to the next, in [0, 1). The root
            of `beta2` is the part of the sums that stays, so that groups cannot change it.
        eps: what keeps the division from zero, at least 0; it is multiplied by `d`.
        weight_decay: this part of the parameter is taken from it at each step, times the learning rate.
        d0: the first estimate, in [1e-30, 1e30). It is the same for all groups, and so are the two that follow.
        d_coef: multiplies every new estimate, at least 0.
        growth_rate: how many times as large as the one before an estimate may be, at least 1; None for no limit. The
            first one above `d0` may be any.
        bias_correction: True to correct the moments for having begun at zero.
        safeguard_warmup: True to leave `lr` out of the estimate's denominator, for schedules that begin near 0.
    """

    rule, slots, shared_slots = prodigy, ("m", "v", "s", "p0"), ("d", "d_max", "numerator")
    nonnegative_slots, parameter_slots = ("v",), ("p0",)
    reductions = (Reduction(gains, ("gained", "denominator"), d_before, numerator, d_max, d, over_all=True),)
    lr: Number = nonnegative(1.0)
    beta1: Number = fraction(0.9)
    beta2: Number = common(fraction(0.999))
    eps: Number = nonnegative(1e-8)
    weight_decay: Number = nonnegative(0.0)
    d0: Number = common(Number(1e-6, "a number in [1e-30, 1e30)", low=1e-30, high=1e30))
    d_coef: Number = common(nonnegative(1.0))
    growth_rate: Number = common(Number(None, "a finite number >= 1", low=1.0, optional=True, schedule=True))
    bias_correction: bool = switch(False)
    safeguard_warmup: bool = switch(False)

    def scalars(self, t: int) -> tuple[float, ...]:
        beta1, beta2 = self.beta1, self.beta2
        lr = self.lr * sqrt(1 - beta2**t) / (1 - beta1**t) if self.bias_correction else self.lr
        is_first = 1.0 if t == 1 else 0.0
        s_lr = 1.0 if self.safeguard_warmup else lr
        growth_rate = inf if self.growth_rate is None else self.growth_rate
        of_the_sums = self.d0, 1 / self.d0, is_first, sqrt(beta2), lr, s_lr, self.d_coef, growth_rate
        return *of_the_sums, 1 - beta1, 1 - beta2, self.weight_decay, self.eps
