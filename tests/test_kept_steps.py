"""Bound steps are kept for calls like those before, give the bits of fresh ones, and keep no array alive."""

import gc
import weakref

import numpy as np
import pytest

import fastoptim
from fastoptim import SGD, Adam
from internals import bound_step
from support import FEW, LAYOUTS, assert_same_bits, assert_state_same_bits, flat_like, like, random, read_only

pytestmark = pytest.mark.usefixtures("few_objects")

F2, F4, F8 = np.float16, np.float32, np.float64
SHAPES = {"W": (6, 5), "b": (5,), "s": (), "none": (0, 3), "T": (2, 3, 4)}


def arrays(rng, dtype=F4):
    return {name: random(rng, shape, dtype) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.5, "ema": 0.5}, {"zero_grads": True}], ids=str)
@pytest.mark.parametrize("cls", FEW)
def test_new_parameter_arrays_at_every_step(cls, options, rng):
    params = arrays(rng)
    theirs = {name: p.copy() for name, p in params.items()}
    opt, twin = cls(lr=0.1, **options), cls(lr=0.1, **options)
    held, found = [], set()
    for _ in range(6):
        params = {name: p.copy() for name, p in params.items()}  # self.W = ...
        held.append(params)
        before = [{name: p.copy() for name, p in each.items()} for each in held[:-1]]
        grads = like(rng, params)
        twin.update(theirs, {name: g.copy() for name, g in grads.items()})
        opt.update(params, grads)
        found.add(bound_step(opt))
        for name, p in params.items():
            assert_same_bits(p, theirs[name], name)
        for each, kept in zip(held, before, strict=False):  # those of earlier steps are left alone
            for name, p in each.items():
                assert_same_bits(p, kept[name], name)
    assert len(found) == 1
    assert_state_same_bits(opt, twin, "W")


def test_new_arrays_of_some_names(rng):
    params, opt, twin = arrays(rng), Adam(lr=0.1), Adam(lr=0.1)
    theirs = {name: p.copy() for name, p in params.items()}
    found = set()
    for step in range(8):
        name = list(SHAPES)[step % len(SHAPES)]
        params[name] = params[name].copy()
        grads = like(rng, params)
        opt.update(params, grads)
        twin.update(theirs, grads)
        found.add(bound_step(opt))
    assert len(found) == 1
    for name, p in params.items():
        assert_same_bits(p, theirs[name], name)


def test_none_every_other_step(rng):
    params, opt, twin = arrays(rng), Adam(lr=0.1), Adam(lr=0.1)
    theirs = {name: p.copy() for name, p in params.items()}
    found = [set(), set()]
    for step in range(8):
        grads = like(rng, params)
        if step % 2:
            grads["b"] = None
        opt.update(params, grads)
        if step >= 2:  # until then the names have made their steps together
            found[step % 2].add(bound_step(opt))
        some = {name: p for name, p in theirs.items() if grads[name] is not None}
        twin.update(some, {name: grads[name] for name in some})
        for name, p in params.items():
            assert_same_bits(p, theirs[name], f"{step} {name}")
    assert [len(each) for each in found] == [1, 1]
    assert opt.state_dict()["steps"]["b"] == 4
    assert opt.iter == 8


KINDS = {"F": (LAYOUTS["F"], F4), "float64": (LAYOUTS["C"], F8), "float16": (LAYOUTS["C"], F2),
         "strided": (LAYOUTS["strided"], F4), "reversed": (LAYOUTS["reversed"], F4),
         "float16 strided": (LAYOUTS["strided"], F2), "float64 F": (LAYOUTS["F"], F8),
         "unaligned": (LAYOUTS["unaligned"], F4)}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_odd_gradients_stay_bound(kind, rng):
    make, dtype = KINDS[kind]
    params, opt, twin = arrays(rng), Adam(lr=0.1), Adam(lr=0.1)
    theirs = {name: p.copy() for name, p in params.items()}
    found = set()
    for _ in range(5):
        grads = like(rng, params)
        odd = random(rng, SHAPES["W"], dtype)
        twin.update(theirs, grads | {"W": np.ascontiguousarray(odd.astype(F4))})
        given = grads | {"W": make(odd)}
        opt.update(params, given)
        assert_same_bits(given["W"], odd)
        found.add(bound_step(opt))
    assert len(found) == 1
    for name, p in params.items():
        assert_same_bits(p, theirs[name], name)


@pytest.mark.parametrize("kind", ["F", "strided", "reversed", "unaligned"])
def test_odd_parameters_stay_bound(kind, rng):
    params, opt, twin = arrays(rng), Adam(lr=0.1), Adam(lr=0.1)
    theirs = {name: p.copy() for name, p in params.items()}
    found = set()
    for _ in range(5):
        params["W"] = LAYOUTS[kind](params["W"])
        grads = like(rng, params)
        twin.update(theirs, grads)
        opt.update(params, grads)
        found.add(bound_step(opt))
    assert len(found) == 1
    for name, p in params.items():
        assert_same_bits(p, theirs[name], name)


