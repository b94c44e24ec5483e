"""The formulas of Adam and its relatives, in float64 NumPy.

See tests/references.py for what a formula takes and returns.
"""

import numpy as np

from formulas_plain import root


def adam(p, g, state, t, opt):
    m = opt.beta1 * state["m"] + (1 - opt.beta1) * g
    v = opt.beta2 * state["v"] + (1 - opt.beta2) * g * g
    new = {"m": m, "v": v}
    if opt.amsgrad:
        new["v_max"] = v = np.maximum(state["v_max"], v)
    if opt.eps_hat:  # section 2
        step = opt.lr * np.sqrt(1 - opt.beta2**t) / (1 - opt.beta1**t) * m / root(v, opt)
    else:  # Algorithm 1
        step = opt.lr * (m / (1 - opt.beta1**t)) / root(v / (1 - opt.beta2**t), opt)
    return p - step, new


def adamax(p, g, state, t, opt):
    m = opt.beta1 * state["m"] + (1 - opt.beta1) * g
    u = np.maximum(opt.beta2 * state["u"], np.abs(g) + opt.eps)
    return p - opt.lr / (1 - opt.beta1**t) * m / u, {"m": m, "u": u}


def nadam(p, g, state, t, opt):
    mu, following = (opt.beta1 * (1 - 0.5 * 0.96 ** (s * opt.momentum_decay)) for s in (t, t + 1))
    product = mu * state.get("product", 1)
    m = opt.beta1 * state["m"] + (1 - opt.beta1) * g
    v = opt.beta2 * state["v"] + (1 - opt.beta2) * g**2
    m_hat = following * m / (1 - product * following) + (1 - mu) * g / (1 - product)
    v_hat = v / (1 - opt.beta2**t)
    return p - opt.lr * m_hat / (np.sqrt(v_hat) + opt.eps), {"m": m, "v": v, "product": product}


def radam(p, g, state, t, opt):
    m = opt.beta1 * state["m"] + (1 - opt.beta1) * g
    v = opt.beta2 * state["v"] + (1 - opt.beta2) * g**2
    m_hat = m / (1 - opt.beta1**t)
    longest = 2 / (1 - opt.beta2) - 1
    rho = longest - 2 * t * opt.beta2**t / (1 - opt.beta2**t)
    if rho <= 5:
        return p - opt.lr * m_hat, {"m": m, "v": v}
    rectified = np.sqrt((rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho))
    adaptive = np.sqrt(1 - opt.beta2**t) / (np.sqrt(v) + opt.eps)
    return p - opt.lr * rectified * m_hat * adaptive, {"m": m, "v": v}


def adopt(p, g, state, t, opt):
    if t == 1:
        return p, {"m": state["m"], "v": g**2}
    limit = (t - 1) ** 0.25
    ratio = np.clip(g / np.maximum(np.sqrt(state["v"]), opt.eps), -limit, limit)
    m = opt.beta1 * state["m"] + (1 - opt.beta1) * ratio
    return p - opt.lr * m, {"m": m, "v": opt.beta2 * state["v"] + (1 - opt.beta2) * g**2}


def adan(p, g, state, t, opt):
    change = g - (state["previous"] if t > 1 else g)
    m = opt.beta1 * state["m"] + (1 - opt.beta1) * g
    v = opt.beta2 * state["v"] + (1 - opt.beta2) * change
    n = opt.beta3 * state["n"] + (1 - opt.beta3) * (g + opt.beta2 * change) ** 2
    step = opt.lr / (np.sqrt(n / (1 - opt.beta3**t)) + opt.eps)
    p = p - step * (m / (1 - opt.beta1**t) + opt.beta2 * v / (1 - opt.beta2**t))
    return p / (1 + opt.lr * opt.weight_decay), {"m": m, "v": v, "n": n, "previous": g}


def ademamix(p, g, state, t, opt):
    alpha, beta3 = opt.alpha, opt.beta3
    if t < opt.alpha_warmup:
        alpha = t / opt.alpha_warmup * opt.alpha
    if t < opt.beta3_warmup:  # what halves in a number of steps that grows linearly
        start, end = (np.log(0.5) / np.log(beta) for beta in (opt.beta1, opt.beta3))
        beta3 = min(0.5 ** (1 / (start + t / opt.beta3_warmup * (end - start))), opt.beta3)
    m1 = opt.beta1 * state["m1"] + (1 - opt.beta1) * g
    m2 = beta3 * state["m2"] + (1 - beta3) * g
    v = opt.beta2 * state["v"] + (1 - opt.beta2) * g**2
    m1_hat, v_hat = m1 / (1 - opt.beta1**t), v / (1 - opt.beta2**t)
    return p - opt.lr * (m1_hat + alpha * m2) / (np.sqrt(v_hat) + opt.eps), {"m1": m1, "m2": m2, "v": v}


FORMULAS = {
    "Adam": adam,
    "AdamW": adam,  # its weight decay is an option
    "AdaMax": adamax,
    "NAdam": nadam,
    "RAdam": radam,
    "ADOPT": adopt,
    "Adan": adan,
    "AdEMAMix": ademamix,
}
