"""`skip_nonfinite`: a call with one bad number changes nothing."""

import numpy as np
import pytest

from fastoptim import SGD, Adam
from references import EVERYTHING
from support import FEW, LAYOUTS, in_every_layout, like, snapshot

F4 = np.float32
LARGE = 40_000  # elements, for which there are several threads


@pytest.mark.parametrize("cls", FEW)
def test_a_skipped_call_changes_nothing(cls, rng):
    params = in_every_layout(rng)
    opt = cls(**EVERYTHING)
    for call in range(4):
        for name in ("a 2", "b 3", "a 4")[: 3 - call]:  # none of them in the last call
            bad = like(rng, params)
            bad[name].flat[-1] = np.inf
            zeroed = {key: np.zeros_like(g) for key, g in bad.items()}
            before, skipped = snapshot(opt, params, zeroed), opt.skipped
            opt.update(params, bad)
            assert opt.skipped == skipped + 1
            after = snapshot(opt, params, bad)
            for counts in before, after:
                del counts["counts"], counts["saved"]["skipped"]
            assert after == before
        opt.update(params, like(rng, params))
    assert (opt.iter, opt.skipped) == (1, 6)


@pytest.mark.parametrize("size", [3, LARGE])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_bad_number_anywhere_is_found(layout, size):
    p, opt = np.zeros((size, 2), F4), SGD(skip_nonfinite=True)
    for place in 0, size, 2 * size - 1:
        for bad in np.nan, np.inf, -np.inf:
            g = np.ones((size, 2), F4)
            g.flat[place] = bad
            opt.update({"q": np.zeros(1), "p": p}, {"q": np.ones(1), "p": LAYOUTS[layout](g)})
    assert (opt.iter, opt.skipped) == (0, 9)
    assert not p.any()


def test_what_overflows_in_the_parameters_dtype_is_skipped():
    opt, p = SGD(skip_nonfinite=True), np.zeros(2, F4)
    opt.update({"p": p}, {"p": np.array([1, 1e300])})
    opt.update({"p": p}, {"p": np.array([1, 1e30])})
    assert (opt.iter, opt.skipped) == (1, 1)


def test_others_gradients_are_not_looked_at():
    opt, p = Adam(skip_nonfinite=True, zero_grads=True), np.zeros(2, F4)
    grads = {"p": np.ones(2, F4), "other": np.full(2, np.nan, F4)}
    opt.update({"p": p}, grads)
    assert (opt.iter, opt.skipped) == (1, 0)
    assert np.isnan(grads["other"]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cls", FEW)
def test_steps_are_skipped_in_every_call(cls, dtype):
    """With no other option, and after calls that were not skipped, too."""
    p, opt = {"p": np.ones(3, dtype)}, cls(skip_nonfinite=True)
    for call in range(6):
        before = p["p"].copy()
        opt.update(p, {"p": np.full(3, np.nan if call % 3 == 2 else 1, dtype)})
        assert (p["p"] == before).all() == (call % 3 == 2)
    assert (opt.iter, opt.skipped) == (4, 2)
