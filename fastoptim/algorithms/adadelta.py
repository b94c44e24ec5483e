"""Adadelta. Zeiler 2012, "ADADELTA: An Adaptive Learning Rate Method", https://arxiv.org/abs/1212.5701, Algorithm 1"""

from math import sqrt

from fastoptim.kernels.rule import rule
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, fraction, nonnegative


@rule
def adadelta(p, g, h, u, lr, one_minus_decay_rate, eps):
    h = h + one_minus_decay_rate * (g * g - h)  # mean of the squared gradients
    d = sqrt((u + eps) / (h + eps)) * g  # one root: the paper divides two
    u = u + one_minus_decay_rate * (d * d - u)  # mean of the squared steps
    return p - lr * d, h, u


class Adadelta(Optimizer):
    """Steps as long as those before: `p -= lr * d`, where `d = sqrt((u + eps) / (h + eps)) * g`.

    `u` is the mean of `d * d`, and `h` of `g * g`. Both forget as RMSprop does.

    This is PyTorch's form, with its defaults. The paper has no `lr`, which is 1 here. Optax has the same form. So has
    Keras, whose `lr` is 0.001, `decay_rate` 0.95 and `eps` 1e-7 by default.

    Args:
        lr: what each step is multiplied by, at least 0.
        decay_rate: the part of the two means that stays from one step to the next, in [0, 1); the paper's rho.
        eps: what is added to both means under the root, at least 0. It sets the length of the first steps.
    """

    rule, slots = adadelta, ("h", "u")
    nonnegative_slots = ("h", "u")
    lr: Number = nonnegative(1.0)
    decay_rate: Number = fraction(0.9)
    eps: Number = nonnegative(1e-6)

    def scalars(self, t: int) -> tuple[float, ...]:
        return self.lr, 1 - self.decay_rate, self.eps
