"""Where options meet: names that come and go, options that change, what is kept and what is not."""

import gc
import weakref
from collections.abc import Mapping

import numpy as np
import pytest

import fastoptim
from fastoptim import SGD, Adam, nonnegative, schedules
from internals import bound_step, interrupted_copies
from support import assert_same_bits

F4 = np.float32


def one(value=1.0, n=1):
    return np.full(n, value, F4)


def test_sums_of_a_name_that_leaves_wait_for_it():
    params, opt = {"a": one(0), "b": one(0)}, SGD(lr=1, accumulate=2)
    opt.update(params, {"a": one(100), "b": one(100)})
    opt.update({"a": params["a"]}, {"a": one(100)})
    assert (params["a"], params["b"]) == (-100, 0)
    opt.update(params, {"a": one(), "b": one()})
    assert (params["a"], params["b"]) == (-100, -50.5)
    opt.update(params, {"a": one(), "b": one()})
    assert (params["a"], params["b"]) == (-101, -50.5)
    assert opt.state_dict()["micro_steps"] == {"b": 1}


def test_two_networks_in_turn_each_have_their_micro_steps():
    """An optimizer that is called with two sets of names in turn is like one optimizer for each."""
    rng = np.random.default_rng(0)
    sets = [{f"{net}{i}": np.ones(5, F4) for i in range(2)} for net in "DG"]
    twins = [{name: p.copy() for name, p in params.items()} for params in sets]
    opt, others = Adam(lr=0.1, accumulate=3), [Adam(lr=0.1, accumulate=3) for _ in sets]
    for _ in range(9):
        for params, theirs, other in zip(sets, twins, others, strict=True):
            grads = {name: rng.standard_normal(5).astype(F4) for name in params}
            opt.update(params, grads)
            other.update(theirs, grads)
    assert opt.iter == others[0].iter == 3
    for params, theirs in zip(sets, twins, strict=True):
        for name, p in params.items():
            assert_same_bits(p, theirs[name])
            assert (p != 1).all()


def test_a_frozen_name_does_not_slow_an_accumulation():
    params, opt = {"a": one(0), "frozen": one(0)}, SGD(lr=1, accumulate=2, ema=0.5)
    steps = set()
    for _ in range(6):
        opt.update(params, {"a": one(), "frozen": None})
        steps.add(id(bound_step(opt)))
    assert opt.iter == 3
    assert len(steps - {id(None)}) == 1
    assert params["frozen"] == 0


def test_a_pattern_that_matches_nothing_stays_an_error_until_an_update_passes():
    opt = SGD(groups={"typo*": {"lr": 1.0}})
    opt.clip_norm = 1.0
    for _ in range(2):
        with pytest.raises(ValueError, match=r"groups\['typo\*'\]"):
            opt.update({"p": one()}, {"p": one()})
        opt.maximize = True


def test_groups_are_assigned_and_not_changed():
    opt = SGD(groups={"p": {"lr": 1.0}})
    assert opt.groups == {"p": {"lr": 1.0}}
    assert isinstance(opt.groups["p"], Mapping)
    with pytest.raises(TypeError):
        opt.groups["p"]["lr"] = 2.0


@pytest.mark.parametrize("pattern", ["schedule", "callable", "*"])
def test_any_pattern_can_be_saved(pattern):
    names = {pattern: one(), "x": one()}
    opt = SGD(groups={pattern: {"lr": schedules.constant(0.5), "weight_decay": 0.25}})
    opt.update(names, {name: one() for name in names})
    twin = SGD()
    twin.load_state_dict(opt.state_dict())
    assert twin.groups == opt.groups


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_a_smaller_accumulate_makes_a_step_on_what_there_is(accumulate):
    opt, p = SGD(lr=1, accumulate=4), {"p": one(0)}
    for _ in range(2):
        opt.update(p, {"p": one(3)})
    opt.accumulate = accumulate
    twin, theirs = SGD(), {"p": one(0)}
    twin.load_state_dict(opt.state_dict())
    for each, params in (opt, p), (twin, theirs):
        each.update(params, {"p": one(9)})
        assert params["p"] == -5
        assert (each.iter, each.state_dict()["micro_steps"], each.state_dict()["gradients"]) == (1, {}, {})
    opt.update(p, {"p": one(1)})
    assert p["p"] == (-6 if accumulate == 1 else -5)


def test_the_norm_adds_in_the_order_of_the_first_steps():
    rng = np.random.default_rng(0)
    for _ in range(40):
        grads = {name: rng.standard_normal(3000) for name in "abc"}
        params = {name: np.zeros(3000) for name in "abc"}
        opt = SGD(clip_norm=1.0)
        opt.update(params, grads)
        expected = opt.grad_norm
        opt.update({name: params[name] for name in "cab"}, grads)
        assert opt.grad_norm == expected


def test_the_first_gradients_are_not_kept():
    params, opt = {"a": one(n=50), "b": one(n=50)}, Adam(ema=0.9)
    grads = {"a": one(n=50), "b": one(n=50)}
    opt.update(params, grads)
    gone = weakref.ref(grads["a"])
    del grads
    gc.collect()
    assert gone() is None


