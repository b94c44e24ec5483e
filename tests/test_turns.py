"""One optimizer called for one layer after another, or for two networks in turn: as if each had its own."""

import numpy as np
import pytest

from fastoptim import SGD, Adam, schedules
from internals import bound_step
from support import FEW, assert_same_bits, assert_state_same_bits, like, random

F4, F8 = np.float32, np.float64
SHAPES = {"W1": (5, 4), "b1": (4,), "W2": (4, 3), "b2": (3,), "W3": (3, 2), "b3": (2,)}


def layers(rng, dtype=F4):
    """Three layers of two arrays each."""
    return [{name: random(rng, SHAPES[name], dtype) for name in (f"W{i}", f"b{i}")} for i in (1, 2, 3)]


def copies(all_layers):
    return [{name: p.copy() for name, p in layer.items()} for layer in all_layers]


def assert_alike(all_layers, theirs, opt, others):
    for layer, their, other in zip(all_layers, theirs, others, strict=True):
        for name, p in layer.items():
            assert_same_bits(p, their[name], name)
            assert_state_same_bits(opt, other, name)
            if opt.averages is not None:
                assert_same_bits(opt.averages[name], other.averages[name], f"average of {name}")


OPTIONS = {
    "off": {},
    "schedule": {"lr": schedules.linear(0.1, 0.01, steps=5)},
    "clip and averages": {"clip_norm": 0.5, "ema": 0.75},
    "groups": {"groups": {"b*": {"lr": schedules.exponential(0.5, 0.5)}, "W*": {"weight_decay": 0.25}}},
    "sums": {"accumulate": 2},
    "sums and zeroing": {"accumulate": 3, "zero_grads": True, "lr": schedules.cosine(0.1, steps=4)},
}


@pytest.mark.parametrize("cls", FEW)
@pytest.mark.parametrize("case", OPTIONS)
def test_layer_after_layer(cls, case, rng):
    options = {"lr": 0.1, **OPTIONS[case]}
    all_layers = layers(rng)
    theirs = copies(all_layers)
    opt, others = cls(**options), [cls(**options) for _ in all_layers]
    for step in range(7):
        for i, (layer, their, other) in enumerate(zip(all_layers, theirs, others, strict=True)):
            grads = like(rng, layer)
            other.update(their, {name: g.copy() for name, g in grads.items()})
            opt.update(layer, grads)
            assert opt.iter == max(each.iter for each in others), (step, i)
    assert_alike(all_layers, theirs, opt, others)
    assert opt.state_dict()["steps"] == {name: others[0].iter for layer in all_layers for name in layer}


@pytest.mark.parametrize("cls", FEW)
def test_array_after_array(cls, rng):
    params = {name: random(rng, shape, F4) for name, shape in SHAPES.items()}
    theirs = {name: p.copy() for name, p in params.items()}
    opt, other = cls(lr=0.1), cls(lr=0.1)
    for step in range(5):
        grads = like(rng, params)
        other.update(theirs, grads)
        for name, p in params.items():
            opt.update({name: p}, {name: grads[name]})
            assert opt.iter == other.iter == step + 1
    for name, p in params.items():
        assert_same_bits(p, theirs[name], name)


def test_one_key_for_every_layer_is_one_name(rng):
    """Two arrays under one name have one state and one count: what a name is, the caller says."""
    opt, first, second = Adam(lr=0.1), random(rng, (3,), F4), random(rng, (3,), F4)
    opt.update({"W": first}, {"W": np.ones(3, F4)})
    opt.update({"W": second}, {"W": np.ones(3, F4)})
    assert opt.iter == 2


