"""Wrong options, wrong values of schedules, and bad calls with every option on: nothing changes."""

import math

import numpy as np
import pytest

from fastoptim import Adam
from references import ALONE, EVERYTHING, OPTIONS
from support import LAYOUTS, OPTIMIZERS, like, random, read_only, snapshot
from variants import WRONG, accepted

F4 = np.float32


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_wrong_options_are_refused_by_name(cls):
    for name in OPTIONS:
        for value in WRONG[name]:
            with pytest.raises(ValueError, match=f"{name}.*: expected .*got"):
                cls(**{name: value})
            opt = cls(**accepted(cls, ALONE[name]))
            kept = opt.state_dict()["hyperparameters"]
            with pytest.raises(ValueError, match=f"{name}.*: expected .*got"):
                setattr(opt, name, value)
            assert opt.state_dict()["hyperparameters"] == kept


def failing(step):
    raise ZeroDivisionError("no rate today")


BAD = {
    "negative": ({"lr": lambda step: -1.0}, ValueError, "lr.*: expected .*got -1"),
    "nan": ({"lr": lambda step: math.nan}, ValueError, "lr.*: expected .*got nan"),
    "infinite": ({"weight_decay": lambda step: math.inf}, ValueError, "weight_decay.*: expected .*got inf"),
    "text": ({"lr": lambda step: "0.1"}, ValueError, "lr.*: expected .*got '0.1'"),
    "nothing": ({"eps": lambda step: None}, ValueError, "eps.*: expected .*got None"),
    "one": ({"beta1": lambda step: 1}, ValueError, "beta1.*: expected .*got 1"),
    "in a group": ({"groups": {"b": {"lr": lambda step: -0.5}}}, ValueError, "lr.*: expected .*got -0.5"),
    "raises": ({"lr": failing}, ZeroDivisionError, "no rate today"),
}


@pytest.mark.parametrize("calls", [1, 3])
@pytest.mark.parametrize("case", BAD)
def test_a_schedules_wrong_value_changes_nothing(case, calls, rng):
    options, error, words = BAD[case]
    params = {"W": random(rng, (3, 4), F4), "b": LAYOUTS["strided"](random(rng, (4,), F4))}
    opt = Adam(**{**EVERYTHING, "accumulate": 2, "groups": None})
    for _ in range(calls):
        opt.update(params, like(rng, params))
    grads, before = like(rng, params), {name: getattr(opt, name) for name in options}
    expected = snapshot(opt, params, grads)
    for name, value in options.items():
        setattr(opt, name, value)
    with pytest.raises(error, match=words):
        opt.update(params, grads)
    for name, value in before.items():
        setattr(opt, name, value)
    assert snapshot(opt, params, grads) == expected
    opt.update(params, grads)
    assert opt.iter == (calls + 1) // 2


@pytest.mark.parametrize("what", ["missing", "shape", "dtype", "read-only", "shared"])
@pytest.mark.parametrize("trained", [False, True])
def test_a_bad_call_changes_nothing_with_every_option_on(what, trained, rng):
    params = {"W": random(rng, (3, 4), F4), "b": LAYOUTS["strided"](random(rng, (4,), F4)), "b0": np.ones((), F4)}
    opt = Adam(**EVERYTHING)
    for _ in range(5 if trained else 0):
        opt.update(params, like(rng, params))
    grads, given = like(rng, params), dict(params)
    if what == "missing":
        del grads["b"]
    elif what == "shape":
        grads["b"] = np.ones(3)
    elif what == "dtype":
        grads["b"] = np.ones(4, int)
    elif what == "read-only":
        given["b"] = read_only(np.ones(4, F4))
    else:
        given["b0"] = given["W"][1, 1:2].reshape(())
    before = snapshot(opt, given, grads)
    with pytest.raises((KeyError, ValueError, TypeError), match=r"'b0?'"):
        opt.update(given, grads)
    assert snapshot(opt, given, grads) == before
    opt.update(params, like(rng, params))
