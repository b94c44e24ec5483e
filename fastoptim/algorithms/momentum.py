"""Momentum, the heavy-ball method. Polyak 1964, "Some methods of speeding up the convergence of iteration methods",
https://doi.org/10.1016/0041-5553(64)90137-5
"""

from fastoptim.kernels.rule import rule
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, fraction, nonnegative


@rule
def heavy_ball(p, g, v, lr, momentum):
    v = momentum * v - lr * g  # velocity
    return p + v, v


class Momentum(Optimizer):
    """Gradient descent with a velocity, the learning rate inside it: `v = momentum * v - lr * g; p += v`.

    Args:
        lr: learning rate, at least 0.
        momentum: the part of the velocity that stays from one step to the next, in [0, 1).
    """

    rule, slots = heavy_ball, ("v",)
    lr: Number = nonnegative(0.01)
    momentum: Number = fraction(0.9)

    def scalars(self, t: int) -> tuple[float, ...]:
        return self.lr, self.momentum
