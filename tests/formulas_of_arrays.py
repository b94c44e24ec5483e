"""The formulas of optimizers that need norms or means of whole arrays: float64 NumPy, from the papers."""

import numpy as np


def _norm(x):
    return np.sqrt(np.sum(x * x))


def lars(p, g, state, t, opt):
    ratio = 1.0
    if opt.adapt and _norm(p) > 0 and _norm(g) > 0:
        ratio = opt.trust * _norm(p) / (_norm(g) + opt.weight_decay * _norm(p) + opt.eps)
    v = opt.momentum * state["v"] + opt.lr * ratio * (g + opt.weight_decay * p)
    return p - v, {"v": v}


def lamb(p, g, state, t, opt):
    m = opt.beta1 * state["m"] + (1 - opt.beta1) * g
    v = opt.beta2 * state["v"] + (1 - opt.beta2) * g * g
    r = m / (1 - opt.beta1**t) / (np.sqrt(v / (1 - opt.beta2**t)) + opt.eps) + opt.weight_decay * p
    ratio = _norm(p) / _norm(r) if opt.adapt and _norm(p) > 0 and _norm(r) > 0 else 1.0
    return p - opt.lr * ratio * r, {"m": m, "v": v}


def novograd(p, g, state, t, opt):
    """The second moment of an array is a number, which begins as that of the first gradient."""
    v = np.sum(g * g) if t == 1 else opt.beta2 * state["v"] + (1 - opt.beta2) * np.sum(g * g)
    step = g / (np.sqrt(v) + opt.eps) + opt.weight_decay * p
    part = 1 - opt.beta1 if opt.grad_averaging else 1
    m = step if t == 1 else opt.beta1 * state["m"] + part * step
    return p - opt.lr * m, {"m": m, "v": v}


def _rms(x):
    return np.sqrt(np.mean(x**2))


def adafactor(p, g, state, t, opt):
    """Algorithm 4, and 5 for vectors, with PyTorch's ways to keep the second moment from zero."""
    if not p.size:
        return p, state
    rho = min(opt.lr, 1 / np.sqrt(t)) if opt.relative_step else opt.lr
    alpha = np.maximum(opt.eps2, _rms(p)) * rho
    beta2 = 1 - t**opt.beta2_decay
    if p.ndim < 2:
        v = beta2 * state.get("v", 0) + (1 - beta2) * g**2
        new = {"v": v}
    else:
        row = beta2 * state.get("row", 0) + (1 - beta2) * np.mean(g**2, axis=-1)
        column = beta2 * state.get("column", 0) + (1 - beta2) * np.mean(g**2, axis=-2)
        mean = np.maximum(np.mean(row, axis=-1), opt.eps1)
        v = row[..., :, None] * column[..., None, :] / mean[..., None, None]
        new = {"row": row, "column": column}
    u = g / np.sqrt(np.maximum(v, opt.eps1**2))
    u = u / np.maximum(1, _rms(u) / opt.clip_threshold)
    return p - opt.lr * opt.weight_decay * p - alpha * u, new


FORMULAS = {"LARS": lars, "LAMB": lamb, "NovoGrad": novograd, "Adafactor": adafactor}
