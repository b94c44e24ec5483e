"""What somebody may have meant by a name that an optimizer does not have."""

import difflib
from collections.abc import Collection, Mapping

# What other libraries and textbooks call a hyperparameter or an option, and what it is called here.
CALLED_HERE: dict[str, str] = {
    "learning_rate": "lr",
    "schedule": "lr",
    "lr_schedule": "lr",
    "scheduler": "lr",
    "step_size": "lr",
    "eta": "lr",
    "alpha": "lr or decay_rate",
    "rho": "decay_rate",
    "decay": "decay_rate",
    "gamma": "decay_rate or momentum",
    "mu": "momentum",
    "beta": "momentum or beta1",
    "betas": "beta1 and beta2 and beta3",
    "beta_1": "beta1",
    "beta_2": "beta2",
    "b1": "beta1",
    "b2": "beta2",
    "beta_3": "beta3",
    "b3": "beta3",
    "t_alpha": "alpha_warmup",
    "t_beta3": "beta3_warmup",
    "t_alpha_beta3": "alpha_warmup and beta3_warmup",
    "etas": "eta_minus and eta_plus",
    "step_sizes": "min_step_size and max_step_size",
    "epsilon": "eps",
    "eps": "eps1 and eps2",
    "epsilon_1": "eps1",
    "epsilon_2": "eps2",
    "decay_rate": "beta2_decay",
    "beta_2_decay": "beta2_decay",
    "d": "clip_threshold",
    "clipping_threshold": "clip_threshold",
    "estim_lr0": "d0",
    "estim_lr_coef": "d_coef",
    "use_bias_correction": "bias_correction",
    "eps_root": "eps_in_root",
    "eps_in_sqrt": "eps_in_root",
    "wd": "weight_decay",
    "l2": "weight_decay",
    "weight_decay_lambda": "weight_decay",
    "weight_decay_rate": "weight_decay",
    "clipnorm": "clip_norm",
    "global_clipnorm": "clip_norm",
    "max_norm": "clip_norm",
    "max_grad_norm": "clip_norm",
    "clipvalue": "clip_value",
    "use_ema": "ema",
    "ema_decay": "ema",
    "ema_momentum": "ema",
    "caution": "cautious",
    "freeze": "frozen",
    "requires_grad": "frozen",
    "trainable": "frozen",
    "constraint": "bounds or nonnegative",
    "minval": "bounds",
    "maxval": "bounds",
    "loss_scale": "grad_scale",
    "loss_scale_factor": "grad_scale",
    "gradient_accumulation_steps": "accumulate",
    "param_groups": "groups",
}
# What other libraries' optimizers have as attributes and methods, and what there is here.
INSTEAD: dict[str, str] = {
    "step": "call opt.update(params, grads)",
    "apply": "call opt.update(params, grads)",
    "apply_gradients": "call opt.update(params, grads)",
    "minimize": "call opt.update(params, grads)",
    "zero_grad": "use the option zero_grads",
    "add_param_group": "use the option groups",
    "iterations": "use opt.iter",
    "t": "use opt.iter",
}
MOST = 3  # optimizers that a hint names


def hint(name: str, known: Collection[str], others: Mapping[str, Collection[str]]) -> str:
    """What may have been meant by a wrong name, as a clause; empty if nothing is near.

    Args:
        name: what was given.
        known: the names that there are.
        others: the names that other optimizers have, by the optimizer's name.
    """
    called = CALLED_HERE.get(name.lower(), "")
    joined = " and " if " and " in called else " or "
    ours = [each for each in called.split(joined) if each in known]
    if ours:
        return f"did you mean {joined.join(ours)}"
    having = [other for other, names in others.items() if name in names or other.lower() == name.lower()]
    if having:
        return f"see {' or '.join(having[:MOST])}"
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}" if near else ""
