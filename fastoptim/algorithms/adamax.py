"""AdaMax. Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization", https://arxiv.org/abs/1412.6980, section 7.1,
Algorithm 2
"""

from fastoptim.kernels.rule import rule
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, fraction, nonnegative


@rule
def adamax(p, g, m, u, step_size, one_minus_beta1, beta2, eps):
    m = m + one_minus_beta1 * (g - m)  # first moment
    u, size = beta2 * u, abs(g) + eps
    u = u if u > size else size  # the largest gradient, which is forgotten slowly
    return p - step_size * m / u, m, u


class AdaMax(Optimizer):
    """Adam with the largest gradient in the place of the second moment: `u = max(beta2 * u, |g| + eps)`.

    This is PyTorch's form, and Optax's. The paper has no `eps`. Keras adds it to `u` when it divides.

    Args:
        lr: learning rate, at least 0.
        beta1: the part of the first moment that stays from one step to the next, in [0, 1).
        beta2: the part of the largest gradient that stays from one step to the next, in [0, 1).
        eps: what keeps the division from zero, at least 0.
    """

    rule, slots = adamax, ("m", "u")
    nonnegative_slots = ("u",)
    lr: Number = nonnegative(0.002)
    beta1: Number = fraction(0.9)
    beta2: Number = fraction(0.999)
    eps: Number = nonnegative(1e-8)

    def scalars(self, t: int) -> tuple[float, ...]:
        return self.lr / (1 - self.beta1**t), 1 - self.beta1, self.beta2, self.eps
