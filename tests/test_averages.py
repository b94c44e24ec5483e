"""`ema` and `averaged`: when averages begin, how they lie, and that parameters come back."""

import copy

import numpy as np
import pytest

import fastoptim
from fastoptim import SGD, Adam, FlatDict
from references import EVERYTHING
from support import (
    LAYOUTS,
    assert_close,
    assert_same_bits,
    frozen,
    like,
    random,
    read_only,
    snapshot,
)

F4, F8 = np.float32, np.float64


def trained(rng, params, **options):
    opt = Adam(**{"lr": 0.1, "ema": 0.75, **options})
    for _ in range(3):
        opt.update(params, like(rng, params))
    return opt


def inside(opt, params, action=lambda: None):
    with opt.averaged(params):
        return action()


@pytest.mark.parametrize("layout", [*LAYOUTS, "flat"])
def test_the_averages_instead_of_the_parameters(layout, rng):
    start = {
        "W": random(rng, (5, 6), F4),
        "b": random(rng, (4,), F8),
        "s": random(rng, (), F4),
        "none": np.zeros((0, 2)),
    }
    params = fastoptim.flatten(start) if layout == "flat" else {k: LAYOUTS[layout](p) for k, p in start.items()}
    opt = trained(rng, params)
    twin, theirs = copy.deepcopy(opt), copy.deepcopy(params)
    params["W"].view(np.uint32).flat[0] = 0x7FC0BEEF if layout in ("C", "flat") else 0  # a nan with a payload
    before, averages = snapshot(opt, params, {}), frozen(dict(opt.averages))
    held = dict(params)
    for _ in range(2):
        with opt.averaged(params):
            assert frozen(dict(params)) == averages
            assert all(params[name] is held[name] for name in held)
            assert before["p"] != averages
            with pytest.raises(RuntimeError, match="averaged"):
                opt.update(params, like(rng, start))
            assert frozen(dict(params)) == averages
        assert snapshot(opt, params, {}) == before
    params["W"][...] = theirs["W"]
    grads = like(rng, start)
    opt.update(params, grads)
    twin.update(theirs, grads)
    assert frozen(dict(params)) == frozen(dict(theirs))
    assert frozen(dict(opt.averages)) == frozen(dict(twin.averages))


def test_averages_are_taken_back_after_an_error(rng):
    params = {"p": random(rng, (3,), F4), "q": random(rng, (3,), F4)}
    opt = trained(rng, params)
    before = snapshot(opt, params, {})

    def fail():
        params["p"][...] = 7
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inside(opt, params, fail)
    assert snapshot(opt, params, {}) == before
    opt.update(params, like(rng, params))
    only = {"q": params["q"]}
    assert_same_bits(inside(opt, only, only["q"].copy), opt.averages["q"])


def test_averages_within_averages(rng):
    params = {"p": random(rng, (3,), F4)}
    opt = trained(rng, params)
    before = snapshot(opt, params, {})
    with opt.averaged(params):
        with pytest.raises(RuntimeError, match="averaged"):
            inside(opt, params)
        assert_same_bits(params["p"], opt.averages["p"])
    assert snapshot(opt, params, {}) == before


def test_averages_that_cannot_be_had(rng):
    params = {"p": random(rng, (3,), F4), "q": random(rng, (2, 3), F4)}
    opt = trained(rng, params)
    for other, error, words in (
        ({"late": np.zeros(2, F4)}, KeyError, "late"),
        ({"q": np.zeros((3, 2), F4)}, ValueError, r"q.*\(3, 2\)"),
        ({"q": np.zeros((2, 3), F4).tolist()}, TypeError, "q.*list"),
        ({"q": read_only(np.zeros((2, 3), F4))}, ValueError, "q.*read-only"),
    ):
        given = {**params, **other}
        before = snapshot(opt, params, {})
        with pytest.raises(error, match=words):
            inside(opt, given)
        assert snapshot(opt, params, {}) == before
    opt.ema = None
    with pytest.raises(RuntimeError, match="ema"):
        inside(opt, params)
    with pytest.raises(RuntimeError, match="ema"):
        inside(Adam(), params)
    with pytest.raises(KeyError, match="p"):
        inside(Adam(ema=0.5), params)
    opt.update(params, like(rng, params))


