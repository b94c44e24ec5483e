"""The step's numbers: schedules, and the steps that each name counts."""

import numpy as np
import pytest

from fastoptim import Adam, schedules
from pair import Pair
from references import WITH_REFERENCE
from support import (
    FEW,
    OPTIMIZERS,
    assert_same_bits,
    assert_state_same_bits,
    in_every_layout,
    like,
    python,
    random,
)
from variants import VARIANTS, kind_of, own_hyperparameters

F4 = np.float32


def test_a_schedule_gets_the_number_of_steps_made(rng):
    asked = []
    opt = Adam(lr=lambda step: asked.append(step) or 0.1, accumulate=2, skip_nonfinite=True)
    p = random(rng, (3,), F4)
    for call in range(6):
        opt.update({"p": p}, {"p": np.full(3, np.nan if call == 1 else 1, F4)})
    assert (opt.iter, opt.skipped) == (2, 1)
    assert {0, 1} <= set(asked) <= {0, 1, 2}  # the last one for a step that is yet to come
    assert asked == sorted(asked)
    assert all(type(step) is int for step in asked)
    assert callable(opt.lr)


@pytest.mark.parametrize("cls", WITH_REFERENCE)
def test_every_number_may_follow_a_schedule(cls, rng):
    options = {"weight_decay": schedules.linear(0, 0.5, steps=3), "clip_norm": 0.7} if cls in FEW else {}
    for name, value in VARIANTS[cls.__name__][0].items():
        default = own_hyperparameters(cls)[name]
        if kind_of(cls, name) != "count":  # all numbers between may be, too
            options[name] = schedules.linear(value, value if default is None else default, steps=3)
    assert "lr" in options
    params = in_every_layout(rng)
    pair = Pair(cls, params, **options)
    for _ in range(4):
        pair.update(like(rng, params))
        pair.check()


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_a_late_name_counts_its_own_steps(cls, rng):
    early, late = random(rng, (6,), F4), random(rng, (6,), F4)
    start = late.copy()
    opt = cls(lr=0.1)
    for _ in range(3):
        opt.update({"early": early, "late": late}, {"early": random(rng, (6,), F4), "late": None})
    assert_same_bits(late, start)
    fresh = cls(lr=0.1)
    for g in random(rng, (6,), F4), None, random(rng, (6,), F4):
        opt.update({"early": early, "late": late}, {"early": random(rng, (6,), F4), "late": g})
        if g is not None:
            fresh.update({"late": start}, {"late": g})
        assert_same_bits(late, start)
    saved = opt.state_dict()
    assert saved["steps"] == {"early": 6, "late": 2}
    assert_state_same_bits(opt, fresh, "late")


def test_no_gradient_at_all(rng):
    p = random(rng, (4,), F4)
    before, opt = p.copy(), Adam(ema=0.9, clip_norm=1)
    opt.update({"p": p}, {"p": None})
    assert_same_bits(p, before)
    assert opt.iter == 0  # nobody made a step
    assert opt.grad_norm == 0
    assert not opt.averages
    with pytest.raises(KeyError, match="grads has no 'p'"):
        opt.update({"p": p}, {})


def test_names_are_saved_in_the_order_in_which_they_came():
    """Also where Python's hashes, and with them the order of sets, differ from run to run."""
    program = """
import numpy as np, fastoptim
params = {name: np.ones(2) for name in "zyxwvutsrq"}
opt = fastoptim.Adam()
opt.update(params, params)
opt.update({"t": params["t"], "y": params["y"]}, params)
print("".join(opt.state_dict()["steps"]))
"""
    for seed in "1", "2", "3":
        assert python(program, PYTHONHASHSEED=seed) == "zyxwvutsrq\n"
