"""Steps without a gradient: what they do to an element is a matrix, where a rule without a gradient is linear.

So any number of them is one matrix, too. The matrix is found by asking the rule.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from fastoptim.kernels import Kernels
from fastoptim.kernels.fuse import Fused, around
from fastoptim.kernels.rule import Rule, arguments, rule

Array = np.ndarray[Any, Any]
MOST = 4  # numbers of an element: parameter, slots and average
PROBES, TOLERANCE = 3, 1e-9
NOT_LINEAR = "a step of {} without a gradient is no product, so that many of them have no closed form"


def idle_matrix(own: Rule, slots: int, fused: Fused, scalars: Sequence[float]) -> Array | None:
    """What a step with a gradient of zero does to an element: the matrix that its numbers are multiplied by.

    Args:
        own: the rule.
        slots: how many it has.
        fused: the options.
        scalars: the numbers of the step.

    Returns:
        float64 `(n, n)`, of the parameter, the slots and the average; None where the step is no such product.
    """
    fused = fused._replace(copy=False, zero_grads=False)
    count, size = len(arguments(own)) - 2 - slots, 1 + slots + fused.ema
    step = around(own, count, slots, fused, lambda updated, p, state: updated if slots else (updated,))
    numbers = [np.float64(x) for x in scalars]

    def applied(element: Any) -> Array:
        p, *state = map(np.float64, element)
        returned = step(p, np.float64(0), *state, *numbers)
        return np.array(returned if isinstance(returned, tuple) else (returned,), np.float64)

    with np.errstate(all="ignore"):
        if applied(np.zeros(size)).any():
            return None
        matrix = np.stack([applied(column) for column in np.eye(size)], axis=1)
        rng = np.random.default_rng(0)
        for scale in 10.0 ** np.arange(-PROBES, PROBES + 1):
            element = rng.random(size) * scale  # slots may have to be positive
            element[0] *= rng.choice([-1, 1])
            expected, found = matrix @ element, applied(element)
            if not np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE * scale):
                return None
    return matrix


class MatrixOf:
    """Finds the matrices of a stage's steps: mostly the one of the step before."""

    def __init__(self, stage: Any) -> None:
        self._of = stage.rule, len(stage.slots), stage.kernels.fused
        self._latest: tuple[list[float], Array | None] = [], None

    def __call__(self, scalars: list[float]) -> Array | None:
        """The matrix of a step with these numbers, see `idle_matrix`."""
        if self._latest[0] != scalars:
            self._latest = scalars, idle_matrix(*self._of, scalars)
        return self._latest[1]


@cache
def idle_kernels(size: int, has_copy: bool) -> Kernels:
    """The kernels that multiply elements of so many numbers by a matrix.

    Their scalars are how many steps were missed, and the matrix, row after row. Without a missed step, they leave the
    element as it is.
    """
    names = ["p", *(f"s{i}" for i in range(1, size))]
    matrix = [[f"a{i}{j}" for j in range(size)] for i in range(size)]
    new = [
        f"({' + '.join(f'{a} * {x}' for a, x in zip(row, names, strict=True))} if missed > 0 else {name})"
        for row, name in zip(matrix, names, strict=True)
    ]
    given = ", ".join(["p", "g", *names[1:], "missed", *(a for row in matrix for a in row)])
    missed_steps = eval(f"lambda {given}: ({', '.join(new)},)" if size > 1 else f"lambda {given}: {new[0]}")
    missed_steps.__name__ = missed_steps.__qualname__ = f"missed_steps_{size}"
    return Kernels(rule(missed_steps), size - 1, Fused(copy=has_copy), "steps without a gradient")
