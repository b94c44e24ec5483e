"""Adam. Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization", https://arxiv.org/abs/1412.6980, section 2, and
Algorithm 1 with `eps_hat=False`; AMSGrad is Reddi, Kale & Kumar 2018, "On the Convergence of Adam and Beyond",
https://arxiv.org/abs/1904.09237, Algorithm 2
"""

from math import sqrt

from fastoptim.kernels.rule import rule
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, fraction, nonnegative, switch


@rule
def adam(p, g, m, v, step_size, one_minus_beta1, one_minus_beta2, eps):
    m = m + one_minus_beta1 * (g - m)  # first moment
    v = v + one_minus_beta2 * (g * g - v)  # second moment
    return p - step_size * m / (sqrt(v) + eps), m, v


@rule
def adam_eps_in_root(p, g, m, v, step_size, one_minus_beta1, one_minus_beta2, eps):
    m = m + one_minus_beta1 * (g - m)
    v = v + one_minus_beta2 * (g * g - v)
    return p - step_size * m / sqrt(v + eps), m, v


@rule
def amsgrad(p, g, m, v, v_max, step_size, one_minus_beta1, one_minus_beta2, eps):
    m = m + one_minus_beta1 * (g - m)
    v = v + one_minus_beta2 * (g * g - v)
    v_max = v_max if v_max > v else v  # nan stays nan
    return p - step_size * m / (sqrt(v_max) + eps), m, v, v_max


@rule
def amsgrad_eps_in_root(p, g, m, v, v_max, step_size, one_minus_beta1, one_minus_beta2, eps):
    m = m + one_minus_beta1 * (g - m)
    v = v + one_minus_beta2 * (g * g - v)
    v_max = v_max if v_max > v else v
    return p - step_size * m / sqrt(v_max + eps), m, v, v_max


class Adam(Optimizer):
    """Momentum and a learning rate for each element, both corrected for having begun at zero.

    Args:
        lr: learning rate, at least 0.
        beta1, beta2: the parts of the first and second moment that stay from one step to the next, in [0, 1).
        eps: what keeps the division from zero, at least 0.
        eps_hat: True for the form of the paper's section 2 (and Keras), which adds `eps` to the root before its bias is
            corrected; False for Algorithm 1 (and PyTorch, Optax), which adds it after.
        eps_in_root: True to add `eps` to the second moment, under the root, as much teaching code does (and Optax with
            `eps_root`): before its bias is corrected, or after, as `eps_hat` says.
        amsgrad: True to divide by the root of the largest second moment so far, `v_max`. It is the maximum of `v`
            before its bias is corrected, as in PyTorch and Keras; Optax takes that of the corrected one.
    """

    rule, slots = adam, ("m", "v")
    nonnegative_slots = ("v", "v_max")
    variants = {
        ("eps_in_root",): adam_eps_in_root,
        ("amsgrad",): (amsgrad, ("m", "v", "v_max")),
        ("amsgrad", "eps_in_root"): (amsgrad_eps_in_root, ("m", "v", "v_max")),
    }
    lr: Number = nonnegative(0.001)
    beta1: Number = fraction(0.9)
    beta2: Number = fraction(0.999)
    eps: Number = nonnegative(1e-7)
    eps_hat: bool = switch(True)
    eps_in_root: bool = switch(False)
    amsgrad: bool = switch(False)

    def scalars(self, t: int) -> tuple[float, ...]:
        beta1, beta2 = self.beta1, self.beta2
        bias1, bias2 = 1 - beta1**t, sqrt(1 - beta2**t)
        eps = self.eps if self.eps_hat else self.eps * (bias2 * bias2 if self.eps_in_root else bias2)
        return self.lr * bias2 / bias1, 1 - beta1, 1 - beta2, eps
