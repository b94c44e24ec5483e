"""Every optimizer's formula in float64 NumPy, slow and obvious: what the kernels are held against.

A reference takes the parameter, the gradient, the state by slot, the step (1 is the first) and the optimizer, whose
hyperparameters it reads, and returns the new parameter and state.
"""

import numpy as np


def sgd(p, g, state, t, opt):
    return p - opt.lr * g, {}


def momentum(p, g, state, t, opt):
    v = opt.momentum * state["v"] - opt.lr * g
    return p + v, {"v": v}


def nesterov(p, g, state, t, opt):
    v = opt.momentum * state["v"] - opt.lr * g
    return p + opt.momentum * v - opt.lr * g, {"v": v}


def adagrad(p, g, state, t, opt):
    h = state["h"] + g * g
    return p - opt.lr * g / (np.sqrt(h) + opt.eps), {"h": h}


def rmsprop(p, g, state, t, opt):
    h = opt.decay_rate * state["h"] + (1 - opt.decay_rate) * g * g
    return p - opt.lr * g / (np.sqrt(h) + opt.eps), {"h": h}


def adam(p, g, state, t, opt):
    m = opt.beta1 * state["m"] + (1 - opt.beta1) * g
    v = opt.beta2 * state["v"] + (1 - opt.beta2) * g * g
    if opt.eps_hat:  # section 2
        step = opt.lr * np.sqrt(1 - opt.beta2**t) / (1 - opt.beta1**t) * m / (np.sqrt(v) + opt.eps)
    else:  # Algorithm 1
        step = opt.lr * (m / (1 - opt.beta1**t)) / (np.sqrt(v / (1 - opt.beta2**t)) + opt.eps)
    return p - step, {"m": m, "v": v}


REFERENCES = {
    "SGD": sgd,
    "Momentum": momentum,
    "Nesterov": nesterov,
    "AdaGrad": adagrad,
    "RMSprop": rmsprop,
    "Adam": adam,
}

# Hyperparameters other than the defaults, to be tested beside them.
VARIANTS = {
    "SGD": [{"lr": 0.3}],
    "Momentum": [{"lr": 0.05, "momentum": 0.5}],
    "Nesterov": [{"lr": 0.05, "momentum": 0.5}],
    "AdaGrad": [{"lr": 0.2, "eps": 0.1}],
    "RMSprop": [{"lr": 0.02, "decay_rate": 0.7, "eps": 0.1}],
    "Adam": [{"lr": 0.01, "beta1": 0.7, "beta2": 0.8, "eps": 0.1}, {"lr": 0.01, "eps": 0.1, "eps_hat": False}],
}


class Reference:
    """Runs a reference beside an optimizer: float64 copies of the parameters, updated with the same gradients."""

    def __init__(self, opt, params):
        self.opt, self.formula, self.t = opt, REFERENCES[type(opt).__name__], 0
        self.params = {name: np.array(p, np.float64) for name, p in params.items()}
        self.state = {name: {slot: np.zeros(p.shape) for slot in opt.slots} for name, p in params.items()}

    def update(self, grads):
        self.t += 1
        for name, p in self.params.items():
            g = np.asarray(grads[name], np.float64)
            self.params[name], self.state[name] = self.formula(p, g, self.state[name], self.t, self.opt)
