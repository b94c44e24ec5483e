"""`frozen`: names that do not take part, whatever else is on, and that go on later as if they had been away."""

import copy
import pickle

import numpy as np
import pytest

import fastoptim
from fastoptim import SGD, Adam
from internals import bound_step, count_rows
from references import EVERYTHING
from support import assert_same_bits, flat_like, like, random, read_only, snapshot

F4 = np.float32
SHAPES = {"b1": (7,), "W": (5, 9), "s": (), "b2": (3,), "late": (4,)}


def start(rng, flat=False):
    params = {name: random(rng, shape, F4) for name, shape in SHAPES.items()}
    return fastoptim.flatten(params) if flat else params


def state_of(opt):
    """All that lasts, without the options."""
    saved = opt.state_dict()
    del saved["hyperparameters"]
    return pickle.dumps(saved)


@pytest.mark.parametrize("flat", [False, True])
def test_as_if_only_the_others_were_given(flat, rng):
    """With every option on: norm, nan, counts, sums, averages. The frozen gradients are never looked at."""
    params, frozen = start(rng, flat), ("s", "b2")
    others = {name: p.copy() for name, p in params.items() if name not in frozen}
    before, opt, other = copy.deepcopy(params), Adam(**EVERYTHING, frozen=["s", "b2"]), Adam(**EVERYTHING)
    for call in range(7):
        grads = like(rng, params)
        if call == 3:
            grads["W"][1, 1] = np.nan
        copies = {name: grads[name].copy() for name in others}
        mine = flat_like(params, grads) if flat else {**grads, "b2": ["no", "array"], "s": np.full((), np.nan)}
        if flat:
            mine["s"][...] = mine["b2"][:] = np.nan
        elif call % 2:
            del mine["b2"], mine["s"]
        opt.update(params, mine)
        other.update(others, copies)
        assert not mine["W"].any()
        if flat:
            assert np.isnan(mine["s"])
            assert np.isnan(mine["b2"]).all()
    for name, p in params.items():
        assert_same_bits(p, before[name] if name in frozen else others[name], name)
    assert state_of(opt) == state_of(other)
    assert (opt.iter, opt.skipped, opt.grad_norm) == (other.iter, other.skipped, other.grad_norm)
    assert set(opt.state["m"]) == set(others)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("options", [{}, {"accumulate": 2, "ema": 0.5}], ids=["plain", "sums"])
def test_frozen_for_a_while(flat, options, rng):
    """As with gradients of None, but that `accumulate` does not count the calls, either."""
    params = start(rng, flat)
    others = {name: p.copy() for name, p in params.items()}
    opt, other = Adam(**options), Adam(**options)
    for frozen, calls in ((), 3), ("b*", 4), (("W", "b1"), 2), ((), 3):
        opt.frozen = frozen
        held = {"": (), "b*": ("b1", "b2")}.get("".join(frozen), frozen)
        for _ in range(calls):
            grads = like(rng, params)
            opt.update(params, flat_like(params, grads) if flat else {**grads, **dict.fromkeys(held)})
            other.update({name: p for name, p in others.items() if name not in held}, grads)
            assert state_of(opt) == state_of(other)
    for name, p in others.items():
        assert_same_bits(params[name], p, name)
    counts = opt.state_dict()["steps"]
    assert counts == ({"b1": 6, "W": 10, "s": 12, "b2": 8, "late": 12} if not options else counts)


def test_a_frozen_array_may_be_anything():
    params = {"p": np.ones(3), "count": 3, "mean": read_only(np.ones(2)), "ids": np.arange(4)}
    opt = SGD(0.5, frozen=("count", "mean", "ids"))
    opt.warmup(params)
    opt.update(params, {"p": np.ones(3)})
    assert list(params["p"]) == [0.5] * 3
    opt.update([np.ones(3)], [np.ones(3)])  # names that no pattern matches, now that each has matched one


def test_positions_of_a_list():
    params = [np.ones(2), np.ones(2), np.ones(2)]
    SGD(0.5, frozen="[02]").update(params, [None, np.ones(2), np.ones(2)])
    assert [p[0] for p in params] == [1, 0.5, 1]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_all_are_frozen(accumulate):
    params, opt = {"p": np.ones(3)}, Adam(frozen="*", accumulate=accumulate, clip_norm=1.0)
    for grads in {}, {"p": np.ones(3)}:
        opt.update(params, grads)
        assert (opt.iter, list(params["p"])) == (0, [1, 1, 1])
    assert not opt.state["m"]


