"""Schedule-free SGD. Defazio et al. 2024, "The Road Less Scheduled", https://arxiv.org/abs/2405.15682, section 1.1,
with the weights of the authors' package `schedulefree`
"""

from typing import NamedTuple

from fastoptim.kernels.rule import rule
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, nonnegative


@rule
def schedule_free_sgd(p, g, z, lr, toward_z, part, weight_decay, is_first):
    z = p if is_first > 0 else z
    step = lr * (g + weight_decay * p)
    return p + toward_z * (z - p) - part * step, z - step


@rule
def average_of_sgd(p, g, z, away_from_z):
    return p + away_from_z * (p - z)


class Weights(NamedTuple):
    """What the average x of a name has had so far.

    Attributes:
        weight_sum: of all steps.
        lr_max: the largest learning rate.
        momentum: with which the parameters were made of x and z.
    """

    weight_sum: float = 0.0
    lr_max: float = 0.0
    momentum: float = 1.0


class ScheduleFreeSGD(Optimizer):
    """SGD that needs no schedule: gradients are taken between its iterates `z` and their average `x`.

    The parameters hold `y = (1 - momentum) z + momentum x`, which gradients belong to. **Evaluate and export x**: it is
    in the place of the parameters within `with opt.averaged(params):`. The weight of a step in x is
    `t**r * lr_max**weight_lr_power`, where `lr_max` is the largest learning rate so far.

    The weight decay is part of the gradient, and taken at y. So the option `decoupled` changes nothing. Each name has
    an average of its own, which begins with its first gradient; in `schedulefree` all of them share their weights.

    Args:
        lr: learning rate, at least 0; 10 to 50 times that of SGD, the authors say. It may be a schedule.
        momentum: the part of the average in the parameters, in (0, 1): with 0, x could not be computed of y and z.
        weight_decay: this part of the parameters is added to their gradient, at least 0.
        warmup_steps: the number of steps in which the learning rate rises to `lr`, in a straight line from 0.
        r: the power of the step in its weight, at least 0.
        weight_lr_power: the power of the largest learning rate in the weight of a step, at least 0.
    """

    rule, slots, evaluation = schedule_free_sgd, ("z",), average_of_sgd
    parameter_slots = ("z",)
    carry = Weights()
    lr: Number = nonnegative(1.0)
    momentum: Number = Number(0.9, "a number in (0, 1)", high=1.0, open_below=True, schedule=True)
    weight_decay: Number = nonnegative(0.0)
    warmup_steps: Number = nonnegative(0)
    r: Number = nonnegative(0.0)
    weight_lr_power: Number = nonnegative(2.0)

    def rate(self, t: int) -> float:
        return self.lr * t / self.warmup_steps if t < self.warmup_steps else self.lr

    def next_carry(self, t: int) -> Weights:
        lr_max = max(self.carry.lr_max, self.rate(t))
        return Weights(self.carry.weight_sum + t**self.r * lr_max**self.weight_lr_power, lr_max, self.momentum)

    def scalars(self, t: int) -> tuple[float, ...]:
        before, after = self.carry_before, self.carry
        kept_t = before.weight_sum / after.weight_sum if after.weight_sum > 0 else 0.0  # of the average: 1 - c
        toward_z, part = 1 - kept_t * after.momentum / before.momentum, 1 - kept_t * after.momentum
        return self.rate(t), toward_z, part, self.weight_decay, 1.0 if t == 1 else 0.0

    def evaluation_scalars(self, t: int) -> tuple[float, ...]:
        return (1 / self.carry.momentum - 1,)