def test_what_ema_reads_as(rng):
    params = {"p": random(rng, (3, 2), F4), "q": random(rng, (3,), F8)}
    opt = Adam(ema=0.5)
    assert type(opt.averages) is FlatDict
    assert not opt.averages
    assert "ema=0.5" in repr(opt)
    opt.update(params, like(rng, params))
    assert {name: (a.shape, a.dtype) for name, a in opt.averages.items()} == {"p": ((3, 2), F4), "q": ((3,), F8)}
    opt.averages["p"][...] = 3  # a view
    assert (opt.averages["p"] == 3).all()
    opt.ema = 0.25
    assert (opt.averages["p"] == 3).all()
    with pytest.raises(ValueError, match=r"ema: expected .*got 1"):
        opt.ema = 1
    assert opt.state_dict()["hyperparameters"]["ema"] == 0.25
    opt.ema = None
    assert opt.averages is None
    assert opt.state_dict()["hyperparameters"]["ema"] is None


def test_the_average_starts_at_the_parameter(rng):
    """Before its first step with the option on: in the middle of training, and for a name that appears later."""
    params = {"p": random(rng, (4,), F4), "late": random(rng, (4,), F4)}
    opt = Adam(lr=0.1)
    opt.update(params, like(rng, params) | {"late": None})
    expected = {}
    opt.ema = 0.75
    for call in range(4):
        grads = like(rng, params) | ({"late": None} if call < 2 else {})
        before = copy.deepcopy(params)
        opt.update(params, grads)
        for name in params:
            if grads[name] is not None:
                average = expected.get(name, before[name])
                expected[name] = average + F4(0.25) * (params[name] - average)
    for name, average in expected.items():
        assert_close(opt.averages[name], average, name)


@pytest.mark.parametrize("first", [1, np.nan])
def test_the_average_starts_where_the_first_step_does(first, rng):
    """And not at a call before that made no step, after which the parameters were set to something else."""
    p = random(rng, (4,), F4)
    opt = Adam(
        **{**EVERYTHING, "lr": 0, "ema": 0.5, "groups": None, "frozen": (), "accumulate": 2 if first == 1 else 1}
    )
    opt.update({"p": p}, {"p": np.full(4, first, F4)})
    p[...] = 0.5  # within the bounds
    opt.update({"p": p}, {"p": np.ones(4, F4)})
    assert opt.iter == 1
    assert (opt.averages["p"] == 0.5).all()


def test_an_average_made_later_lies_as_the_state_does(rng):
    """Parameters in another order, and averages from then on: both are walked in one order all the same."""
    for cls in Adam, SGD:
        start, grads = {"W": random(rng, (40, 30), F8)}, [like(rng, {"W": np.empty((40, 30))}) for _ in range(4)]
        one, two = cls(lr=0.1), cls(lr=0.1)
        columns, rows = {"W": np.asfortranarray(start["W"])}, {"W": start["W"].copy()}
        one.update(rows, grads[0])
        two.update(columns, grads[0])
        one.ema = two.ema = 0.9
        turned = {"W": np.asfortranarray(rows["W"])}
        for g in grads[1:]:
            one.update(turned, g)
            two.update(columns, g)
        assert_same_bits(np.ascontiguousarray(one.averages["W"]), np.ascontiguousarray(two.averages["W"]))
        assert_same_bits(turned["W"], columns["W"])


def test_the_averages_are_not_saved_as_what_training_goes_on_with(tmp_path):
    params, opt = {"p": np.ones(3)}, fastoptim.Adam(ema=0.5)
    opt.update(params, params)
    saved = opt.state_dict()
    with opt.averaged(params):
        assert opt.is_averaged
        with pytest.raises(RuntimeError, match=r"the parameters are the averages.*save\(path, params\)"):
            fastoptim.save(tmp_path / "a", params, opt)
        with pytest.raises(RuntimeError, match="the parameters are the averages"):
            opt.load_state_dict(saved)
        fastoptim.save(tmp_path / "a", params)
        average = params["p"].copy()
    assert not opt.is_averaged
    assert_same_bits(fastoptim.load(tmp_path / "a").params["p"], average)
    fastoptim.save(tmp_path / "a", params, opt)
