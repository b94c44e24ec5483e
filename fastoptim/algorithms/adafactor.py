"""Adafactor. Shazeer & Stern 2018, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost",
https://arxiv.org/abs/1804.04235, Algorithm 4 for matrices and 5 for vectors, in PyTorch's form
"""

from collections.abc import Iterator
from math import sqrt
from typing import Any

import numpy as np

from fastoptim.kernels.matrices import Matrices
from fastoptim.kernels.rule import rule
from fastoptim.kernels.stages import Reduction
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, nonnegative, switch

SLAB = 65_536  # elements that NumPy works on at a time, so that they stay in the cache


@rule
def second_moment(p, g, v, one_minus_beta2, eps1):
    v = v + one_minus_beta2 * (g * g - v)
    root = sqrt(v)
    root = eps1 if root < eps1 else root
    return v, p * p, g / root * (g / root)


def step_size(p_squares, u_squares, size, rho, eps2, clip_threshold):
    p_rms, u_rms = sqrt(p_squares / size), sqrt(u_squares / size)
    length = eps2 if p_rms < eps2 else p_rms
    excess = u_rms / clip_threshold
    return rho * length / (1.0 if excess < 1 else excess)


@rule
def adafactor(p, g, v, step_size, eps1, decay):
    root = sqrt(v)
    root = eps1 if root < eps1 else root
    return p - decay * p - step_size * (g / root), v


def factored(p, g, row, column, one_minus_beta2, eps1, rho, eps2, clip_threshold, decay):
    """The step of an array, whose last two axes are matrices."""
    u, p = as_3d(g), as_3d(np.ascontiguousarray(p))  # additions are in one order, whatever the layout of p
    r, c = row.reshape(u.shape[:2]), column.reshape(u.shape[::2])
    r_squares, c_squares = mean_squares(u)
    r += one_minus_beta2 * (r_squares - r)
    c += one_minus_beta2 * (c_squares - c)
    r_root, c_root = np.sqrt(r / np.maximum(r.mean(axis=1, keepdims=True), eps1)), np.sqrt(c)
    p_squares = u_squares = 0.0
    for matrices, rows in slabs(u.shape):
        slab, root = u[matrices, rows], r_root[matrices, rows, None] * c_root[matrices, None]
        slab /= np.maximum(root, eps1, out=root)
        u_squares += float(squares(slab, ""))
        p_squares += float(squares(p[matrices, rows], ""))
    g *= step_size(p_squares, u_squares, g.size, rho, eps2, clip_threshold)
    for slab in slabs(u.shape) if decay else ():
        u[slab] += decay * p[slab]
    return g


def mean_squares(x: Any) -> tuple[Any, Any]:
    """The means of the squares over each row, and over each column, of each matrix."""
    count, height, width = x.shape
    row, column = np.empty((count, height), x.dtype), np.zeros((count, width))
    for matrices, rows in slabs(x.shape):
        row[matrices, rows] = squares(x[matrices, rows], "ij")
        column[matrices] += squares(x[matrices, rows], "ik")
    return row / width, column / height


def squares(x: Any, kept: str) -> Any:
    """The sums of the squares of matrices `i` over their rows `j` and columns `k`, but for the axes in `kept`.

    No BLAS is in it, so that the bits do not depend on the number of threads.
    """
    return np.einsum(f"ijk,ijk->{kept}", x, x)


def as_3d(x: Any) -> Any:
    """A C-contiguous array of matrices with one axis for all that are not the matrices' own."""
    return x.reshape(-1, *x.shape[-2:])


def slabs(shape: tuple[int, int, int]) -> Iterator[tuple[slice, slice]]:
    """Slices of matrices and of their rows, each of about `SLAB` elements: many small matrices, or a part of one."""
    count, height, width = shape
    rows = max(1, SLAB // width)
    matrices = max(1, rows // height)
    for first in range(0, count, matrices):
        for row in range(0, height, rows):
            yield slice(first, first + matrices), slice(row, row + rows)


class Adafactor(Optimizer):
    """Adam's second moment from the means of its rows and columns: its state is no longer than a matrix's sides.

    An array of more than two axes is many matrices, each in its last two axes. A vector, or a number, has a second
    moment for each element. There is no first moment. The length of a step is in proportion to that of the parameter:
    `lr` times the root of its mean square.

    The defaults are PyTorch's, but for two things. There `lr` is always limited as by `relative_step=True`, and the
    default of `eps1` is the precision of the parameter's dtype. The paper adds 1e-30 to the squared gradients instead,
    which `eps1=1e-15` comes near to.

    Args:
        lr: relative learning rate, at least 0.
        beta2_decay: step t takes this power of t as the part of the second moment that is new, in [-1, 0).
        eps1: the least root of the second moment that a gradient is divided by, and the least mean of a matrix's second
            moment, at least 0.
        eps2: the least root of a parameter's mean square that counts, at least 0.
        clip_threshold: the largest root of the mean square of a step before it is multiplied, at least 1e-30; `d` in
            the paper and in PyTorch.
        weight_decay: `lr` times this part of the parameter is taken from it at each step.
        relative_step: True to limit `lr` to the inverse root of the step, as in the paper and in PyTorch.
    """

    rule, slots = adafactor, ("v",)
    reductions = (Reduction(second_moment, ("p_squares", "u_squares"), step_size),)
    matrices = Matrices(factored, {"row": lambda shape: shape[:-1], "column": lambda shape: (*shape[:-2], shape[-1])})
    lr: Number = nonnegative(0.01)
    beta2_decay: Number = Number(-0.8, "a number in [-1, 0)", low=-1.0, high=0.0, schedule=True)
    eps1: Number = nonnegative(float(np.finfo(np.float32).eps))
    eps2: Number = nonnegative(1e-3)
    clip_threshold: Number = Number(1.0, "a finite number >= 1e-30", low=1e-30, schedule=True)
    weight_decay: Number = nonnegative(0.0)
    relative_step: bool = switch(False)

    def is_matrix(self, name: Any, shape: tuple[int, ...]) -> bool:
        return len(shape) >= 2

    def scalars(self, t: int) -> tuple[float, ...]:
        rho = min(self.lr, 1 / sqrt(t)) if self.relative_step else self.lr
        new = t**self.beta2_decay
        return new, self.eps1, rho, self.eps2, self.clip_threshold, self.lr * self.weight_decay
