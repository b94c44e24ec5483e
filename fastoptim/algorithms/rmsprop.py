"""RMSprop. Tieleman & Hinton 2012, "Neural Networks for Machine Learning", lecture 6e,
https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf; centered, and with momentum: Graves 2013,
"Generating Sequences With Recurrent Neural Networks", https://arxiv.org/abs/1308.0850, equations 38 to 41
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


@rule
def centered(p, g, h, mean, lr, decay_rate, one_minus_decay_rate, eps):
    h = decay_rate * h + one_minus_decay_rate * g * g
    mean = decay_rate * mean + one_minus_decay_rate * g
    variance = abs(h - mean * mean)  # below zero only by rounding
    return p - lr * g / (sqrt(variance) + eps), h, mean


@rule
def centered_eps_in_root(p, g, h, mean, lr, decay_rate, one_minus_decay_rate, eps):
    h = decay_rate * h + one_minus_decay_rate * g * g
    mean = decay_rate * mean + one_minus_decay_rate * g
    variance = abs(h - mean * mean)
    return p - lr * g / sqrt(variance + eps), h, mean


@rule
def with_momentum(p, g, h, b, lr, decay_rate, one_minus_decay_rate, eps, momentum):
    h = decay_rate * h + one_minus_decay_rate * g * g
    b = momentum * b + g / (sqrt(h) + eps)  # momentum buffer
    return p - lr * b, h, b


@rule
def with_momentum_eps_in_root(p, g, h, b, lr, decay_rate, one_minus_decay_rate, eps, momentum):
    h = decay_rate * h + one_minus_decay_rate * g * g
    b = momentum * b + g / sqrt(h + eps)
    return p - lr * b, h, b


@rule
def centered_with_momentum(p, g, h, mean, b, lr, decay_rate, one_minus_decay_rate, eps, momentum):
    h = decay_rate * h + one_minus_decay_rate * g * g
    mean = decay_rate * mean + one_minus_decay_rate * g
    variance = abs(h - mean * mean)
    b = momentum * b + g / (sqrt(variance) + eps)
    return p - lr * b, h, mean, b


@rule
def centered_with_momentum_eps_in_root(p, g, h, mean, b, lr, decay_rate, one_minus_decay_rate, eps, momentum):
    h = decay_rate * h + one_minus_decay_rate * g * g
    mean = decay_rate * mean + one_minus_decay_rate * g
    variance = abs(h - mean * mean)
    b = momentum * b + g / sqrt(variance + eps)
    return p - lr * b, h, mean, b


class RMSprop(Optimizer):
    """AdaGrad that forgets: `h = decay_rate * h + (1 - decay_rate) * g * g; p -= lr * g / (sqrt(h) + eps)`.

    Args:
        lr: learning rate, at least 0.
        decay_rate: the part of the means that stays from one step to the next, in [0, 1).
        eps: what keeps the division from zero, at least 0.
        eps_in_root: True to add `eps` to `h`, under the root, as in Keras and, by default, in Optax.
        centered: True to divide by the standard deviation: the square of the gradients' mean is taken from `h`.
        momentum: the part of a buffer of steps that stays from one step to the next, in [0, 1). At 0 there is none. As
            in PyTorch, the learning rate is outside of the buffer: `b = momentum * b + g / ...; p -= lr * b`. Keras has
            it inside, which is the same while it does not change.
    """

    rule, slots = rmsprop, ("h",)
    nonnegative_slots = ("h",)
    variants = {
        ("eps_in_root",): rmsprop_eps_in_root,
        ("centered",): (centered, ("h", "mean")),
        ("centered", "eps_in_root"): (centered_eps_in_root, ("h", "mean")),
        ("momentum",): (with_momentum, ("h", "b")),
        ("momentum", "eps_in_root"): (with_momentum_eps_in_root, ("h", "b")),
        ("centered", "momentum"): (centered_with_momentum, ("h", "mean", "b")),
        ("centered", "momentum", "eps_in_root"): (centered_with_momentum_eps_in_root, ("h", "mean", "b")),
    }
    lr: Number = nonnegative(0.01)
    decay_rate: Number = fraction(0.99)
    eps: Number = nonnegative(1e-7)
    eps_in_root: bool = switch(False)
    centered: bool = switch(False)
    momentum: Number = fraction(0.0)

    def scalars(self, t: int) -> tuple[float, ...]:
        numbers = self.lr, self.decay_rate, 1 - self.decay_rate, self.eps
        return (*numbers, self.momentum) if "momentum" in self.variant else numbers
