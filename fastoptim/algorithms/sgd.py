"""Stochastic gradient descent. Robbins & Monro 1951, "A Stochastic Approximation Method",
https://doi.org/10.1214/aoms/1177729586; momentum in the form of PyTorch, after Sutskever, Martens, Dahl & Hinton 2013,
"On the importance of initialization and momentum in deep learning", https://proceedings.mlr.press/v28/sutskever13.html
"""

from fastoptim.kernels.rule import rule
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, fraction, nonnegative, switch


@rule
def sgd(p, g, lr):
    return p - lr * g


@rule
def sgd_momentum(p, g, b, lr, momentum, one_minus_dampening):
    b = momentum * b + one_minus_dampening * g  # momentum buffer
    return p - lr * b, b


@rule
def sgd_nesterov(p, g, b, lr, momentum, one_minus_dampening):
    b = momentum * b + one_minus_dampening * g
    return p - lr * (g + momentum * b), b


class SGD(Optimizer):
    """Gradient descent: `p -= lr * g`; with momentum, in PyTorch's form, `b = momentum * b + g; p -= lr * b`.

    `Momentum` and `Nesterov` have the learning rate inside their velocity. They make the same steps while `lr` stays as
    it is. When it changes, the whole buffer moves by the new rate at once here; there each gradient keeps the rate that
    it came with.

    Args:
        lr: learning rate, at least 0.
        momentum: the part of the buffer that stays from one step to the next, in [0, 1). At 0 there is no buffer.
        dampening: the part of the gradient that is left out of the buffer, in [0, 1); not at a name's first step,
            and not while `momentum` is 0.
        nesterov: True to step along the gradient and `momentum` times the new buffer.
    """

    rule = sgd
    variants = {
        ("momentum",): (sgd_momentum, ("b",)),
        ("momentum", "nesterov"): (sgd_nesterov, ("b",)),
    }
    lr: Number = nonnegative(0.01)
    momentum: Number = fraction(0.0)
    dampening: Number = fraction(0.0)
    nesterov: bool = switch(False)

    def scalars(self, t: int) -> tuple[float, ...]:
        if "momentum" not in self.variant:
            return (self.lr,)
        return self.lr, self.momentum, 1.0 if t == 1 or self.momentum == 0 else 1 - self.dampening
