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


FORMULAS = {"Muon": muon}
