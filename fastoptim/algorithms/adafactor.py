"""Adafactor. Shazeer & Stern 2018, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost",
https://arxiv.org/abs/1804.04235, Algorithms 4 and 5, in PyTorch's form
"""

from math import sqrt
from typing import Any

import numpy as np

from fastoptim.kernels.matrices import Matrices
from fastoptim.kernels.rule import rule
from fastoptim.kernels.stages import Reduction
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, nonnegative, switch

CHUNK = 16_384  # elements of a matrix that are worked on at a time, so that they stay in the cache


@rule
def second_moment(p, g, v, one_minus_beta2, smallest):
    v = v + one_minus_beta2 * (g * g - v)
    u = g / sqrt(v if v > smallest else smallest)
    return v, p * p, u * u


def step_size(p_squares, u_squares, size, eps2, rho, clip):
    alpha = max(eps2, sqrt(p_squares / size)) * rho
    return alpha / max(1.0, sqrt(u_squares / size) / clip)


@rule
def adafactor(p, g, v, step_size, smallest, decay):
    return p - decay * p - step_size * (g / sqrt(v if v > smallest else smallest)), v


def rows(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a number for each row of the last two axes."""
    return shape[:-1]


def columns(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a number for each column of the last two axes."""
    return (*shape[:-2], shape[-1])


def mean_squares(x: Any, row: Any, column: Any) -> None:
    """The means of a matrix's squares over each row and each column."""
    column[...] = 0
    step = max(1, CHUNK // max(x.shape[1], 1))
    for start in range(0, len(x), step):
        squares = np.square(x[start : start + step])
        squares.mean(axis=1, out=row[start : start + step])
        column += squares.sum(axis=0)
    column /= max(len(x), 1)


def divide(x: Any, row: Any, column: Any, smallest: float) -> float:
    """Divide a matrix by the root of `row[i] * column[j]`, and return the sum of squares."""
    total, step = 0.0, max(1, CHUNK // max(x.shape[1], 1))
    for start in range(0, len(x), step):
        part = x[start : start + step]
        variance = row[start : start + step, None] * column
        part /= np.sqrt(np.maximum(variance, smallest, out=variance), out=variance)
        total += float(np.square(part, out=variance).sum(dtype=np.float64))
    return total


def factored(p, g, row, column, one_minus_beta2, eps1, eps2, smallest, rho, clip, decay):
    u, shape = g.reshape(-1, *g.shape[-2:]), g.shape
    r, c, squares = row.reshape(-1, shape[-2]), column.reshape(-1, shape[-1]), 0.0
    for i, x in enumerate(u):
        new_row, new_column = np.empty_like(r[i]), np.empty_like(c[i])
        mean_squares(x, new_row, new_column)
        r[i] += one_minus_beta2 * (new_row - r[i])
        c[i] += one_minus_beta2 * (new_column - c[i])
        squares += divide(x, r[i] / max(float(r[i].mean()), eps1), c[i], smallest)
    size = max(g.size, 1)
    in_order = np.ascontiguousarray(p)  # the order of the additions must not depend on the layout
    length = sqrt(float(np.square(in_order, dtype=np.float64).sum()) / size)
    g *= max(eps2, length) * rho / max(1.0, sqrt(squares / size) / clip)
    if decay:
        g += decay * p
    return g


class Adafactor(Optimizer):
    """Adam's second moment from the means of its rows and columns: state as long as the sides of a matrix alone.

    Arrays of more than two axes are matrices in the last two of them. Vectors have a second moment for each element.
    There is no first moment. The step is in proportion to the root of the parameter's mean square.

    Args:
        lr: the relative learning rate, at least 0.
        decay_power: the part of the second moment that is new at step t is t to this power, from -1 to 0.
        eps1: keeps the second moment from zero, and its root; PyTorch's default is the dtype's precision, here that of
            float32.
        eps2: the least root of a parameter's mean square that counts, at least 0.
        clip: the largest root of the mean square of a step before `lr` multiplies it, above 0; `d` in PyTorch.
        weight_decay: `lr` times this part of the parameter is taken from it at each step.
        relative_step: True to limit `lr` to the inverse root of the step, as in the paper and in PyTorch.
    """

    rule, slots = adafactor, ("v",)
    reductions = (Reduction(second_moment, ("p_squares", "u_squares"), step_size),)
    matrices = Matrices(factored, {"row": rows, "column": columns})
    lr: Number = nonnegative(0.01)
    decay_power: Number = Number(-0.8, "a number in [-1, 0]", low=-1.0, high=1e-300)
    eps1: Number = nonnegative(float(np.finfo(np.float32).eps))
    eps2: Number = nonnegative(1e-3)
    clip: Number = Number(1.0, "a finite number > 0", open_below=True)
    weight_decay: Number = nonnegative(0.0)
    relative_step: bool = switch(False)

    def is_matrix(self, name: Any, shape: tuple[int, ...]) -> bool:
        return len(shape) >= 2

    def scalars(self, t: int) -> tuple[float, ...]:
        rho = min(self.lr, 1 / sqrt(t)) if self.relative_step else self.lr
        first = float(t) ** self.decay_power, self.eps1 * self.eps1, self.eps2, rho, self.clip
        return *first, self.lr * self.weight_decay, self.eps1
