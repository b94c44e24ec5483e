"""Adding gradients to sums, as an algorithm of its own: its parameters are the sums."""

from typing import Any

from fastoptim.kernels.rule import rule
from fastoptim.settings.algorithm import Algorithm


@rule
def add(p: Any, g: Any) -> Any:
    return p + g


class Accumulation(Algorithm):
    """`p += g`, where the options grad_scale, zero_grads and skip_nonfinite are those of the optimizer."""

    rule = add

    def scalars(self, t: int) -> tuple[float, ...]:
        return ()
