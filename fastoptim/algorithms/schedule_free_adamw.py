"""Schedule-free AdamW. Defazio et al. 2024, "The Road Less Scheduled", https://arxiv.org/abs/2405.15682, Algorithm 1,
with the bias correction and the weights of the authors' package `schedulefree`
"""

from math import sqrt

from fastoptim.algorithms.schedule_free_sgd import Weights
from fastoptim.kernels.rule import rule
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, fraction, nonnegative


@rule
def schedule_free_adamw(p, g, z, v, lr, toward_z, part, one_minus_beta2, bias, eps, weight_decay, is_first):
    z = p if is_first > 0 else z
    v = v + one_minus_beta2 * (g * g - v)  # second moment
    step = lr * (bias * g / (sqrt(v) + eps) + weight_decay * p)
    return p + toward_z * (z - p) - part * step, z - step, v


@rule
def average_of_adamw(p, g, z, v, away_from_z):
    return p + away_from_z * (p - z)


class ScheduleFreeAdamW(Optimizer):
    """AdamW that needs no schedule: gradients are taken between its iterates `z` and their average `x`.

    The parameters hold `y = (1 - beta1) z + beta1 x`, which gradients belong to. **Evaluate and export x**: it is in
    the place of the parameters within `with opt.averaged(params):`. The weight of a step in x is
    `t**r * lr_max**weight_lr_power`, where `lr_max` is the largest learning rate so far.

    The form is that of the package `schedulefree`: the second moment is corrected for having begun at zero, and `eps`
    is added after that. In the paper the correction is a part of the learning rate. The weight decay is beside Adam's
    step, and taken at y. So the option `decoupled` changes nothing. Each name has an average of its own, which begins
    with its first gradient; in `schedulefree` all of them share their weights.

    Args:
        lr: learning rate, at least 0; 1 to 10 times that of AdamW, the authors say. It may be a schedule.
        beta1: the part of the average in the parameters, in (0, 1): with 0, x could not be computed of y and z.
        beta2: the part of the second moment that stays from one step to the next, in [0, 1).
        eps: what keeps the division from zero, at least 0.
        weight_decay: `lr * weight_decay` of the parameters is taken from them, at least 0.
        warmup_steps: the number of steps in which the learning rate rises to `lr`, in a straight line from 0.
        r: the power of the step in its weight, at least 0.
        weight_lr_power: the power of the largest learning rate in the weight of a step, at least 0.
    """

    rule, slots, evaluation = schedule_free_adamw, ("z", "v"), average_of_adamw
    nonnegative_slots, parameter_slots = ("v",), ("z",)
    carry = Weights()
    lr: Number = nonnegative(0.0025)
    beta1: Number = Number(0.9, "a number in (0, 1)", high=1.0, open_below=True, schedule=True)
    beta2: Number = fraction(0.999)
    eps: Number = nonnegative(1e-8)
    weight_decay: Number = nonnegative(0.0)
    warmup_steps: Number = nonnegative(0)
    r: Number = nonnegative(0.0)
    weight_lr_power: Number = nonnegative(2.0)

    def rate(self, t: int) -> float:
        return self.lr * t / self.warmup_steps if t < self.warmup_steps else self.lr

    def next_carry(self, t: int) -> Weights:
        lr_max = max(self.carry.lr_max, self.rate(t))
        return Weights(self.carry.weight_sum + t**self.r * lr_max**self.weight_lr_power, lr_max, self.beta1)

    def scalars(self, t: int) -> tuple[float, ...]:
        before, after = self.carry_before, self.carry
        kept_t = before.weight_sum / after.weight_sum if after.weight_sum > 0 else 0.0  # of the average: 1 - c
        toward_z, part = 1 - kept_t * after.momentum / before.momentum, 1 - kept_t * after.momentum
        bias, is_first = sqrt(1 - self.beta2**t), 1.0 if t == 1 else 0.0
        return self.rate(t), toward_z, part, 1 - self.beta2, bias, self.eps * bias, self.weight_decay, is_first

    def evaluation_scalars(self, t: int) -> tuple[float, ...]:
        return (1 / self.carry.momentum - 1,)
