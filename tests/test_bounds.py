"""`bounds` and `nonnegative`: where parameters are after a step, and which intervals are refused."""

import json

import numpy as np
import pytest

import fastoptim
from fastoptim import SGD, Adam, schedules
from support import assert_same_bits, random, snapshot

F4, F8 = np.float32, np.float64


def test_where_a_step_ends(rng):
    """At the nearest number of the interval, with a parameter that was outside, and with nan."""
    p, g = np.array([5.0, -5.0, 0.5, 0.5, np.nan, 0.5], F4), np.array([0, 0, 1, -1, 0, np.nan], F4)
    SGD(1.0, bounds=(-0.25, 1.25)).update({"p": p}, {"p": g})
    assert_same_bits(p, np.array([1.25, -0.25, -0.25, 1.25, np.nan, np.nan], F4))


def test_without_a_gradient_nothing_is_projected():
    params = {"a": np.array([-1.0, 1.0]), "b": np.array([-1.0, 1.0])}
    SGD(1.0, nonnegative=True).update(params, {"a": np.zeros(2), "b": None})
    assert list(params["a"]) == [0, 1]
    assert list(params["b"]) == [-1, 1]


def test_the_average_follows_the_projected_parameter():
    params, opt = {"p": np.array([1.0])}, SGD(4.0, ema=0.5, nonnegative=True)
    opt.update(params, {"p": np.array([1.0])})
    assert params["p"][0] == 0
    assert opt.averages["p"][0] == 0.5


def test_a_least_squares_fit_without_negative_parts(rng):
    """The minimum of a convex function within bounds is where a projected step changes nothing."""
    a, b = rng.standard_normal((30, 8)), rng.standard_normal(30)
    params = {"x": np.ones(8)}
    opt = Adam(schedules.exponential(0.1, 0.99), nonnegative=True)
    for _ in range(2000):
        opt.update(params, {"x": a.T @ (a @ params["x"] - b)})
    x = params["x"]
    slope = a.T @ (a @ x - b)
    assert (x >= 0).all()
    assert 0 < (x > 0).sum() < 8
    assert np.abs(slope[x > 0]).max() < 1e-3
    assert slope[x == 0].min() > -1e-3


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ((0, 1), (0.0, 1.0)),
        ([0, None], (0.0, None)),
        ((-np.inf, np.float32(0.5)), (None, 0.5)),
        ((0.25, 0.25), (0.25, 0.25)),
        ((None, None), None),
        ((-np.inf, np.inf), None),
        ((-3.4e38, 3.4e38), (-3.4e38, 3.4e38)),
    ],
    ids=str,
)
def test_what_is_kept(given, kept):
    opt = SGD(bounds=given)
    assert opt.bounds == kept
    saved = json.loads(json.dumps(opt.state_dict()["hyperparameters"]))
    assert "Infinity" not in str(saved)
    other = SGD()
    other.load_state_dict({**opt.state_dict(), "hyperparameters": saved})
    assert other.bounds == kept
    assert repr(other) == repr(opt)


def test_groups_are_kept_too():
    opt, other = SGD(groups={"*": {"bounds": (0, None)}}), SGD()
    other.load_state_dict(json.loads(json.dumps(opt.state_dict())))
    assert other.groups == opt.groups == {"*": {"bounds": (0.0, None)}}


def test_both_hold():
    for bounds, expected in ((-1, 2), [0, 2]), ((1, None), [1, 5]), ((None, 0), [0, 0]), (None, [0, 5]):
        p = np.array([-5.0, 5.0])
        SGD(bounds=bounds, nonnegative=True).update({"p": p}, {"p": np.zeros(2)})
        assert list(p) == expected


@pytest.mark.parametrize(
    "options",
    [
        {"bounds": (-2, -1), "nonnegative": True},
        {"nonnegative": True, "groups": {"*": {"bounds": (None, -1)}}},
        {"bounds": (-2, -1), "groups": {"*": {"nonnegative": True}}},
    ],
    ids=str,
)
def test_an_empty_interval_is_refused(options, rng):
    params, opt = {"p": random(rng, (3,), F8)}, Adam()
    opt.update(params, params)
    for name, value in options.items():
        setattr(opt, name, value)
    before = snapshot(opt, params)
    with pytest.raises(ValueError, match=r"bounds: expected some numbers >= 0, as nonnegative is True, got \("):
        opt.update(params, params)
    assert snapshot(opt, params) == before
    opt.nonnegative, opt.groups = False, None
    opt.update(params, params)


def test_rounded_to_the_dtype():
    params = {"a": np.array([-1.0, 1.0], F4), "b": np.array([-1.0, 1.0])}
    SGD(bounds=(0.1, 0.9)).update(params, {name: np.zeros_like(p) for name, p in params.items()})
    assert_same_bits(params["a"], np.array([0.1, 0.9], F4))
    assert_same_bits(params["b"], np.array([0.1, 0.9]))


@pytest.mark.parametrize("name", ["bounds", "nonnegative"])
def test_a_hyperparameter_of_that_name_turns_the_option_off(name):
    own = type("Own", (SGD,), {name: fastoptim.nonnegative(0.5)})
    p = np.array([-1.0])
    own().update({"p": p}, {"p": np.zeros(1)})
    assert list(p) == [-1]
