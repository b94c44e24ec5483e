"""ADOPT. Taniguchi et al. 2024, "ADOPT: Modified Adam Can Converge with Any beta2 with the Optimal Rate",
https://arxiv.org/abs/2411.02853, the algorithm with clipping
"""

from math import sqrt

from fastoptim.kernels.rule import rule
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, fraction, nonnegative


@rule
def adopt(p, g, m, v, lr, one_minus_beta1, one_minus_beta2, c, eps):
    root = sqrt(v)  # of the gradients before this one
    root = root if root > eps else eps
    ratio = g / root
    ratio = ratio if -c < ratio < c else c if g > 0 else -c if g < 0 else g  # at the end, g is 0 or nan
    m = m + one_minus_beta1 * (ratio - m)  # first moment
    v = v + one_minus_beta2 * (g * g - v)  # second moment
    return p - lr * m, m, v


class ADOPT(Optimizer):
    """Adam that divides a gradient by the second moment of those before it, and then takes the momentum.

    This is the authors' form. The first step only fills `v`. Later, the ratio is clipped to the interval from -c to c,
    where c is the fourth root of the number of steps before. Optax does the same; `pytorch_optimizer` takes the root of
    the number of this step. The option `decoupled` decays in the first step, too; the authors' code does not.

    Args:
        lr: learning rate, at least 0.
        beta1, beta2: the parts of the first and second moment that stay from one step to the next, in [0, 1).
        eps: the least that is divided by, at least 0.
    """

    rule, slots = adopt, ("m", "v")
    nonnegative_slots = ("v",)
    lr: Number = nonnegative(0.001)
    beta1: Number = fraction(0.9)
    beta2: Number = fraction(0.9999)
    eps: Number = nonnegative(1e-6)

    def scalars(self, t: int) -> tuple[float, ...]:
        one_minus_beta2 = 1 - self.beta2 if t > 1 else 1.0  # the first v is the whole square
        c = (t - 1) ** 0.25  # 0 in the first step: p and m stay
        return self.lr, 1 - self.beta1, one_minus_beta2, c, self.eps
