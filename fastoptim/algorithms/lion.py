"""Lion. Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", https://arxiv.org/abs/2302.06675"""

from fastoptim.kernels.rule import rule
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, fraction, nonnegative


@rule
def lion(p, g, m, lr, one_minus_beta1, one_minus_beta2):
    c = m + one_minus_beta1 * (g - m)  # the direction
    step = lr if c > 0 else -lr if c < 0 else c  # lr * sign(c), which is c itself for 0 and nan
    return p - step, m + one_minus_beta2 * (g - m)


class Lion(Optimizer):
    """Each element moves by `lr`: `p -= lr * sign(m + (1 - beta1)(g - m)); m += (1 - beta2)(g - m)`, with the old `m`.

    The paper's weight decay is `weight_decay` with `decoupled=True`. Its authors advise a learning rate 3 to 10 times
    smaller than AdamW's, and a weight decay as many times larger.

    Args:
        lr: learning rate, at least 0.
        beta1: the part of the momentum in the direction of the step, in [0, 1).
        beta2: the part of the momentum that stays from one step to the next, in [0, 1).
    """

    rule, slots = lion, ("m",)
    lr: Number = nonnegative(1e-4)
    beta1: Number = fraction(0.9)
    beta2: Number = fraction(0.99)

    def scalars(self, t: int) -> tuple[float, ...]:
        return self.lr, 1 - self.beta1, 1 - self.beta2
