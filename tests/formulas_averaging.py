"""The formulas of optimizers that average: float64 NumPy, from the papers. The state has more than the slots."""


def asgd(p, g, state, t, opt):
    """As PyTorch has it: what a step computes of eta and mu holds for the next one."""
    eta, mu = state.get("eta", opt.lr), state.get("mu", 1)
    p = p - eta * (opt.lambd * p + g)
    ax = p if mu == 1 else (1 - mu) * state["ax"] + mu * p
    eta = opt.lr / (1 + opt.lambd * opt.lr * t) ** opt.alpha
    return p, {"ax": ax, "eta": eta, "mu": 1 / max(1, t - opt.t0), "x": ax}


FORMULAS = {"ASGD": asgd}
