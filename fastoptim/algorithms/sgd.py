"""Stochastic gradient descent. Robbins & Monro 1951, "A Stochastic Approximation Method",
https://doi.org/10.1214/aoms/1177729586
"""

from fastoptim.kernels.rule import rule
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, nonnegative


@rule
def sgd(p, g, lr):
    return p - lr * g


class SGD(Optimizer):
    """Plain gradient descent: `p -= lr * g`.

    Args:
        lr: learning rate, at least 0.
    """

    rule = sgd
    lr: Number = nonnegative(0.01)

    def scalars(self, t: int) -> tuple[float, ...]:
        return (self.lr,)
