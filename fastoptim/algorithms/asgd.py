"""Averaged stochastic gradient descent. Polyak & Juditsky 1992, "Acceleration of Stochastic Approximation by
Averaging", https://doi.org/10.1137/0330046, with the steps and the decay of PyTorch's ASGD
"""

from typing import NamedTuple

from fastoptim.kernels.rule import rule
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, nonnegative


@rule
def asgd(p, g, ax, gamma, lambd, mu, one_minus_mu):
    p = p - gamma * (g + lambd * p)
    return p, one_minus_mu * ax + mu * p  # p itself while mu is 1


@rule
def average(p, g, ax):
    return ax


class Next(NamedTuple):
    """What a step computes for the one after it: how long that step is, and its weight in the average."""

    gamma_next: float
    mu_next: float


class ASGD(Optimizer):
    """Gradient descent with steps that become shorter, and a mean of the parameters, to evaluate with.

    The mean is the state `ax`. `with opt.averaged(params):` puts it in the place of the parameters. It begins after
    step `t0`; until then it is the parameters themselves. As in PyTorch, how long a step is follows from the `lr` of
    the step before.

    Args:
        lr: learning rate, at least 0.
        lambd: how fast the steps become shorter, and how much of the parameters decays in each, at least 0.
        alpha: the power with which the steps become shorter, at least 0.
        t0: the number of steps before the mean begins, at least 0.
    """

    rule, slots, evaluation = asgd, ("ax",), average
    parameter_slots = ("ax",)
    carry = Next(0.0, 1.0)
    lr: Number = nonnegative(0.01)
    lambd: Number = nonnegative(1e-4)
    alpha: Number = nonnegative(0.75)
    t0: Number = nonnegative(1e6)

    def next_carry(self, t: int) -> Next:
        return Next(self.lr / (1 + self.lambd * self.lr * t) ** self.alpha, 1 / max(1, t - self.t0))

    def scalars(self, t: int) -> tuple[float, ...]:
        gamma, mu = self.lr if t == 1 else self.carry_before.gamma_next, self.carry_before.mu_next
        return gamma, self.lambd, mu, 1 - mu
