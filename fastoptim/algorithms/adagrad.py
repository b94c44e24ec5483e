"""AdaGrad. Duchi, Hazan & Singer 2011, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization",
https://jmlr.org/papers/v12/duchi11a.html, the diagonal form
"""

from math import sqrt

from fastoptim.kernels.rule import rule
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, nonnegative, switch


@rule
def adagrad(p, g, h, lr, eps):
    h = h + g * g  # sum of squares
    return p - lr * g / (sqrt(h) + eps), h


@rule
def adagrad_eps_in_root(p, g, h, lr, eps):
    h = h + g * g
    return p - lr * g / sqrt(h + eps), h


class AdaGrad(Optimizer):
    """A learning rate for each element, falling with its gradients: `h += g * g; p -= lr * g / (sqrt(h) + eps)`.

    Args:
        lr: learning rate, at least 0.
        eps: what keeps the division from zero, at least 0.
        eps_in_root: True to add `eps` to `h`, under the root, as in Keras, Optax and much teaching code.
    """

    rule, slots = adagrad, ("h",)
    nonnegative_slots = ("h",)
    variants = {("eps_in_root",): adagrad_eps_in_root}
    lr: Number = nonnegative(0.01)
    eps: Number = nonnegative(1e-7)
    eps_in_root: bool = switch(False)

    def scalars(self, t: int) -> tuple[float, ...]:
        return self.lr, self.eps
