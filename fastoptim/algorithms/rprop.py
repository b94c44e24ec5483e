"""Rprop. Riedmiller & Braun 1993, "A Direct Adaptive Method for Faster Backpropagation Learning: The RPROP Algorithm",
https://doi.org/10.1109/ICNN.1993.298623
"""

from fastoptim.kernels.rule import rule
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, nonnegative

FLOAT32 = 1e-30  # at least: rounded to float32, it is not zero


@rule
def rprop(p, g, previous, step, lr, eta_minus, eta_plus, min_step_size, max_step_size, zero):
    step = step if step > 0 else lr  # it is 0 before the first step alone
    product = g * previous
    step = step * eta_plus if product > 0 else step * eta_minus if product < 0 else step
    step = max_step_size if step > max_step_size else min_step_size if step < min_step_size else step
    g = zero if product < 0 else g  # back at the other side of a minimum: wait for the next gradient
    return p - (step if g > 0 else -step if g < 0 else g), g, step


class Rprop(Optimizer):
    """Each element has its own step size, and moves by it along the sign of its gradient, whatever the gradient's size.

    While the sign stays, the step size grows. When it changes, the step size shrinks, and the element stays where it
    is for one step. It needs the gradient of all data: the signs of small batches change by chance.

    This is PyTorch's form, known as iRprop- (Igel & Huesken 2003, https://doi.org/10.1016/S0925-2312(01)00700-7). The
    paper's takes the last step back when the sign changes. Optax's `rprop` makes each step one call later.

    Args:
        lr: the first step size, at least 0. A later value holds for names whose first step is yet to come.
        eta_minus: what the step size is multiplied by when the sign has changed, in (0, 1).
        eta_plus: what it is multiplied by while the sign stays, above 1.
        min_step_size, max_step_size: the limits of the step size, at least 1e-30.
    """

    rule, slots, full_batch = rprop, ("previous", "step"), True
    nonnegative_slots = ("step",)
    lr: Number = nonnegative(0.01)
    eta_minus: Number = Number(0.5, "a number in (0, 1)", high=1.0, open_below=True, schedule=True)
    eta_plus: Number = Number(1.2, "a finite number > 1", low=1.0, open_below=True, schedule=True)
    min_step_size: Number = Number(1e-6, "a finite number >= 1e-30", low=FLOAT32, schedule=True)
    max_step_size: Number = Number(50.0, "a finite number >= 1e-30", low=FLOAT32, schedule=True)

    def scalars(self, t: int) -> tuple[float, ...]:
        return self.lr, self.eta_minus, self.eta_plus, self.min_step_size, self.max_step_size, 0.0
