"""The formulas of optimizers that average: float64 NumPy, from the papers.

The state has more than the slots: what is carried, and x, the parameters to evaluate with.
"""

import numpy as np


def asgd(p, g, state, t, opt):
    """As PyTorch has it: what a step computes of eta and mu holds for the next one."""
    eta, mu = state.get("eta", opt.lr), state.get("mu", 1)
    p = p - eta * (opt.lambd * p + g)
    ax = p if mu == 1 else (1 - mu) * state["ax"] + mu * p
    eta = opt.lr / (1 + opt.lambd * opt.lr * t) ** opt.alpha
    return p, {"ax": ax, "eta": eta, "mu": 1 / max(1, t - opt.t0), "x": ax}


def _schedule_free(y, d, state, t, opt, beta):
    """Section 2 of the paper, with z and x as such: a step along `d` and what it does to the average.

    The weights are those of the package: the largest learning rate so far to a power, and the step to a power.
    """
    z, x = (y, y) if t == 1 else (state["z"], state["x"])
    lr = opt.lr * min(1, t / opt.warmup_steps) if opt.warmup_steps else opt.lr
    lr_max = max(lr, state.get("lr_max", 0))
    weight = t**opt.r * lr_max**opt.weight_lr_power
    weight_sum = state.get("weight_sum", 0) + weight
    c = weight / weight_sum if weight_sum else 1
    z = z - lr * d
    x = (1 - c) * x + c * z
    return (1 - beta) * z + beta * x, {"z": z, "x": x, "lr_max": lr_max, "weight_sum": weight_sum}


def schedule_free_sgd(y, g, state, t, opt):
    return _schedule_free(y, g + opt.weight_decay * y, state, t, opt, opt.momentum)


def schedule_free_adamw(y, g, state, t, opt):
    v = opt.beta2 * state["v"] + (1 - opt.beta2) * g * g
    d = g / (np.sqrt(v / (1 - opt.beta2**t)) + opt.eps) + opt.weight_decay * y
    y, state = _schedule_free(y, d, state, t, opt, opt.beta1)
    return y, {**state, "v": v}


FORMULAS = {"ASGD": asgd, "ScheduleFreeSGD": schedule_free_sgd, "ScheduleFreeAdamW": schedule_free_adamw}