def test_averages(rng):
    params, opt = start(rng), Adam(ema=0.5, frozen=("s", "W"))
    opt.update(params, like(rng, params))
    opt.frozen = "s", "b1"
    before = copy.deepcopy(params)
    opt.update(params, like(rng, params))
    own = copy.deepcopy(params)
    with opt.averaged(params):
        assert_same_bits(params["s"], before["s"])  # it has none
        for name in "b1", "W":  # the average of the steps that it made
            assert_same_bits(params[name], opt.averages[name])
            assert (params[name] != own[name]).all()
    for name, p in own.items():
        assert_same_bits(params[name], p, name)
    opt.frozen = ()
    with pytest.raises(KeyError, match=r"params\['s'\]: expected a parameter that was updated"), opt.averaged(params):
        pass


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_pattern_without_a_name(accumulate, rng):
    params, opt = start(rng), Adam(accumulate=accumulate, frozen=["W", "w*"])
    grads = like(rng, params)
    before = snapshot(opt, params, grads)
    for call in opt.update, lambda params, grads: opt.warmup(params):
        with pytest.raises(ValueError, match=r"frozen\['w\*'\]: expected a pattern that matches a name of params"):
            call(params, grads)
    assert snapshot(opt, params, grads) == before
    opt.frozen = ["W"]
    opt.update(params, grads)
    opt.update({"b1": params["b1"]}, grads)  # from now on they may be away
    opt.frozen = "W[0]"
    with pytest.raises(ValueError, match=r"In a pattern \[ begins a set of characters: write 'W\[\[\]0\]'"):
        opt.update({**params, "W[0]": params["W"]}, grads)


def test_a_missing_gradient_of_another_name():
    with pytest.raises(KeyError, match="grads has no 'a', which params has"):
        SGD(frozen="b").update({"a": np.ones(2), "b": np.ones(2)}, {})
    for params, grads in (None, {}), ({"a": np.ones(1), "b": np.ones(1)}, None):
        with pytest.raises(TypeError, match="expected a mapping"):
            SGD(frozen="b").update(params, grads)


def test_a_group_of_frozen_names_alone(rng):
    params = start(rng)
    opt = SGD(0.1, frozen="b*", groups={"b1": {"lr": 5}})
    opt.update(params, like(rng, params))
    opt.frozen = "b2"
    before, grads = params["b1"].copy(), like(rng, params)
    opt.update(params, grads)
    assert_same_bits(params["b1"], before - F4(5) * grads["b1"])


def test_memory(rng):
    params = {name: p for name, p in start(rng).items() if name in ("W", "b1")}
    opt = Adam(ema=0.9, frozen="W")
    assert opt.memory(params) == (208, 56, 28, 0, 0)
    opt.frozen = "b1"
    opt.update(params, like(rng, params))
    opt.frozen = "W"  # which has a state now
    assert opt.memory(params) == (208, 416, 208, 0, 0)


def test_saved_as_an_option(tmp_path, rng):
    pytest.importorskip("safetensors", reason="writes a checkpoint, which needs the safetensors package")
    params, opt = start(rng), Adam(frozen=("b*", "s"), bounds=(-1, None))
    for _ in range(2):
        opt.update(params, like(rng, params))
    fastoptim.save(tmp_path / "file", params, opt)
    others, other = start(rng), Adam()
    fastoptim.load(tmp_path / "file").restore(others, other)
    assert other.frozen == ("b*", "s")
    assert other.bounds == (-1.0, None)
    grads = like(rng, params)
    opt.update(params, grads)
    other.update(others, copy.deepcopy(grads))
    for name, p in params.items():
        assert_same_bits(others[name], p, name)


def test_in_turn(rng):
    """Two parts that are trained in turn, as adversaries are, are bound once."""
    params, opt, steps = start(rng), Adam(), set()
    for call in range(6):
        opt.frozen = ("b*", "[!b]*")[call % 2]
        opt.update(params, like(rng, params))
        steps.add(bound_step(opt))
    assert len(steps) == 2
    assert opt.state_dict()["steps"] == dict.fromkeys(SHAPES, 3)


def test_a_flat_buffer_without_frozen_names_stays_one(rng, monkeypatch):
    rows = count_rows(monkeypatch)
    one, two = start(rng, flat=True), fastoptim.flatten({"x": np.ones(3, F4), "y": np.ones(4, F4)})
    opt = SGD(0.1, frozen="b*")
    for params in one, two:
        opt.update(params, flat_like(params, like(rng, params)))
    assert rows == [3, 1]
