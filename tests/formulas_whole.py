"""The formulas of optimizers that look at all elements of an array, or of all arrays, in float64 NumPy.

See tests/references.py for what a formula takes and returns. Those of `TOGETHER` take all arrays of a step: what other
formulas take of each, by name, and the numbers that all arrays share. They return what others do, by name, and the new
shared numbers.
"""

import numpy as np


def rms(x):
    return np.sqrt(np.mean(x**2))


def adafactor(p, g, state, t, opt):
    """Algorithm 4, and 5 for vectors, with PyTorch's ways to keep the second moment from zero."""
    if not p.size:
        return p, state
    rho = min(opt.lr, 1 / np.sqrt(t)) if opt.relative_step else opt.lr
    alpha = np.maximum(opt.eps2, rms(p)) * rho
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
    u = u / np.maximum(1, rms(u) / opt.clip_threshold)
    return p - opt.lr * opt.weight_decay * p - alpha * u, new


def prodigy(arrays, shared):
    """Algorithm 4, with what the authors' code has beside it."""
    opt = next(iter(arrays.values()))[-1]  # whose numbers of the estimate are those of all
    d, numerator = shared.get("d", opt.d0), shared.get("numerator", 0)
    beta3, denominator = np.sqrt(opt.beta2), 0
    numerator, states, rates = beta3 * numerator, {}, {}
    for name, (p, g, state, t, opt) in arrays.items():
        rates[name] = d * opt.lr
        if opt.bias_correction:
            rates[name] *= np.sqrt(1 - opt.beta2**t) / (1 - opt.beta1**t)
        p0 = p if t == 1 else state["p0"]
        s = beta3 * state["s"] + d / opt.d0 * (d if opt.safeguard_warmup else rates[name]) * g
        numerator += d / opt.d0 * rates[name] * np.sum(g * (p0 - p))
        denominator += np.sum(np.abs(s))
        states[name] = {"p0": p0, "s": s}
    d_hat = opt.d_coef * numerator / denominator if denominator else 0
    d_max, grown = np.maximum(shared.get("d_max", opt.d0), d_hat), d
    if d == opt.d0:
        grown = np.maximum(d, d_hat)
    new_d = np.minimum(d_max, grown * (np.inf if opt.growth_rate is None else opt.growth_rate))
    found = {}
    for name, (p, g, state, _, opt) in arrays.items():
        m = opt.beta1 * state["m"] + (1 - opt.beta1) * d * g
        v = opt.beta2 * state["v"] + (1 - opt.beta2) * d**2 * g**2
        step = rates[name] * m / (np.sqrt(v) + new_d * opt.eps)
        found[name] = p - rates[name] * opt.weight_decay * p - step, states[name] | {"m": m, "v": v}
    return found, {"d": new_d, "d_max": d_max, "numerator": numerator}


FORMULAS = {"Adafactor": adafactor}
TOGETHER = {"Prodigy": prodigy}
