"""The formulas of optimizers whose numbers depend on all arrays together: float64 NumPy, from the papers.

Such a formula takes all arrays of a step, by name: of each, what other formulas take. Beside them it takes the numbers
that all arrays share, which are none before the first step. It returns what others do, by name, and the new numbers.
"""

import numpy as np


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


FORMULAS = {"Prodigy": prodigy}
