"""Hyperparameters to test an optimizer with, right ones and wrong ones, found by what kind each of them is."""

import inspect
import math

import numpy as np

from support import OPTIMIZERS

# What a hyperparameter may be, by name; one that is not here is asked, see `kind_of`.
KINDS = {
    "lr": "nonnegative",
    "eps": "nonnegative",
    "momentum": "fraction",
    "beta1": "fraction",
    "beta2": "fraction",
    "decay_rate": "fraction",
    "eps_hat": "switch",
    "eps_in_root": "switch",
}


def own_hyperparameters(cls):
    """The defaults of the hyperparameters that are an optimizer's own, by name: those that may be given by position."""
    parameters = inspect.signature(cls).parameters.values()
    return {x.name: x.default for x in parameters if x.kind is not x.KEYWORD_ONLY}


def kind_of(cls, name):
    """One of "nonnegative", "fraction" and "switch", or "other" for what is none of these."""
    if name in KINDS:
        return KINDS[name]
    default = own_hyperparameters(cls)[name]
    if not isinstance(default, int | float):
        return "other"
    if isinstance(default, bool):
        return "switch"
    try:
        cls(**{name: 1.0})
    except ValueError:
        return "fraction"
    return "nonnegative"


def variants_of(cls):
    """Hyperparameters other than the defaults, to be tested beside them: every number, then each switch as well."""
    numbers, switches = {}, []
    for name, default in own_hyperparameters(cls).items():
        kind = kind_of(cls, name)
        if name == "lr":
            numbers[name] = 0.05 if default == 0.01 else 0.02
        elif kind == "nonnegative":
            numbers[name] = default + 0.1
        elif kind == "fraction":
            numbers[name] = 0.7 if default != 0.9 else 0.6
        elif kind == "switch":
            switches.append({name: not default})
    return [numbers, *({**numbers, **switch} for switch in switches)]


VARIANTS = {cls.__name__: variants_of(cls) for cls in OPTIMIZERS}

NUMBER = [-1, math.nan, math.inf, "0.1", None, [0.1]]
POSITIVE = [0, -1, math.nan, math.inf, "1", [1.0], lambda step: 1.0]
SWITCH = [2, "yes", None, np.array([1, 0])]
# What a hyperparameter refuses, by its kind, and what an option refuses, by its name.
WRONG_OF_KIND = {
    "nonnegative": [*NUMBER, -1e-9, 10**400],
    "fraction": [*NUMBER, -1e-9, 1, 1.0, 2],
    "switch": SWITCH,
    "other": [],
}
WRONG = {
    "weight_decay": NUMBER,
    "decoupled": [*SWITCH, lambda step: True],
    "cautious": [*SWITCH, "rescaled", lambda step: True],
    "bounds": [
        *(0, "01", {0: 1}, lambda step: (0, 1)),
        *((0,), (0, 1, 2), ("0", 1), ([0.1], 1)),
        *((1, 0), (math.nan, 1), (0, math.nan), (math.inf, None), (None, -math.inf), (0, 1e39)),
    ],
    "nonnegative": SWITCH,
    "clip_norm": POSITIVE,
    "clip_value": POSITIVE,
    "grad_scale": [*POSITIVE, -2, None],
    "skip_nonfinite": SWITCH,
    "accumulate": [0, -1, 1.5, math.nan, True, "2", None, lambda step: 1],
    "ema": [1, 1.5, -0.1, math.nan, "0.9", lambda step: 0.9],
    "maximize": SWITCH,
    "zero_grads": SWITCH,
    "groups": [3, "W", [("W", {})], {"W": 3}, {"b": 0.1}, {"W": None}, {3: {"lr": 0.1}}, {1: {}}],
    "frozen": [3, None, b"W", ["W", 3], {"W"}, {"W": 1}, lambda step: "W"],
    "capturable": SWITCH,
}


def wrong_values(cls, name):
    """What an optimizer's hyperparameter or option has to refuse."""
    return WRONG[name] if name in WRONG else WRONG_OF_KIND[kind_of(cls, name)]
