"""Each option by itself, and those that must change nothing."""

import copy
import json

import numpy as np
import pytest

from fastoptim import SGD, Adam
from pair import Pair, train
from references import ALONE, OPTIONS
from support import (
    FEW,
    LAYOUTS,
    frozen,
    in_every_layout,
    like,
    random,
)

F4 = np.float32


@pytest.mark.parametrize("option", ALONE)
def test_alone(option, rng):
    train(Pair(Adam, in_every_layout(rng), **ALONE[option]), rng)


def test_groups_with_both_kinds_of_decay(rng):
    params = in_every_layout(rng)
    groups = {"b*": {"decoupled": True, "weight_decay": 0.2}, "* 2": {"weight_decay": 0}, "* 4": {"clip_value": 0.1}}
    pair = Pair(SGD, params, weight_decay=0.3, groups=groups)
    for _ in range(3):
        pair.update(like(rng, params))
        pair.check()


NEUTRAL = [
    {"clip_norm": 1e30, "weight_decay": lambda step: 0.0, "skip_nonfinite": True},
    {"ema": 0.5, "weight_decay": lambda step: 0, "decoupled": True},
    {"grad_scale": 1, "accumulate": 1, "skip_nonfinite": True, "decoupled": True},
    {"groups": {"*": {}}},
    {"groups": {"?": {"lr": 0.05}, "b*": {"maximize": False}}},
    {"lr": lambda step: 0.05},
]

NEUTRAL_FOR_ADAM = [{"clip_norm": 1e30}, {"clip_value": 1e30}, {"zero_grads": True}]


@pytest.mark.parametrize("cls", FEW)
def test_what_changes_nothing_leaves_the_very_bits(cls, rng):
    """Also behind a strided array and one in another order than its gradient."""
    start = {"W": random(rng, (13, 5), F4), "b1": LAYOUTS["strided"](random(rng, (9,), F4)), "s": random(rng, (), F4)}
    steps = [like(rng, start) | {"W": random(rng, (13, 5), F4).copy("F")} for _ in range(4)]

    def trained(options):
        params, opt = copy.deepcopy(start), cls(**{"lr": 0.05, **options})
        for grads in copy.deepcopy(steps):
            opt.update(params, grads)
        return frozen({"p": params, **{slot: dict(views) for slot, views in opt.state.items()}})

    expected = trained({})
    for options in NEUTRAL + NEUTRAL_FOR_ADAM * (cls is Adam):
        assert trained(options) == expected, options


def test_powers_of_two_are_exact(rng):
    start, g = random(rng, (50,), F4), random(rng, (50,), F4)
    results = set()
    for factor, calls, options in (
        (1, 1, {}),
        (8, 1, {"grad_scale": 8}),
        (1, 4, {"accumulate": 4}),
        (-0.25, 2, {"grad_scale": 0.25, "accumulate": 2, "maximize": True}),
    ):
        p, opt = start.copy(), Adam(0.1, **options)
        for _ in range(2 * calls):
            opt.update({"p": p}, {"p": g * F4(factor)})
        results.add(p.tobytes())
    assert len(results) == 1


def test_options_are_attributes():
    opt = Adam()
    for name, default in OPTIONS.items():
        assert getattr(opt, name) == default
        for option, value in ALONE[name].items():
            setattr(opt, option, value)
            if option != "ema":
                assert getattr(opt, option) == value
    assert json.loads(json.dumps(opt.state_dict()["hyperparameters"]))["ema"] == ALONE["ema"]["ema"]
