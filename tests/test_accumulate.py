"""`accumulate`: sums of the gradients of several calls."""

import numpy as np

from fastoptim import Adam
from pair import Pair
from support import assert_same_bits, like, random

F4 = np.float32


def test_a_sum_over_several_calls_takes_each_calls_scale(rng):
    params = {"p": random(rng, (9,), F4), "late": random(rng, (4,), F4)}
    pair = Pair(Adam, params, accumulate=3, skip_nonfinite=True)
    for call, scale in enumerate([1024, 512, 256, 2048, 4, 4, 4]):
        pair.assign(grad_scale=scale)
        grads = {name: g * F4(scale) for name, g in like(rng, params).items()}
        grads["late"] = None if call % 3 != 1 else grads["late"]
        if call == 2:
            grads["p"][0] = np.inf
        pair.update(grads)
        pair.check()
    assert (pair.opt.iter, pair.opt.skipped) == (2, 1)


def test_a_sum_does_not_share_memory_with_gradients(rng):
    p, g = random(rng, (9,), F4), random(rng, (9,), F4)
    theirs, opt, twin = p.copy(), Adam(accumulate=2), Adam(accumulate=2)
    given = g.copy()
    opt.update({"p": p}, {"p": given})
    twin.update({"p": theirs}, {"p": g})
    given[...] = 77
    opt.update({"p": p}, {"p": g})
    twin.update({"p": theirs}, {"p": g})
    assert_same_bits(p, theirs)
