"""What somebody may have meant by a name that an optimizer does not have."""

import difflib
from collections.abc import Collection, Mapping

# What other libraries and textbooks call a hyperparameter or an option, and what it is called here.
CALLED_HERE: dict[str, tuple[str, ...]] = {
    "learning_rate": ("lr",),
    "step_size": ("lr",),
    "eta": ("lr",),
    "alpha": ("lr", "decay_rate"),
    "rho": ("decay_rate",),
    "decay": ("decay_rate", "weight_decay"),
    "gamma": ("decay_rate", "momentum"),
    "mu": ("momentum",),
    "beta": ("momentum", "beta1"),
    "betas": ("beta1", "beta2"),
    "beta_1": ("beta1",),
    "beta_2": ("beta2",),
    "b1": ("beta1",),
    "b2": ("beta2",),
    "epsilon": ("eps",),
    "eps_root": ("eps_in_root",),
    "eps_in_sqrt": ("eps_in_root",),
    "wd": ("weight_decay",),
    "l2": ("weight_decay",),
    "weight_decay_lambda": ("weight_decay",),
    "clipnorm": ("clip_norm",),
    "global_clipnorm": ("clip_norm",),
    "max_norm": ("clip_norm",),
    "max_grad_norm": ("clip_norm",),
    "clipvalue": ("clip_value",),
    "use_ema": ("ema",),
    "ema_momentum": ("ema",),
    "loss_scale": ("grad_scale",),
    "loss_scale_factor": ("grad_scale",),
    "gradient_accumulation_steps": ("accumulate",),
    "param_groups": ("groups",),
}


def hint(name: str, known: Collection[str], others: Mapping[str, Collection[str]]) -> str:
    """A clause about a wrong name, to be put behind what is wrong; empty if nothing is near.

    Args:
        name: what was given.
        known: the names that there are.
        others: the names that other optimizers have, by the optimizer's name.
    """
    called = [each for each in CALLED_HERE.get(name.lower(), ()) if each in known]
    if called:
        return f"but {' or '.join(map(repr, called))}" if name.lower() != "betas" else "but 'beta1' and 'beta2'"
    having = [other for other, names in others.items() if name in names or other.lower() == name.lower()]
    if having:
        return f"see {' or '.join(having)}"
    near = difflib.get_close_matches(name, known, 1)
    return f"but {near[0]!r}" if near else ""
