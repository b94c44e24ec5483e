"""The formulas of optimizers that are no relatives of Adam, in float64 NumPy.

See tests/references.py for what a formula takes and returns.
"""

import numpy as np


def root(h, opt):
    return np.sqrt(h + opt.eps) if opt.eps_in_root else np.sqrt(h) + opt.eps


def sgd(p, g, state, t, opt):
    if "b" not in state:
        return p - opt.lr * g, {}
    is_damped = t > 1 and opt.momentum
    b = opt.momentum * state["b"] + (1 - opt.dampening if is_damped else 1) * g
    return p - opt.lr * (g + opt.momentum * b if opt.nesterov else b), {"b": b}


def momentum(p, g, state, t, opt):
    v = opt.momentum * state["v"] - opt.lr * g
    return p + v, {"v": v}


def nesterov(p, g, state, t, opt):
    v = opt.momentum * state["v"] - opt.lr * g
    return p + opt.momentum * v - opt.lr * g, {"v": v}


def adagrad(p, g, state, t, opt):
    h = state["h"] + g * g
    return p - opt.lr * g / root(h, opt), {"h": h}


def rmsprop(p, g, state, t, opt):
    new = {slot: opt.decay_rate * x + (1 - opt.decay_rate) * (g if slot == "mean" else g * g)
           for slot, x in state.items() if slot != "b"}  # fmt: skip
    step = g / root(new["h"] - new["mean"] ** 2 if opt.centered else new["h"], opt)
    if "b" in state:
        new["b"] = step = opt.momentum * state["b"] + step
    return p - opt.lr * step, new


def lion(p, g, state, t, opt):
    c = opt.beta1 * state["m"] + (1 - opt.beta1) * g
    return p - opt.lr * np.sign(c), {"m": opt.beta2 * state["m"] + (1 - opt.beta2) * g}


def adadelta(p, g, state, t, opt):
    rho, eps = opt.decay_rate, opt.eps
    h = rho * state["h"] + (1 - rho) * g**2
    step = np.sqrt(state["u"] + eps) / np.sqrt(h + eps) * g
    return p - opt.lr * step, {"h": h, "u": rho * state["u"] + (1 - rho) * step**2}


def rprop(p, g, state, t, opt):
    """With the gradient forgotten, and no step, where the sign has changed: iRprop-."""
    same = np.sign(g * state["previous"])
    step = np.full_like(p, opt.lr) if t == 1 else state["step"]
    step = step * np.select([same > 0, same < 0], [opt.eta_plus, opt.eta_minus], 1)
    step = np.minimum(np.maximum(step, opt.min_step_size), opt.max_step_size)
    g = np.where(same < 0, 0, g)
    return p - step * np.sign(g), {"previous": g, "step": step}


FORMULAS = {
    "SGD": sgd,
    "Momentum": momentum,
    "Nesterov": nesterov,
    "AdaGrad": adagrad,
    "RMSprop": rmsprop,
    "Adadelta": adadelta,
    "Rprop": rprop,
    "Lion": lion,
}
