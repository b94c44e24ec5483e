"""SOAP. Vyas et al. 2024, "SOAP: Improving and Stabilizing Shampoo using Adam", https://arxiv.org/abs/2409.11321,
Algorithms 3 and 4, in the form of the authors' code
"""

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np

from fastoptim.algorithms.adam import adam
from fastoptim.kernels.matrices import Matrices, Shape, same_shape
from fastoptim.optimizer import Optimizer
from fastoptim.settings.fields import Number, count, fraction, nonnegative, switch


def of_rows(shape: Shape, max_precondition_dim: int) -> Shape | None:
    """The shape of a matrix with a row and a column for each row, None where there are too many, or no elements."""
    return (shape[0], shape[0]) if all(shape) and shape[0] <= max_precondition_dim else None


def of_columns(shape: Shape, max_precondition_dim: int) -> Shape | None:
    """The same for the columns."""
    return of_rows(shape[::-1], max_precondition_dim)


def rotated(x: Any, QL: Any, QR: Any) -> Any:
    """`x` in the bases, QL^T x QR. Without a basis, a side stays as it is."""
    x = x if QL is None else QL.T @ x
    return x if QR is None else x @ QR


def rotated_back(x: Any, QL: Any, QR: Any) -> Any:
    """The inverse: QL x QR^T."""
    x = x if QL is None else QL @ x
    return x if QR is None else x @ QR.T


def eigenvectors(A: Any) -> Any:
    """Those of a symmetric matrix as columns, the one of the largest eigenvalue first."""
    return np.linalg.eigh(A)[1][:, ::-1]


def orthogonal(S: Any) -> Any:
    """The columns of a matrix, made orthogonal one after the other."""
    return np.linalg.qr(S)[0]


def decomposed(decomposition: Callable[[Any], Any], A: Any) -> Any:
    """A basis, None where it cannot be computed."""
    try:
        basis = decomposition(A) if np.isfinite(A).all() else None
    except np.linalg.LinAlgError:
        return None
    return basis if basis is not None and np.isfinite(basis).all() else None


def followed(A: Any, Q: Any, gram: Any, one_minus_shampoo_beta: float, refreshes: bool) -> Any:
    """Take a gradient into `A`. Make its basis `Q`, or refresh it, and return the order that its columns get.

    The order is None where they stay. A basis that cannot be computed stays what it was: zero, before there is one.
    """
    A += one_minus_shampoo_beta * (gram - A)
    if not Q[:, 0].any():
        order, basis = None, decomposed(eigenvectors, A)
    elif refreshes:  # Algorithm 4
        S = A @ Q
        order = np.argsort(-(Q * S).sum(axis=0), kind="stable")  # the largest eigenvalue first
        basis = decomposed(orthogonal, S[:, order])
    else:
        return None
    if basis is None:
        return None
    Q[...] = basis
    return order


def soap(
    p, g, m, v, L, R, QL, QR,
    matrix_step_size, one_minus_beta1, one_minus_beta2, one_minus_shampoo_beta, eps, is_first, refreshes, normalizes,
):  # fmt: skip
    bases = [Q if Q is not None and Q[:, 0].any() else None for Q in (QL, QR)]
    n = np.zeros_like(g)
    if not is_first:  # the first gradient is for the bases alone
        m += one_minus_beta1 * (g - m)  # first moment
        g_rotated = rotated(g, *bases)
        v += one_minus_beta2 * (g_rotated * g_rotated - v)  # second moment in the bases
        n = rotated_back(rotated(m, *bases) / (np.sqrt(v) + eps), *bases)
        if normalizes:
            n /= sqrt(np.mean(n * n)) + eps
    numbers = one_minus_shampoo_beta, refreshes
    if L is not None and (order := followed(L, QL, g @ g.T, *numbers)) is not None:
        v[...] = v[order]
    if R is not None and (order := followed(R, QR, g.T @ g, *numbers)) is not None:
        v[...] = v[:, order]
    return matrix_step_size * n


class SOAP(Optimizer):
    """AdamW for matrices in a basis where rows and columns are uncorrelated. Other arrays follow AdamW as they are.

    The bases are the eigenvectors of Shampoo's two matrices, the running means of `G G^T` and `G^T G`. A refresh is one
    step of power iteration. The first step of a matrix makes its bases; only the weight decay changes the matrix.
    Matrices are 2-D arrays. The products and decompositions are NumPy's, so the last bits depend on the number of
    BLAS's threads. The arrays have to be on the CPU.

    Args:
        lr: learning rate, at least 0.
        beta1, beta2: the parts of the first and second moment that stay from one step to the next, in [0, 1).
        shampoo_beta: the part of Shampoo's matrices that stays; None for `beta2`.
        eps: what keeps the division from zero, at least 0. It is added before the second moment's bias is corrected.
        precondition_frequency: the number of steps from one refresh of the bases to the next.
        max_precondition_dim: a side that is longer has no basis, and stays as it is.
        correct_bias: True to correct both moments for having begun at zero.
        normalize_gradient: True to divide a matrix's step by the root of its mean square.
    """

    rule, slots = adam, ("m", "v")
    matrices = Matrices(
        soap, {"m": same_shape, "v": same_shape, "L": of_rows, "R": of_columns, "QL": of_rows, "QR": of_columns}
    )
    lr: Number = nonnegative(0.003)
    beta1: Number = fraction(0.95)
    beta2: Number = fraction(0.95)
    shampoo_beta: Number = Number(None, "a number in [0, 1)", high=1.0, optional=True, schedule=True)
    eps: Number = nonnegative(1e-8)
    precondition_frequency: int = count(10)
    max_precondition_dim: int = count(10_000)
    correct_bias: bool = switch(True)
    normalize_gradient: bool = switch(False)
    weight_decay = 0.01
    decoupled = True

    def step_size(self, t: int) -> float:
        """That of Adam's step `t`; 0 before the first."""
        if t == 0:
            return 0.0
        return self.lr * sqrt(1 - self.beta2**t) / (1 - self.beta1**t) if self.correct_bias else self.lr

    def scalars(self, t: int) -> tuple[float, ...]:
        made = t - 1  # steps of a matrix, as its first one makes the bases
        shampoo_beta = self.beta2 if self.shampoo_beta is None else self.shampoo_beta
        adam = self.step_size(t), 1 - self.beta1, 1 - self.beta2, self.eps
        refreshes = made % self.precondition_frequency == 0
        return *adam, self.step_size(made), 1 - shampoo_beta, float(made == 0), refreshes, self.normalize_gradient
