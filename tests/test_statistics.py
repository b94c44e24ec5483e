"""`statistics`: what is measured of each array in the pass that updates it, against NumPy. It changes no bit."""

import copy
import pickle

import numpy as np
import pytest

import fastoptim
from fastoptim import LAMB, SGD, Adam
from support import DTYPES, assert_same_bits, random

EVERY = ("grad_norm", "param_norm", "update_norm", "clipped", "nan", "inf")
SHAPES = {"W": (70, 90), "b": (13,), "s": (), "e": (0,)}


def arrays(rng, dtype):
    return {name: random(rng, shape, dtype) for name, shape in SHAPES.items()}


def norm(x):
    return np.linalg.norm(np.asarray(x, np.float64))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", [SGD, Adam, LAMB])
def test_what_is_measured(cls, dtype, rng):
    options = {"clip_norm": 3.0, "clip_value": 0.05, "grad_scale": 4.0, "ema": 0.9}
    opt, plain = cls(0.1, statistics=EVERY, **options), cls(0.1, **options)
    params = arrays(rng, dtype)
    same = copy.deepcopy(params)
    for _ in range(3):
        grads, before = arrays(rng, dtype), copy.deepcopy(params)
        opt.update(params, grads)
        plain.update(same, grads)
        coef = min(1, 3 / (opt.grad_norm + 1e-6))
        assert list(opt.last_statistics) == list(SHAPES)
        for name, found in opt.last_statistics.items():
            assert_same_bits(params[name], same[name], name)
            limited = np.abs(grads[name].astype(float) * coef / 4) > 0.05
            assert found.grad_norm == pytest.approx(norm(grads[name]) / 4, rel=1e-5)
            assert found.param_norm == pytest.approx(norm(before[name]), rel=1e-5)
            assert found.update_norm == pytest.approx(norm(params[name].astype(float) - before[name]), rel=1e-3)
            assert found.clipped == pytest.approx(limited.mean() if limited.size else 0, abs=1e-3)
            assert (found.nan, found.inf) == (0, 0)


def test_some_of_them_and_none(rng):
    params, opt = arrays(rng, np.float32), Adam(statistics="update_norm")
    assert opt.last_statistics == {}
    opt.update(params, arrays(rng, np.float32))
    found = opt.last_statistics["W"]
    assert found.update_norm > 0
    assert found._replace(update_norm=None) == fastoptim.Statistics()
    for other in pickle.loads(pickle.dumps(opt)), copy.deepcopy(opt):
        assert other.last_statistics == {}  # they are the last step's, and are not saved
        assert other.statistics == ("update_norm",)
    opt.statistics = ()
    opt.update(params, arrays(rng, np.float32))
    assert opt.last_statistics == {}


def test_flat_buffers_and_names_that_take_part(rng):
    params = {"W": random(rng, (70, 90), np.float32), "b": random(rng, (13,), np.float32)}
    flat, one, two = fastoptim.flatten(params), Adam(statistics=EVERY), Adam(statistics=EVERY)
    grads = {name: random(rng, x.shape, np.float32) for name, x in params.items()}
    gradients = flat.zeros_like()
    for name, g in grads.items():
        gradients[name][...] = g
    one.update(params, grads)
    two.update(flat, gradients)
    assert one.last_statistics == two.last_statistics
    one.update(params, {**grads, "W": None})
    assert list(one.last_statistics) == ["b"]


def test_a_skipped_call_says_where(rng):
    params, opt = arrays(rng, np.float32), Adam(statistics=("grad_norm", "nan", "inf"), skip_nonfinite=True)
    grads = arrays(rng, np.float32)
    grads["W"][3, :2], grads["b"][5] = np.nan, np.inf
    opt.update(params, grads)
    assert opt.skipped == 1
    found = opt.last_statistics
    assert (found["W"].nan, found["W"].inf, found["b"].nan, found["b"].inf) == (2, 0, 0, 1)
    assert found["W"].grad_norm is None
    opt.skip_nonfinite = False
    opt.update(params, grads)
    assert opt.last_statistics["W"].nan == 2


def test_summed_gradients(rng):
    params, opt = {"p": np.zeros(5)}, SGD(1.0, accumulate=2, statistics=("grad_norm", "update_norm"))
    one, two = rng.standard_normal(5), rng.standard_normal(5)
    opt.update(params, {"p": one})
    opt.update(params, {"p": two})
    assert opt.last_statistics["p"].grad_norm == pytest.approx(norm((one + two) / 2), rel=1e-12)
    assert opt.last_statistics["p"].update_norm == pytest.approx(norm(params["p"]), rel=1e-12)


def test_fewer_statistics_than_sums_of_another_stage(rng):
    """LAMB's first stage sums two values of each element."""
    params, opt = {"W": random(rng, (3, 4096), np.float32), "b": random(rng, 5000, np.float32)}, LAMB(statistics="nan")
    grads = {name: random(rng, x.shape, np.float32) for name, x in params.items()}
    for name, places in ("W", [0, 4096, 8192, 12_287]), ("b", [4999]):
        grads[name].reshape(-1)[places] = np.nan
    opt.update(params, grads)
    assert [found.nan for found in opt.last_statistics.values()] == [4, 1]


def test_a_call_that_is_skipped_amid_a_sum_says_where(rng):
    params, opt = arrays(rng, np.float32), Adam(statistics=("nan", "inf"), skip_nonfinite=True, accumulate=2)
    grads = arrays(rng, np.float64)
    grads["W"][3, :2], grads["b"][5] = np.nan, 1e300  # no float32
    opt.update(params, grads)
    assert opt.skipped == 1
    found = opt.last_statistics
    assert (found["W"].nan, found["W"].inf, found["b"].nan, found["b"].inf) == (2, 0, 0, 1)


@pytest.mark.parametrize("wrong", ["norm", ("grad_norm", "grad_norm"), ["nan", 3], 1, None, {"nan"}])
def test_names_that_are_refused(wrong):
    with pytest.raises(ValueError, match=r"statistics: expected .*(grad_norm|once)"):
        Adam(statistics=wrong)
