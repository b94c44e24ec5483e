"""`groups`: other hyperparameters by name, and what a group refuses."""

import copy
import math

import numpy as np
import pytest

from fastoptim import SGD, Adam
from references import ALONE, GROUPS
from support import (
    OPTIMIZERS,
    assert_close,
    assert_same_bits,
    like,
    random,
    snapshot,
)
from variants import VARIANTS, accepted

F4 = np.float32


def test_groups_by_any_name(rng):
    params = {name: random(rng, (4,), F4) for name in (3, "3x", ("a", 1), "X")}
    groups = {"3": {"lr": 0.5}, "('a', ?)": {"lr": 0.25}, "x": {"lr": 9}, "*": {"lr": 0}}
    start, grads = copy.deepcopy(params), like(rng, params)
    with pytest.raises(ValueError, match=r"groups.*'x'"):
        SGD(lr=1, groups=groups).update(params, grads)
    del groups["x"]
    SGD(lr=1, groups=groups).update(params, grads)
    rates = {3: 0.5, ("a", 1): 0.25, "3x": 0, "X": 0}
    for name, p in params.items():
        assert_same_bits(p, start[name] - F4(rates[name]) * grads[name], str(name))


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_each_hyperparameter_of_a_group(cls, rng):
    """A group's names go as with an optimizer of their own: bit for bit."""
    values = [{name: value} for name, value in VARIANTS[cls.__name__][0].items()] + [{"lr": lambda step: 0.1 * step}]
    if cls is Adam:
        values += [
            ALONE[name] for name in ("weight_decay", "decoupled", "clip_value", "maximize", "bounds", "nonnegative")
        ]
    for group in filter(None, (accepted(cls, {"groups": {"a*": each}})["groups"]["a*"] for each in values)):
        params, grads = ({name: random(rng, (6,), F4) for name in ("a1", "b1")} for _ in range(2))
        expected = copy.deepcopy(params)
        opt = cls(lr=0.05, groups={"a*": group, "a1": {"lr": 5}})
        alone = {"a1": cls(**{"lr": 0.05, **group}), "b1": cls(lr=0.05)}
        for _ in range(3):
            opt.update(params, grads)
            for name, p in expected.items():
                alone[name].update({name: p}, {name: grads[name]})
        # Where the group's number chooses another rule, the other names follow that one, too: it rounds otherwise.
        alike = assert_same_bits if opt.variant == cls().variant else assert_close
        for name, p in expected.items():
            alike(params[name], p, f"{group} {name}")


NOT_IN_GROUPS = ("cautious", "clip_norm", "accumulate", "ema", "grad_scale", "skip_nonfinite", "zero_grads", "groups",
                 "frozen", "capturable", "learning_rate", "momentum", "rule", "iter", 5)  # fmt: skip

WRONG_GROUPS = [{name: 1} for name in NOT_IN_GROUPS] + [
    {"lr": -1},
    {"lr": None},
    {"beta1": 1.0},
    {"eps_hat": 3},
    {"weight_decay": math.nan},
    {"decoupled": "no"},
    {"clip_value": 0},
    {"lr": 0.1, "maximize": 5},
    {"bounds": (1, 0)},
    {"nonnegative": None},
]


@pytest.mark.parametrize("group", WRONG_GROUPS, ids=str)
def test_wrong_groups_name_the_pattern_and_the_key(group):
    words = rf"groups.*'W\*'.*{list(group)[-1]}"
    with pytest.raises(ValueError, match=words):
        Adam(groups={"b": {"lr": 0.1}, "W*": group})
    opt = Adam(groups=GROUPS)
    with pytest.raises(ValueError, match=words):
        opt.groups = {"W*": group}
    assert opt.groups == GROUPS


def test_a_pattern_without_a_name(rng):
    params = {"W": random(rng, (3,), F4)}
    grads = like(rng, params)
    opt = Adam(groups={"W": {"lr": 0.1}, "w": {"lr": 0.5}})
    before = snapshot(opt, params, grads)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"groups.*'w'"):
            opt.update(params, grads)
        assert snapshot(opt, params, grads) == before
    opt.update({**params, "w": np.ones(2, F4)}, {**grads, "w": None})  # from now on it may be away
    opt.update(params, grads)
    opt.groups = {"v": {"lr": 0.5}}
    before = snapshot(opt, params, grads)
    with pytest.raises(ValueError, match=r"groups.*'v'"):
        opt.update(params, grads)
    assert snapshot(opt, params, grads) == before


def test_dampening_is_for_names_that_have_momentum(rng):
    """As in PyTorch: the steps of the others are those of plain SGD."""
    params = {name: random(rng, (4,), F4) for name in ("a", "b")}
    alone = params["b"].copy()
    opt, plain = SGD(lr=0.1, dampening=0.5, groups={"a": {"momentum": 0.9}}), SGD(lr=0.1)
    for _ in range(3):
        grads = like(rng, params)
        opt.update(params, grads)
        plain.update({"b": alone}, {"b": grads["b"]})
    assert_close(params["b"], alone)
