"""Hyperparameters to test an optimizer with, right ones and wrong ones, found by what kind each of them is."""

import inspect
import math

import numpy as np

import fastoptim
from support import OPTIMIZERS

# What a hyperparameter may be, by name; one that is not here is asked, see `kind_of`. `WRONG_OF_KIND` has the kinds.
KINDS = {
    "lr": "nonnegative",
    "eps": "nonnegative",
    "momentum": "fraction",
    "beta1": "fraction",
    "beta2": "fraction",
    "decay_rate": "fraction",
    "beta3": "fraction",
    "alpha": "nonnegative",
    "momentum_decay": "nonnegative",
    "alpha_warmup": "nonnegative",
    "beta3_warmup": "nonnegative",
    "eta_minus": "inner fraction",
    "eta_plus": "above 1",
    "min_step_size": "positive",
    "max_step_size": "positive",
    "clip_threshold": "positive",
    "d0": "positive",
    "growth_rate": "limit of growth",
    "beta2_decay": "negative",
    "eps_hat": "switch",
    "eps_in_root": "switch",
    "steps": "count",
    "scale": "choice",
    "axes": "choice",
    "shampoo_beta": "optional fraction",
    "precondition_frequency": "count",
    "max_precondition_dim": "count",
}
# The words of a choice, without the default.
WORDS = {"scale": ["match_rms_adamw"], "axes": ["out_in"]}
# Values that a few steps of the tests reach: those of most kinds follow from the default, see `variants_of`.
VALUES = {
    "alpha_warmup": 3,
    "beta3_warmup": 4,
    "eta_plus": 1.3,
    "min_step_size": 0.04,
    "max_step_size": 0.06,
    "t0": 2,
    "warmup_steps": 3,
    "beta2_decay": -0.6,
    "clip_threshold": 0.8,
    "d0": 0.01,
    "growth_rate": 1.1,
    "precondition_frequency": 2,
}
# With these, a step depends continuously on its gradients. The bases of longer sides do not: see tests/test_soap.py.
CONTINUOUS = {"max_precondition_dim": 1}
VALUES |= CONTINUOUS


def own_hyperparameters(cls):
    """The defaults of the hyperparameters that are an optimizer's own, by name: those that may be given by position."""
    parameters = inspect.signature(cls).parameters.values()
    return {x.name: x.default for x in parameters if x.kind is not x.KEYWORD_ONLY}


def options_of(cls):
    """The defaults of the options that an optimizer takes, by name. One that it declares as its own is none of them."""
    return {x.name: x.default for x in inspect.signature(cls).parameters.values() if x.kind is x.KEYWORD_ONLY}


def changed_options(cls):
    """The defaults of the options that an optimizer has on where others have them off, by name."""
    off = options_of(fastoptim.Optimizer)
    return {name: default for name, default in options_of(cls).items() if default != off[name]}


def switched_off(cls):
    """What switches off the options that an optimizer has on: the rule alone is left."""
    off = options_of(fastoptim.Optimizer)
    return {name: off[name] for name in changed_options(cls)}


def accepted(cls, options):
    """The options without those that an optimizer refuses, such as `ema` beside evaluation parameters of its own."""
    groups = {}
    for pattern, values in (options.get("groups") or {}).items():
        alone = {name: {pattern: {name: value}} for name, value in values.items()}
        groups[pattern] = {name: values[name] for name, group in alone.items() if not _refuses(cls, "groups", group)}
    options = {**options, "groups": groups} if groups else options
    return {name: value for name, value in options.items() if not _refuses(cls, name, value)}


def _refuses(cls, name, value):
    try:
        cls(**{name: value})
    except ValueError:
        return True
    return False


def kind_of(cls, name):
    """One of those in `WRONG_OF_KIND`: "other" for what is none of these."""
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


def continuous(cls):
    """The hyperparameters with which formulas in float64 say what is computed in float32."""
    return {name: value for name, value in CONTINUOUS.items() if name in own_hyperparameters(cls)}


