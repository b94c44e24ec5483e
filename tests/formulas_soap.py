"""The formula of SOAP, in float64 NumPy.

See tests/references.py for what a formula takes and returns. The state has QL and QR of a matrix beside its slots: the
identity for a side without a basis. Bases are determined but for the signs of their columns, where Shampoo's matrices
have no eigenvalue twice. That excludes matrices that are not square: their first gradient leaves some at zero.
"""

import numpy as np


def step_size(t, opt):
    return opt.lr * np.sqrt(1 - opt.beta2**t) / (1 - opt.beta1**t) if opt.correct_bias else opt.lr


def first_basis(A):
    return np.linalg.eigh(A)[1][:, ::-1]


def next_basis(A, Q):
    """Algorithm 4, and the order in which it has put the columns."""
    order = np.argsort(-np.diag(Q.T @ A @ Q))
    return order, np.linalg.qr(A @ Q[:, order])[0]


def adam(p, g, state, t, opt):
    m = opt.beta1 * state["m"] + (1 - opt.beta1) * g
    v = opt.beta2 * state["v"] + (1 - opt.beta2) * g**2
    return p - step_size(t, opt) * m / (np.sqrt(v) + opt.eps), {"m": m, "v": v}


def soap(p, g, state, t, opt):
    if p.ndim != 2 or p.size == 0:
        return adam(p, g, state, t, opt)
    beta = opt.beta2 if opt.shampoo_beta is None else opt.shampoo_beta
    L = beta * state.get("L", 0) + (1 - beta) * g @ g.T
    R = beta * state.get("R", 0) + (1 - beta) * g.T @ g
    has_left, has_right = (side <= opt.max_precondition_dim for side in p.shape)
    if t == 1:
        QL = first_basis(L) if has_left else np.eye(len(L))
        QR = first_basis(R) if has_right else np.eye(len(R))
        return p, {**state, "L": L, "R": R, "QL": QL, "QR": QR}
    QL, QR = state["QL"], state["QR"]
    m = opt.beta1 * state["m"] + (1 - opt.beta1) * g
    v = opt.beta2 * state["v"] + (1 - opt.beta2) * (QL.T @ g @ QR) ** 2
    n = QL @ ((QL.T @ m @ QR) / (np.sqrt(v) + opt.eps)) @ QR.T
    if opt.normalize_gradient:
        n = n / (np.sqrt(np.mean(n**2)) + opt.eps)
    p = p - step_size(t - 1, opt) * n
    if (t - 1) % opt.precondition_frequency == 0:
        if has_left:
            order, QL = next_basis(L, QL)
            v = v[order]
        if has_right:
            order, QR = next_basis(R, QR)
            v = v[:, order]
    return p, {"m": m, "v": v, "L": L, "R": R, "QL": QL, "QR": QR}


FORMULAS = {"SOAP": soap}
