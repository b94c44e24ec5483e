"""Nesterov's accelerated gradient. Nesterov 1983; in the form of Sutskever, Martens, Dahl & Hinton 2013,
"On the importance of initialization and momentum in deep learning", https://proceedings.mlr.press/v28/sutskever13.html,
rewritten for the parameters at which the gradient is taken, as Bengio, Boulanger-Lewandowski & Pascanu 2013 do,
https://arxiv.org/abs/1212.0901, section 3.5
"""

from fastoptim.kernels.rule import rule
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, fraction, nonnegative


@rule
def nesterov(p, g, v, lr, momentum):
    v = momentum * v - lr * g  # velocity
    return p + (momentum * v - lr * g), v  # ... and one step further along it


class Nesterov(Optimizer):
    """Momentum that looks ahead: `v = momentum * v - lr * g; p += momentum * v - lr * g`, with the new `v`.

    Args:
        lr: learning rate, at least 0.
        momentum: the part of the velocity that stays from one step to the next, in [0, 1).
    """

    rule, slots = nesterov, ("v",)
    lr: Number = nonnegative(0.01)
    momentum: Number = fraction(0.9)

    def scalars(self, t: int) -> tuple[float, ...]:
        return self.lr, self.momentum
