"""RAdam. Liu et al. 2020, "On the Variance of the Adaptive Learning Rate and Beyond", https://arxiv.org/abs/1908.03265,
Algorithm 2
"""

from math import sqrt

from fastoptim.kernels.rule import rule
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, fraction, nonnegative


@rule
def radam(p, g, m, v, step_size, is_rectified, one_minus_beta1, one_minus_beta2, eps):
    m = m + one_minus_beta1 * (g - m)  # first moment
    v = v + one_minus_beta2 * (g * g - v)  # second moment
    return p - (step_size * m / (sqrt(v) + eps) if is_rectified > 0 else step_size * m), m, v


class RAdam(Optimizer):
    """Adam that warms itself up: its steps are as long as the number of gradients in `v` lets them be trusted.

    In the first steps, while `rho_t` is at most 5, they are those of momentum without adaptation. This is PyTorch's
    form: `eps` is added before the bias of the root is corrected. Optax adds it after.

    Args:
        lr: learning rate, at least 0.
        beta1, beta2: the parts of the first and second moment that stay from one step to the next, in [0, 1).
        eps: what keeps the division from zero, at least 0.
    """

    rule, slots = radam, ("m", "v")
    nonnegative_slots = ("v",)
    lr: Number = nonnegative(0.001)
    beta1: Number = fraction(0.9)
    beta2: Number = fraction(0.999)
    eps: Number = nonnegative(1e-8)

    def scalars(self, t: int) -> tuple[float, ...]:
        bias1, bias2 = 1 - self.beta1**t, 1 - self.beta2**t
        rho_inf = 2 / (1 - self.beta2) - 1
        rho_t = rho_inf - 2 * t * self.beta2**t / bias2  # as many gradients are in v, roughly
        if rho_t > 5:
            r_t = sqrt((rho_t - 4) * (rho_t - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho_t))
            step_size, is_rectified = self.lr * r_t * sqrt(bias2) / bias1, 1.0
        else:
            step_size, is_rectified = self.lr / bias1, 0.0
        return step_size, is_rectified, 1 - self.beta1, 1 - self.beta2, self.eps
