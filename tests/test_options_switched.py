"""Options and arrays that change while training."""

import numpy as np
import pytest

from fastoptim import SGD, Adam, schedules
from pair import Pair
from references import EVERYTHING, GROUPS, OPTIONS
from support import LAYOUTS, in_every_layout, like, random

F4 = np.float32


def test_switched_while_training(rng):
    params = in_every_layout(rng)
    pair = Pair(Adam, params)
    for options in (
        {"ema": 0.5},
        {"ema": 0.75, "lr": schedules.linear(0, 0.02, steps=20)},
        {"ema": None, "clip_norm": 0.5, "beta1": schedules.linear(0, 0.9, steps=20)},
        {"clip_norm": 2, "lr": 0.01, "skip_nonfinite": True},
        {"clip_norm": None, "ema": 0.5},
        {"ema": None, "weight_decay": schedules.exponential(1, 0.9)},
        {"decoupled": True, "lr": schedules.step(0.1, steps=9, gamma=0)},
        {"weight_decay": 0, "accumulate": 2, "lr": 0.02, "beta1": 0.5},
        {"accumulate": 1, "zero_grads": True},
        {"zero_grads": False, "maximize": True},
        {"maximize": False, "clip_value": 0.3},
        {"clip_value": None, "decoupled": False, "groups": GROUPS},
        EVERYTHING | {"accumulate": 2},
        {name: value for name, value in OPTIONS.items() if name != "ema"},
    ):
        pair.assign(**options)
        for _ in range(2):
            pair.update(like(rng, params))
            pair.check()


@pytest.mark.parametrize("options", [{}, {**EVERYTHING, "groups": None}], ids=["averages", "everything"])
@pytest.mark.parametrize("cls", [SGD, Adam])
def test_other_arrays_in_another_order_go_on_with_averages_and_sums(cls, options, rng):
    start = {"W": random(rng, (3, 4), F4), "b": random(rng, (2, 3, 4), F4)}
    pair = Pair(cls, start, **options)
    for call, layout in enumerate(("C", "F", "strided", "axes moved", "C", "reversed", "F")):
        pair.params = {name: LAYOUTS[layout](p) for name, p in pair.params.items()}
        if call == 1:
            pair.assign(ema=0.5)
        pair.update({name: LAYOUTS["F" if call % 3 else "C"](g) for name, g in like(rng, start).items()})
        pair.check()
