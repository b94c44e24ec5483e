"""RMSprop. Tieleman & Hinton 2012, "Neural Networks for Machine Learning", lecture 6e,
https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf
"""

from math import sqrt

from fastoptim.kernels.rule import rule
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, fraction, nonnegative, switch


@rule
def rmsprop(p, g, h, lr, decay_rate, one_minus_decay_rate, eps):
    h = decay_rate * h + one_minus_decay_rate * g * g  # mean of squares
    return p - lr * g / (sqrt(h) + eps), h


@rule
def rmsprop_eps_in_root(p, g, h, lr, decay_rate, one_minus_decay_rate, eps):
    h = decay_rate * h + one_minus_decay_rate * g * g
    return p - lr * g / sqrt(h + eps), h


class RMSprop(Optimizer):
    """AdaGrad that forgets: `h = decay_rate * h + (1 - decay_rate) * g * g; p -= lr * g / (sqrt(h) + eps)`.

    Args:
        lr: learning rate, at least 0.
        decay_rate: the part of the mean of squares that stays from one step to the next, in [0, 1).
        eps: what keeps the division from zero, at least 0.
        eps_in_root: True to add `eps` to `h`, under the root, as in Keras and, by default, in Optax.
    """

    rule, slots = rmsprop, ("h",)
    lr: Number = nonnegative(0.01)
    decay_rate: Number = fraction(0.99)
    eps: Number = nonnegative(1e-7)
    eps_in_root: bool = switch(False, rule=rmsprop_eps_in_root)

    def scalars(self, t: int) -> tuple[float, ...]:
        return self.lr, self.decay_rate, 1 - self.decay_rate, self.eps