def test_averages_are_for_the_arrays_that_they_are_of():
    params, opt = {"p": one(n=3)}, SGD(ema=0.5)
    opt.update(params, {"p": one(n=3)})
    for wrong, error in ({"p": np.ones(3)}, TypeError), ({"p": one(n=4)}, ValueError):
        kept = wrong["p"].copy()
        with pytest.raises(error, match=r"params\['p'\]: expected"), opt.averaged(wrong):
            pass
        assert_same_bits(wrong["p"], kept)
    opt.update(params, {"p": one(n=3)})  # and nobody thinks that these are averages


def test_averages_taken_back_where_putting_them_in_was_interrupted(monkeypatch):
    params, opt = {"p": one(n=3)}, SGD(ema=0.5)
    opt.update(params, {"p": one(n=3)})
    kept = params["p"].copy()
    with interrupted_copies(monkeypatch, after=2), pytest.raises(KeyboardInterrupt), opt.averaged(params):
        pass
    assert_same_bits(params["p"], kept)


def test_a_subclass_may_have_other_defaults():
    class Clipped(SGD):
        clip_norm = 1.0
        groups = {"p": {"lr": 0.5}}  # it becomes a hyperparameter
        lr = lambda t: 0.25  # noqa: E731

    opt = Clipped(clip_norm=None)
    assert (Clipped().clip_norm, opt.clip_norm, opt.groups["p"]["lr"]) == (1.0, None, 0.5)
    params = {"p": one(0), "q": one(0)}
    opt.update(params, {"p": one(), "q": one()})
    assert (params["p"], params["q"]) == (-0.5, -0.25)
    with pytest.raises(ValueError, match="clip_norm"):

        class Wrong(SGD):
            clip_norm = -1.0


def test_an_optimizer_cannot_have_a_hyperparameter_of_an_options_name():
    with pytest.raises(TypeError, match="clip_norm is an option"):

        class Own(SGD):
            clip_norm: float = nonnegative(1.0)


def test_no_scale_makes_numbers_of_nothing():
    for scale in 1e-30, 1e29:
        p = {"p": one()}
        SGD(grad_scale=scale).update(p, {"p": one(0)})
        assert p["p"] == 1
    with pytest.raises(ValueError, match="grad_scale"):
        SGD(grad_scale=1e-40)


def test_a_loaded_state_takes_the_parameters_order_in_memory():
    start = np.asfortranarray(np.arange(12, dtype=F4).reshape(3, 4))
    params, opt = {"W": start.copy("F")}, Adam(ema=0.5)
    opt.update(params, {"W": np.ones((3, 4), F4, "F")})
    saved = opt.state_dict()
    saved["slots"] = {slot: {"W": np.ascontiguousarray(views["W"])} for slot, views in saved["slots"].items()}
    saved["ema"] = {"W": np.ascontiguousarray(saved["ema"]["W"])}
    twin, theirs = Adam(), {"W": params["W"].copy("F")}
    twin.load_state_dict(saved)
    for _ in range(3):
        for each, arrays in (opt, params), (twin, theirs):
            each.update(arrays, {"W": np.ones((3, 4), F4, "F")})
    assert bound_step(twin) is not None  # the fast way
    assert_same_bits(theirs["W"], params["W"])
    assert_same_bits(twin.averages["W"], opt.averages["W"])
    assert_same_bits(twin.state["v"]["W"], opt.state["v"]["W"])


@pytest.mark.parametrize("cls", [SGD, Adam])
def test_from_a_file_with_the_same_bits(cls, tmp_path):
    options = {
        "lr": schedules.cosine(0.1, 9),
        "clip_norm": 1.0,
        "ema": 0.5,
        "accumulate": 2,
        "groups": {"b": {"lr": 1}},
    }
    params, opt = {"W": np.ones((40, 3), F4), "b": np.ones(3)}, cls(**options)
    grads = [{name: np.cos(p + i).astype(p.dtype) for name, p in params.items()} for i in range(9)]
    for g in grads[:5]:  # amid a sum
        opt.update(params, g)
    fastoptim.save(tmp_path / "file", params, opt)
    theirs, twin = {name: np.zeros_like(p) for name, p in params.items()}, cls()
    fastoptim.load(tmp_path / "file").restore(theirs, twin)
    for g in grads[5:]:
        opt.update(params, g)
        twin.update(theirs, g)
    assert repr(twin) == repr(opt)
    for name, p in params.items():
        assert_same_bits(theirs[name], p)
        assert_same_bits(twin.averages[name], opt.averages[name])


def test_averages_that_were_switched_off_are_gone():
    params, opt = {"p": one(0)}, SGD(lr=0, ema=0.5)
    opt.update(params, {"p": one()})
    params["p"][...] = 8
    opt.ema = None
    opt.ema = 0.5
    opt.update(params, {"p": one()})
    assert opt.averages["p"] == 8
