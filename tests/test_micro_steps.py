"""`accumulate` where names come, go and differ in how many calls they have had."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

import fastoptim
from fastoptim import SGD, Adam, schedules
from pair import Pair
from references import Reference
from support import FEW, LAYOUTS, assert_close, assert_same_bits, assert_state_close, like, random

pytestmark = pytest.mark.usefixtures("few_objects")

F4, F8 = np.float32, np.float64
SHAPES = {"a": (4, 3), "b": (3,), "c": (), "late": (5,)}


def arrays(rng, names=SHAPES, dtype=F4):
    return {name: random(rng, SHAPES[name], dtype) for name in names}


class Beside:
    """An optimizer and the reference, called with some of the names at a time."""

    def __init__(self, cls, params, **options):
        self.opt = cls(lr=0.1, **options)
        self.params, self.reference = params, Reference(self.opt, params, {"lr": 0.1, **options})

    def assign(self, **options):
        for name, value in options.items():
            setattr(self.opt, name, value)
        self.reference.options |= options

    def update(self, names, grads):
        held, self.reference.params = self.reference.params, {name: self.reference.params[name] for name in names}
        self.reference.update(grads)
        self.reference.params = held | self.reference.params
        self.opt.update({name: self.params[name] for name in names}, grads)

    def check(self, what=""):
        opt, reference = self.opt, self.reference
        saved = opt.state_dict()
        assert saved["micro_steps"] == reference.micro_steps, what
        assert {name: n for name, n in saved["steps"].items() if n} == reference.steps, what
        for name, p in self.params.items():
            assert_close(p, reference.params[name], f"{what} {name}")
            if name in reference.steps:
                assert_state_close(opt, name, p, reference.state[name], what)
            if name in reference.ema:
                assert_close(opt.averages[name], reference.ema[name], f"{what} average of {name}")


@pytest.mark.parametrize("cls", FEW)
@pytest.mark.parametrize("options", [{}, {"ema": 0.5, "weight_decay": 0.25}, {"zero_grads": True}], ids=str)
def test_sets_of_names_in_turn(cls, options, rng):
    params = arrays(rng)
    beside = Beside(cls, params, accumulate=3, **options)
    for call in range(14):
        names = [("a", "b"), ("c", "late"), ("a", "c", "late"), ("b",)][call % 4]
        beside.update(names, like(rng, params))
        beside.check(call)


@pytest.mark.parametrize("cls", FEW)
@pytest.mark.parametrize(("before", "after"), [(4, 1), (4, 2), (3, 2), (2, 5), (1, 3), (3, 1)])
def test_accumulate_changes_midway(cls, before, after, rng):
    params = arrays(rng)
    beside = Beside(cls, params, accumulate=before)
    for call in range(12):
        if call == 2:
            beside.assign(accumulate=after)
        if call == 7:
            beside.assign(accumulate=before)
        beside.update(["a", "b", "c"] if call else ["a", "b"], like(rng, params))
        beside.check(call)


@pytest.mark.parametrize("options", [{}, {"ema": 0.5}], ids=str)
def test_names_that_make_their_first_step_together_on_sums_of_different_lengths(options, rng):
    """The state of each is kept."""
    params = arrays(rng)
    beside = Beside(Adam, params, accumulate=4, **options)
    for _ in range(2):
        beside.update(["a", "b"], like(rng, params))
    beside.update(["a", "b", "c"], like(rng, params))
    beside.assign(accumulate=2)
    beside.update(["a", "b", "c"], like(rng, params))  # a and b on four calls, c on two
    beside.check("first")
    assert set(beside.opt.state["m"]) == {"a", "b", "c"}
    twin = Adam()
    twin.load_state_dict(beside.opt.state_dict())
    for _ in range(4):
        beside.update(["a", "b", "c"], like(rng, params))
    beside.check("later")


def test_a_first_step_after_another_ones_later_step_in_one_call(rng):
    """The averages that the other step has changed meanwhile are kept."""
    params = arrays(rng)
    beside = Beside(Adam, params, accumulate=2, ema=0.5)
    for _ in range(2):
        beside.update(["a", "b"], like(rng, params))
    beside.assign(accumulate=4)
    for names in ["c"], ["c"], ["a", "b", "c"]:
        beside.update(names, like(rng, params))
    beside.assign(accumulate=2)
    beside.update(["a", "b", "c"], like(rng, params))  # a and b on two calls, which they have had before; c on four
    beside.check("together")


@pytest.mark.parametrize("cls", FEW)
def test_names_that_join_amid_a_sum_with_clipping(cls, rng):
    """The norm is that of the names that make the step together."""
    params = arrays(rng)
    beside = Beside(cls, params, accumulate=2, clip_norm=0.5)
    for call in range(9):
        names = ["a", "b"] if call < 3 else ["a", "b", "c", "late"]
        beside.update(names, like(rng, params))
        beside.check(call)
    assert beside.opt.state_dict()["steps"] == {"a": 4, "b": 4, "c": 3, "late": 3}


@pytest.mark.parametrize("cls", FEW)
@pytest.mark.parametrize("options", [{}, {"zero_grads": True, "clip_norm": 0.5}, {"ema": 0.5}], ids=str)
def test_names_without_a_gradient_in_some_sums(cls, options, rng):
    """A sum of nothing makes no step, also after sums of something."""
    params = arrays(rng)
    beside = Beside(cls, params, accumulate=2, **options)
    for call in range(16):
        grads = like(rng, params)
        grads["late"] = None if call < 4 or call in (8, 9, 11, 12) else grads["late"]
        grads["b"] = None if call in (2, 3, 5, 14) else grads["b"]
        beside.update(list(params), grads)
        beside.check(call)
    assert beside.opt.state_dict()["steps"] == {"a": 8, "b": 7, "c": 8, "late": 5}


@pytest.mark.parametrize("how", [copy.deepcopy, lambda opt: pickle.loads(pickle.dumps(opt)), "dict", "file"])
def test_stopped_amid_sums_of_different_lengths(how, rng, tmp_path):
    params = arrays(rng)
    opt = Adam(lr=schedules.linear(0.1, 0.01, steps=4), accumulate=3, clip_norm=1.0, ema=0.5)
    for call in range(4):
        opt.update({name: params[name] for name in (["a", "b"] if call < 2 else SHAPES)}, like(rng, params))
    theirs = copy.deepcopy(params)
    if how == "dict":
        twin = Adam()
        twin.load_state_dict(copy.deepcopy(opt.state_dict()))
    elif how == "file":
        fastoptim.save(tmp_path / "file", params, opt)
        twin = Adam()
        fastoptim.load(tmp_path / "file").restore(theirs, twin)
    else:
        twin = how(opt)
    assert twin.state_dict()["micro_steps"] == opt.state_dict()["micro_steps"] == {"a": 1, "b": 1, "c": 2, "late": 2}
    for _ in range(7):
        grads = like(rng, params)
        opt.update(params, grads)
        twin.update(theirs, grads)
    for name, p in params.items():
        assert_same_bits(p, theirs[name], name)
        assert_same_bits(opt.averages[name], twin.averages[name], name)


def test_a_refused_call_adds_nothing(rng):
    params = arrays(rng)
    pair = Pair(Adam, params, accumulate=2)
    for call in range(6):
        bad = like(rng, params)
        bad["b"] = np.ones(4, F4)
        with pytest.raises(ValueError, match=r"grads\['b'\]"):
            pair.opt.update(params, bad)
        given = {**params, "c": np.ones(3, F4)[1:2].reshape(())}
        given["c"].flags.writeable = False
        with pytest.raises(ValueError, match=r"params\['c'\]"):
            pair.opt.update(given, like(rng, params))
        pair.update(like(rng, params))
        pair.check()
        assert pair.opt.iter == (call + 1) // 2


def test_numbers_that_are_wrong_add_nothing(rng):
    """The call that would make the step is refused as a whole, and can be made again."""
    params = arrays(rng)
    pair = Pair(SGD, params, accumulate=2)
    pair.update(like(rng, params))
    grads, good = like(rng, params), pair.opt.lr
    pair.opt.lr = 1e300
    with pytest.raises(ValueError, match="float32"):
        pair.opt.update(params, grads)
    pair.opt.lr = good
    pair.update(grads)
    pair.check()
    assert pair.opt.iter == 1


@pytest.mark.parametrize("layout", ["C", "F", "strided"])
@pytest.mark.parametrize("dtype", [F4, F8, np.float16])
def test_zeroing_keeps_no_gradient_alive(layout, dtype, rng):
    params, opt = {"a": random(rng, (40, 3), F4), "b": random(rng, (3,), F4)}, Adam(accumulate=3, zero_grads=True)
    for call in range(8):
        grads = {name: LAYOUTS[layout](g) for name, g in like(rng, params, dtype).items()}
        opt.update(params, grads)
        assert not any(g.any() for g in grads.values())
        gone = [weakref.ref(g if g.base is None else g.base) for g in grads.values()]
        del grads
        gc.collect()
        assert [each() for each in gone] == [None, None], call


def test_new_gradient_arrays_in_every_call_with_zeroing(rng):
    """Those of earlier calls are zeroed once, and left alone afterwards."""
    params = arrays(rng)
    pair, held = Pair(Adam, params, accumulate=2, zero_grads=True), []
    for _ in range(6):
        grads = like(rng, params)
        pair.update(grads)
        pair.check()
        for old in held:
            assert all((g == 7).all() for g in old.values())
        for g in grads.values():
            g[...] = 7
        held.append(grads)


@pytest.mark.parametrize("dtype", [F4, F8])
def test_flat_sums(dtype, rng):
    start = {name: random(rng, shape, dtype) for name, shape in SHAPES.items()}
    flat, params = fastoptim.flatten(start), copy.deepcopy(start)
    one, two = (Adam(lr=0.1, accumulate=2, clip_norm=0.5, ema=0.5) for _ in range(2))
    for call in range(6):
        grads = like(rng, start)
        given = flat.zeros_like()
        for name, g in grads.items():
            given[name][...] = g
        for opt, own, gradients in (one, flat, given), (two, params, grads):
            opt.update(own, gradients)
            if call % 3 == 2:  # one name has a call for itself
                opt.update({"b": own["b"]}, grads)
    for name, p in params.items():
        assert_same_bits(flat[name], p, name)
        assert_same_bits(one.averages[name], two.averages[name], name)
