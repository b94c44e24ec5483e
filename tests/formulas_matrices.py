"""The formulas of optimizers of matrices, for `references.py`."""

import numpy as np


def orthogonalized(x, steps):
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x - 4.7750 * gram @ x + 2.0315 * gram @ gram @ x
    return x


def muon(p, g, state, t, opt):
    if "v" in state:
        m, v = opt.beta1 * state["m"] + (1 - opt.beta1) * g, opt.beta2 * state["v"] + (1 - opt.beta2) * g * g
        step = m / (1 - opt.beta1**t) / (np.sqrt(v / (1 - opt.beta2**t)) + opt.adamw_eps)
        return p - opt.lr * step, {"m": m, "v": v}
    m = opt.momentum * state["m"] + (1 - opt.momentum) * g
    if not p.size:
        return p, {"m": m}
    u = opt.momentum * m + (1 - opt.momentum) * g if opt.nesterov else m
    # a row for each output
    u = u.reshape(-1, u.shape[-1]).T if opt.axes == "in_out" else u.reshape(len(u), -1)
    o = orthogonalized(u / max(np.linalg.norm(u), opt.eps), opt.steps)
    outputs, inputs = o.shape
    scale = {"original": max(1, outputs / inputs) ** 0.5, "match_rms_adamw": 0.2 * max(outputs, inputs) ** 0.5}
    o = o.T if opt.axes == "in_out" else o
    return p - opt.lr * scale[opt.scale] * o.reshape(p.shape), {"m": m}


def step_size(t, opt):
    """SOAP's, of matrices that made their bases one step before."""
    return opt.lr * np.sqrt(1 - opt.beta2**t) / (1 - opt.beta1**t) if opt.correct_bias else opt.lr


def next_basis(A, Q):
    """Algorithm 4, and the order in which it takes the columns."""
    order = np.argsort(-np.diag(Q.T @ A @ Q))
    return order, np.linalg.qr(A @ Q[:, order])[0]


def soap(p, g, state, t, opt):
    """The first bases are determined but for signs, where no eigenvalue is there twice: mostly in square matrices."""
    if p.ndim != 2 or not p.size:
        m = opt.beta1 * state["m"] + (1 - opt.beta1) * g
        v = opt.beta2 * state["v"] + (1 - opt.beta2) * g**2
        return p - step_size(t, opt) * m / (np.sqrt(v) + opt.eps), {"m": m, "v": v}
    beta = opt.beta2 if opt.shampoo_beta is None else opt.shampoo_beta
    new = {A: beta * state[A] + (1 - beta) * gram for A, gram in (("L", g @ g.T), ("R", g.T @ g)) if A in state}
    if t == 1:
        bases = {f"Q{A}": np.linalg.eigh(x)[1][:, ::-1] for A, x in new.items()}
        return p, state | new | bases
    QL, QR = state.get("QL", np.eye(len(g))), state.get("QR", np.eye(len(g.T)))
    m = opt.beta1 * state["m"] + (1 - opt.beta1) * g
    v = opt.beta2 * state["v"] + (1 - opt.beta2) * (QL.T @ g @ QR) ** 2
    n = QL @ ((QL.T @ m @ QR) / (np.sqrt(v) + opt.eps)) @ QR.T
    if opt.normalize_gradient:
        n = n / (np.sqrt(np.mean(n**2)) + opt.eps)
    p = p - step_size(t - 1, opt) * n
    if (t - 1) % opt.precondition_frequency == 0:
        for axis, A in enumerate("LR"):
            if A in new:
                order, new[f"Q{A}"] = next_basis(new[A], state[f"Q{A}"])
                v = np.take(v, order, axis)
    return p, state | new | {"m": m, "v": v}


FORMULAS = {"Muon": muon, "SOAP": soap}