def variants_of(cls):
    """Hyperparameters other than the defaults, to be tested beside them.

    First every number, then each switch as well, then those that have not yet chosen one of the rules of the class.
    """
    numbers, switches, defaults = {}, [], own_hyperparameters(cls)
    for name, default in defaults.items():
        kind = kind_of(cls, name)
        if name in VALUES:
            numbers[name] = VALUES[name]
        elif name == "lr":
            numbers[name] = 0.05 if default in (0.01, 0.02) else 0.02
        elif kind == "nonnegative":
            numbers[name] = default + 0.1
        elif kind in ("fraction", "inner fraction", "optional fraction"):
            numbers[name] = 0.7 if default != 0.9 else 0.6
        elif kind == "switch":
            switches.append({name: not default})
        elif kind == "count":
            numbers[name] = default - 2
        elif kind == "choice":
            switches += [{name: word} for word in WORDS[name]]
    found = [numbers, *({**numbers, **switch} for switch in switches)]
    choosing = {name for key in cls.variants for name in key}
    for variant in cls.variant_stages:
        off = {name: defaults[name] for name in choosing - set(variant)}
        on = {name: numbers.get(name, True) for name in variant}
        if variant not in map(cls.variant_of, [defaults, *({**defaults, **each} for each in found)]):
            found.append({**numbers, **off, **on})
    return [each for each in found if cls.variant_of({**defaults, **each}) in cls.variant_stages]


VARIANTS = {cls.__name__: variants_of(cls) for cls in OPTIMIZERS}

NUMBER = [-1, math.nan, math.inf, "0.1", None, [0.1]]
POSITIVE = [0, -1, math.nan, math.inf, "1", [1.0], lambda step: 1.0]
SWITCH = [2, "yes", None, np.array([1, 0])]
COUNT = [0, -1, 1.5, math.nan, True, "2", None, lambda step: 1]
# What a hyperparameter refuses, by its kind, and what an option refuses, by its name.
WRONG_OF_KIND = {
    "nonnegative": [*NUMBER, -1e-9, 10**400],
    "positive": [*NUMBER, 0, 1e-40],
    "fraction": [*NUMBER, -1e-9, 1, 1.0, 2],
    "negative": [*NUMBER[1:], -1.1, 0],
    "limit of growth": [0.9, math.nan, math.inf, "1", [1.0]],
    "optional fraction": [*(x for x in NUMBER if x is not None), 1, 2],
    "inner fraction": [*NUMBER, 0, 1],
    "above 1": [*NUMBER, 1, 0.5],
    "switch": SWITCH,
    "count": COUNT,
    "choice": ["", "no such word", "Original", None, 1, True, ["original"], lambda step: "original"],
    "other": [],
}
WRONG = {
    "weight_decay": NUMBER,
    "decoupled": [*SWITCH, lambda step: True],
    "cautious": [*SWITCH, "scaled", lambda step: True],
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
    "accumulate": COUNT,
    "ema": [1, 1.5, -0.1, math.nan, "0.9", lambda step: 0.9],
    "maximize": SWITCH,
    "zero_grads": SWITCH,
    "groups": [3, "W", [("W", {})], {"W": 3}, {"b": 0.1}, {"W": None}, {3: {"lr": 0.1}}, {1: {}}],
    "frozen": [3, None, b"W", ["W", 3], {"W"}, {"W": 1}, lambda step: "W"],
    "capturable": SWITCH,
    "master": ["bfloat16", True, np.float32, 1],
    "state_dtype": ["float64", "8", np.float16, True],
    "rounding": ["up", 8, True],
    "seed": [-1, 1.5, None, 2**64, True, "1"],
    "sparse": ["eager", None, 1, True],
    "statistics": ["norm", ("nan", "nan"), ["nan", 3], 1, None, {"nan"}],
    "adamw": [None, 3, True, ["b*", 3], {"b*": 1}, lambda name: True],
}


def wrong_values(cls, name):
    """What an optimizer's hyperparameter or option has to refuse."""
    return WRONG[name] if name in WRONG else WRONG_OF_KIND[kind_of(cls, name)]