def test_an_array_that_loses_its_alignment(rng):
    """Its header alone tells: dtype, shape and strides are the same."""
    for layout in "F", "strided":
        for is_param in False, True:
            start, opt, twin = random(rng, (9, 8), F4), Adam(lr=0.1), Adam(lr=0.1)
            p, theirs = LAYOUTS[layout](start) if is_param else start.copy(), start.copy()
            for step in range(4):
                g = random(rng, (9, 8), F4)
                twin.update({"p": theirs}, {"p": g})
                odd = p if is_param else LAYOUTS[layout](g)
                if step % 2:  # the same strides from an odd address
                    room = np.zeros(odd.nbytes * 4 + 1, np.uint8)
                    moved = np.ndarray(odd.shape, F4, room, offset=1, strides=odd.strides)
                    moved[...] = odd
                    odd = moved
                if is_param:
                    p = odd
                opt.update({"p": p}, {"p": g if is_param else odd})
                assert_same_bits(p, theirs, f"{layout} {is_param} {step}")


def test_more_than_64_layouts_in_turn(rng):
    names = [f"p{i}" for i in range(7)]
    params = {name: random(rng, (3,), F4) for name in names}
    theirs = {name: p.copy() for name, p in params.items()}
    opt, others = Adam(lr=0.1), {name: Adam(lr=0.1) for name in names}
    subsets = [[name for i, name in enumerate(names) if code >> i & 1] for code in range(1, 2**7)]
    assert len(subsets) > 64
    for _ in range(3):
        for subset in subsets:
            grads = like(rng, params)
            opt.update({name: params[name] for name in subset}, grads)
            for name in subset:
                others[name].update({name: theirs[name]}, grads)
    for name in names:
        assert_same_bits(params[name], theirs[name], name)
        assert opt.state_dict()["steps"][name] == others[name].iter == 3 * 64


def test_more_than_64_layouts_of_the_same_names(rng):
    opt, twin = SGD(lr=0.1), SGD(lr=0.1)
    p, theirs = random(rng, (3, 2), F4), None
    theirs = p.copy()
    for turn in range(2):
        for step in range(70):
            g = random(rng, (3, 2), F4)
            room = np.zeros((3, 2 + step), F4)
            room[:, :2] = g
            opt.update({"p": p}, {"p": room[:, :2]})
            twin.update({"p": theirs}, {"p": g})
            assert_same_bits(p, theirs, f"{turn} {step}")


def maps(rng, kind):
    """Parameters and gradients that are staged, flat, or taken as they are."""
    params = {name: random(rng, (40, 3), F4) for name in "ab"}
    if kind == "flat":
        flat = fastoptim.flatten(params)
        return flat, flat_like(flat, like(rng, params))
    grads = like(rng, params, F8 if kind == "float64" else F4)
    if kind == "strided":
        params, grads = ({k: LAYOUTS["strided"](x) for k, x in each.items()} for each in (params, grads))
    if kind == "read-only":
        grads = {name: read_only(g) for name, g in grads.items()}
    return params, grads


OPTIONS = [{}, {"clip_norm": 0.5}, {"ema": 0.5, "skip_nonfinite": True}, {"accumulate": 2},
           {"accumulate": 2, "zero_grads": True}, {"groups": {"a": {"lr": 0.5}}}]  # fmt: skip


@pytest.mark.parametrize("kind", ["plain", "strided", "float64", "flat", "read-only"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_array_is_kept_alive(kind, options, rng):
    if kind == "read-only" and options.get("zero_grads"):
        return
    opt = Adam(**options)
    for calls in range(1, 5):
        params, grads = maps(rng, kind)
        for _ in range(calls):
            opt.update(params, grads)
        if kind == "flat":
            gone = [weakref.ref(each) for each in (params, grads)]
        else:
            gone = [weakref.ref(a if a.base is None else a.base) for each in (params, grads) for a in each.values()]
        del params, grads
        gc.collect()
        assert [each() for each in gone] == [None] * len(gone), calls


def test_a_refused_call_keeps_nothing_alive(rng):
    opt, params = Adam(), {"p": random(rng, (3,), F4)}
    opt.update(params, like(rng, params))
    bad = random(rng, (4,), F4)
    gone = weakref.ref(bad)
    with pytest.raises(ValueError, match="shape"):
        opt.update(params, {"p": bad})
    del bad
    gc.collect()
    assert gone() is None


def test_a_skipped_call_keeps_nothing_alive(rng):
    opt, params = Adam(skip_nonfinite=True, ema=0.5), {"p": random(rng, (3,), F4)}
    bad = np.full(3, np.nan, F4)
    gone = [weakref.ref(bad), weakref.ref(params["p"])]
    opt.update(params, {"p": bad})
    del bad, params
    gc.collect()
    assert [each() for each in gone] == [None, None]