def test_halves_in_turn(rng):
    actor, critic, _ = layers(rng)
    theirs = copies([actor, critic])
    opt, others = Adam(lr=0.1), [Adam(lr=0.1) for _ in range(2)]
    steps = [set(), set()]
    for step in range(9):
        for i, (half, their, other) in enumerate(zip([actor, critic], theirs, others, strict=True)):
            for _ in range(1 + (i == 1 and step % 3 == 0)):  # the critic makes more steps
                grads = like(rng, half)
                other.update(their, grads)
                opt.update(half, grads)
                steps[i].add(bound_step(opt))
    assert_alike([actor, critic], theirs, opt, others)
    assert opt.iter == others[1].iter == 12
    assert {opt.state_dict()["steps"][name] for name in actor} == {9}
    assert [len(each) for each in steps] == [1, 1]  # nothing is bound anew


def test_halves_then_all_then_halves(rng):
    """Names that made their steps apart go on together, each from its own count."""
    first, second, _ = layers(rng)
    both = first | second
    theirs = copies([first, second])
    opt, others = Adam(lr=0.1), [Adam(lr=0.1) for _ in range(2)]
    for call in range(12):
        chosen = [(0,), (0, 1), (1,), (0, 1)][call // 2 % 4]
        grads = like(rng, both)
        params = {name: both[name] for i in chosen for name in (first, second)[i]}
        opt.update(params, grads)
        for i in chosen:
            others[i].update(theirs[i], grads)
    assert_alike([first, second], theirs, opt, others)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_schedule_sees_the_largest_count_among_the_names_of_a_call(accumulate, rng):
    seen = []
    opt = SGD(lr=lambda step: seen.append(step) or 0.1, accumulate=accumulate)
    a, b = {"a": random(rng, (2,), F4)}, {"b": random(rng, (3,), F4)}

    def step(params):
        del seen[:]
        for _ in range(accumulate):
            opt.update(params, like(rng, params))
        return list(seen)

    assert [step(a) for _ in range(3)] == [[0], [1], [2]]
    assert [step(b) for _ in range(2)] == [[0], [1]]
    assert step(a | b) == [3]
    assert step(b) == [3]
    assert step(a) == [4]
    assert opt.iter == 5
    assert opt.state_dict()["steps"] == {"a": 5, "b": 4}


def test_a_gradient_of_none_does_not_count_for_a_schedule(rng):
    seen = []
    opt = SGD(lr=lambda step: seen.append(step) or 0.1)
    params = {"a": random(rng, (2,), F4), "b": random(rng, (3,), F4)}
    for _ in range(3):
        opt.update(params, like(rng, params) | {"b": None})
    opt.update(params, like(rng, params) | {"a": None})
    assert seen == [0, 1, 2, 0]


def test_calls_without_a_gradient_do_not_count(rng):
    params = {"a": random(rng, (2,), F4), "b": random(rng, (3,), F8)}
    for options in {}, {"lr": schedules.linear(0.1, 0, steps=3)}, {"ema": 0.5, "clip_norm": 1.0}:
        opt, twin = (Adam(**{"lr": 0.1, **options}) for _ in range(2))
        own, theirs = ({name: p.copy() for name, p in params.items()} for _ in range(2))
        for call in range(4):
            grads = like(rng, params)
            opt.update(own, {"a": None, "b": None})
            opt.update({}, {})
            opt.update(own, grads)
            twin.update(theirs, grads)
            assert opt.iter == twin.iter == call + 1
        assert opt.state_dict()["steps"] == twin.state_dict()["steps"]
        for name, p in own.items():
            assert_same_bits(p, theirs[name], f"{options} {name}")


def test_an_optimizer_that_only_had_empty_calls_is_as_new(rng):
    for options in {}, {"accumulate": 2}, {"zero_grads": True, "ema": 0.5}:
        opt = Adam(**options)
        for _ in range(3):
            opt.update({}, {})
        assert opt.state_dict() == Adam(**options).state_dict()
        opt.update({}, {"unused": np.ones(3)})
        p = {"p": random(rng, (3,), F4)}
        opt.update(p, {"p": None})
        assert opt.iter == 0
        assert not opt.state["m"]
