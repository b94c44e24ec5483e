"""Functions of matrices, of an optimizer of one's own: what they are given, and what is refused."""

import re

import numpy as np
import pytest

from fastoptim import Matrices, Number, Optimizer, fraction, nonnegative, rule
from support import assert_close, assert_same_bits, like, random, snapshot

F4, F8 = np.float32, np.float64


@rule
def descend(p, g, m, lr, one_minus_momentum):
    m = m + one_minus_momentum * (g - m)
    return p - lr * m, m


def centered(p, g, m, rows, lr, one_minus_momentum):
    """The gradient without its columns' means, and a count of the rows' steps."""
    seen.append((p, g.copy()))
    rows += 1
    m += one_minus_momentum * (g - m)
    return lr * (m - m.mean(axis=0))


seen = []


class _Centered(Optimizer):
    rule, slots = descend, ("m",)
    matrices = Matrices(centered, {"m": lambda shape: shape, "rows": lambda shape: shape[:1]})
    lr: Number = nonnegative(0.1)
    momentum: Number = fraction(0.9)

    def scalars(self, t):
        return self.lr, 1 - self.momentum


def expected_step(p, g, m, lr=0.1):
    m = m + 0.1 * (g - m)
    return p - lr * (m - m.mean(axis=0)), m


def test_it_is_given_what_the_options_have_made_of_the_gradient(rng):
    """Scaled, clipped, limited, negated and with decay: as a rule is. What it takes, decay and averages follow."""
    p = random(rng, (5, 3), F8)
    g, start = random(rng, p.shape, F8), p.copy()
    options = {"grad_scale": 2.0, "clip_norm": 1.0, "clip_value": 0.2, "maximize": True, "weight_decay": 0.3}
    opt = _Centered(**options, ema=0.8, zero_grads=True)
    seen.clear()
    given = np.asfortranarray(g)
    opt.update({"W": p}, {"W": given})
    norm = np.linalg.norm(g / 2)
    made = -np.clip(g / 2 / (norm + 1e-6), -0.2, 0.2) + 0.3 * start
    [(param, gradient)] = seen
    assert param is p
    assert_close(gradient, made)
    after, m = expected_step(start, made, 0)
    assert_close(p, after)
    assert_close(opt.state["m"]["W"], m)
    assert_close(opt.averages["W"], start + 0.2 * (after - start))
    assert not given.any()


def test_decoupled_decay_and_bounds(rng):
    p = random(rng, (4, 4), F8)
    g, start = random(rng, p.shape, F8), p.copy()
    _Centered(weight_decay=0.5, decoupled=True, bounds=(-0.5, 0.5)).update({"W": p}, {"W": g})
    after, _ = expected_step(start, g, 0)
    assert_close(p, np.clip(after - 0.1 * 0.5 * start, -0.5, 0.5))


def test_state_of_matrices_and_of_others(rng):
    params = {"W": random(rng, (5, 3), F4), "b": random(rng, (3,), F4), "T": random(rng, (2, 3, 4), F4)}
    opt = _Centered()
    for _ in range(3):
        opt.update(params, like(rng, params))
    assert opt.state["m"].keys() == params.keys()
    assert opt.state["rows"].keys() == {"W"}
    assert opt.state["rows"]["W"].tolist() == [3.0] * 5
    assert opt.state["rows"]["W"].dtype == F4
    assert opt.memory(params).state == sum(x.nbytes for views in opt.state.values() for x in views.values())


def test_layouts_dtypes_and_late_matrices(rng):
    """A matrix goes on alike, however it lies in memory, whatever comes beside it, and when it comes."""
    start, alone, together = random(rng, (6, 5), F4), _Centered(), _Centered()
    one, two = start.copy(), np.asfortranarray(start)
    strided, late = np.zeros((12, 10), F8)[::2, ::2], random(rng, (3, 3), F4)
    strided[...] = start
    third = _Centered()
    for step in range(4):
        g = random(rng, start.shape, F4)
        alone.update({"W": one}, {"W": g})
        params, grads = {"W": two}, {"W": np.asfortranarray(g) if step % 2 else g.astype(F8)}
        if step:
            params["late"], grads["late"] = late, random(rng, late.shape, F4) if step > 1 else None
        together.update(params, grads)
        third.update({"W": strided}, {"W": g})
    assert_same_bits(two, one)
    assert_close(strided.astype(F4), one)
    assert together.state_dict()["steps"] == {"W": 4, "late": 2}


def test_a_matrix_without_elements_is_left_alone(rng):
    params = {"W": np.zeros((0, 4), F4), "V": np.zeros((4, 0), F4), "X": random(rng, (2, 2), F4)}
    seen.clear()
    _Centered().update(params, like(rng, params))
    assert len(seen) == 1


def test_a_function_that_returns_another_shape():
    def wrong(p, g, m, lr, one_minus_momentum):
        return g[:1]

    class _Wrong(_Centered):
        rule, slots = descend, ("m",)
        matrices = Matrices(wrong, {"m": lambda shape: shape})

    message = "wrong: expected it to return an array of the shape (3, 2), as its matrix has; got (1, 2)"
    with pytest.raises(ValueError, match=re.escape(message)):
        _Wrong().update({"W": np.ones((3, 2))}, {"W": np.ones((3, 2))})


def test_state_that_a_matrix_does_not_have():
    with pytest.raises(TypeError, match=r"_Foreign: its function of matrices takes m, expected it in the slots"):

        class _Foreign(_Centered):
            rule, slots = descend, ("m",)
            matrices = Matrices(centered, {"rows": lambda shape: shape[:1]})


def test_a_subclass_with_a_rule_of_its_own_has_no_matrices(rng):
    class _Plain(_Centered):
        rule, slots = descend, ("m",)

    p = random(rng, (3, 3), F4)
    seen.clear()
    _Plain().update({"W": p}, {"W": p.copy()})
    assert not seen
    assert _Plain.kernels.are_public


def test_which_arrays_are_matrices(rng):
    class _Named(_Centered):
        def is_matrix(self, name, shape):
            return name == "W"

    params = {"W": random(rng, (3, 2), F4), "V": random(rng, (3, 2), F4)}
    opt = _Named()
    opt.update(params, like(rng, params))
    assert opt.state["rows"].keys() == {"W"}


def test_a_wrong_number_changes_nothing(rng):
    class _Short(_Centered):
        def scalars(self, t):
            return (self.lr,)

    params = {"W": random(rng, (3, 2), F4), "b": random(rng, (2,), F4)}
    opt = _Short()
    before = snapshot(opt, params)
    with pytest.raises(ValueError, match=r"expected 2 floats \(lr, one_minus_momentum\)"):
        opt.update(params, like(rng, params))
    assert snapshot(opt, params) == before
