"""Muon: what its matrices' steps are, by the singular values; which arrays are matrices; how fast the others learn."""

import numpy as np
import pytest

from fastoptim import AdamW, Muon, schedules
from pair import Pair
from support import assert_close, assert_same_bits, in_every_layout, like, random, snapshot

F4, F8 = np.float32, np.float64
ALONE = {"lr": 1.0, "weight_decay": 0.0}  # the step itself is taken from the parameter


def step_of(g, **hyperparameters):
    """What the first step takes from a matrix of zeros."""
    p = np.zeros_like(g)
    Muon(**{**ALONE, **hyperparameters}).update({"W": p}, {"W": g})
    return -p


def with_singular_values(rng, values, rows, columns, dtype):
    """A matrix, and its singular vectors."""
    u, v = (np.linalg.qr(rng.standard_normal((size, len(values))))[0] for size in (rows, columns))
    return (u * values @ v.T).astype(dtype), u, v


@pytest.mark.parametrize("dtype", [F4, F8])
@pytest.mark.parametrize("shape", [(8, 8), (40, 9), (9, 40), (1, 7), (7, 1), (1, 1), (150, 150)])
def test_singular_values_come_near_one_and_vectors_stay(shape, dtype, rng):
    values = np.geomspace(0.03, 1, min(shape)) if min(shape) > 1 else np.ones(1)
    g, u, v = with_singular_values(rng, values, *shape, dtype)
    step = step_of(g) / max(1, shape[1] / shape[0]) ** 0.5
    assert step.dtype == dtype
    found = np.linalg.svd(step.astype(F8), compute_uv=False)
    assert ((found > 0.65) & (found < 1.25)).all(), found
    inner = u.T @ step @ v  # diagonal, as the singular vectors are the same
    np.testing.assert_allclose(inner, np.diag(np.diag(inner)), atol=1e-12 if dtype == F8 else 2e-5)


def test_more_steps_reach_smaller_singular_values(rng):
    g, _, _ = with_singular_values(rng, np.geomspace(1e-4, 1, 6), 12, 6, F8)
    smallest = [np.linalg.svd(step_of(g, steps=steps), compute_uv=False)[-1] for steps in (1, 3, 5, 8)]
    assert smallest == sorted(smallest)
    assert smallest[0] < 1e-3
    assert smallest[-1] > 0.5


def test_scales_and_axes(rng):
    g = random(rng, (6, 24), F8)  # 6 inputs, 24 outputs
    plain = step_of(g, axes="out_in")
    assert_close(step_of(g), 2 * plain)
    assert_close(step_of(g.T.copy(), axes="out_in"), step_of(g).T)
    assert_close(step_of(g.T.copy()), plain.T)
    for axes in "in_out", "out_in":
        assert_close(step_of(g, axes=axes, scale="match_rms_adamw"), 0.2 * 24**0.5 * plain)


@pytest.mark.parametrize(("axes", "shape"), [("in_out", (3 * 3 * 2, 8)), ("out_in", (3, 3 * 2 * 8))])
def test_of_more_axes_all_but_the_outputs_are_inputs(axes, shape, rng):
    g = random(rng, (3, 3, 2, 8), F8)
    assert_same_bits(step_of(g, axes=axes), step_of(g.reshape(shape), axes=axes).reshape(g.shape))


def test_a_gradient_of_zero_makes_no_step():
    for shape in (3, 5), (1, 1), (2, 3, 4):
        assert not step_of(np.zeros(shape, F4)).any()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_finite_stays_in_its_matrix(wrong, rng):
    params = {name: random(rng, (4, 6), F4) for name in "ab"} | {"c": random(rng, (5,), F4)}
    grads = like(rng, params)
    grads["a"][1, 2] = wrong
    opt = Muon()
    opt.update(params, grads)
    assert np.isnan(params["a"]).any()
    assert all(np.isfinite(params[name]).all() for name in "bc")
    opt.skip_nonfinite = True
    before = snapshot(opt, params)
    opt.update(params, grads)
    assert opt.skipped == 1
    assert snapshot(opt, params)["p"] == before["p"]


def test_other_arrays_follow_adamw(rng):
    """Also matrices that `adamw` names. Their learning rate multiplies their decay, too."""
    params = {"b": random(rng, (7,), F4), "embed": random(rng, (6, 4), F4), "s": random(rng, (), F4)}
    copies = {name: p.copy() for name, p in params.items()}
    opt = Muon(adamw_lr=0.03, beta1=0.8, beta2=0.9, adamw_eps=1e-6, adamw=["em*"], weight_decay=0.2)
    adamw = AdamW(0.03, 0.8, 0.9, 1e-6, weight_decay=0.2)
    for _ in range(3):
        grads = like(rng, params)
        opt.update(params, grads)
        adamw.update(copies, grads)
    for name, p in params.items():
        assert_same_bits(p, copies[name], name)
    assert opt.state["m"].keys() == opt.state["v"].keys() == params.keys()


def test_learning_rates_of_both_kinds(rng):
    """Assigned ones, schedules and those of groups, with a decay by each."""
    params = in_every_layout(rng)
    groups = {"a 1*": {"lr": 0.3, "adamw_lr": 0.1}, "b*": {"adamw_lr": schedules.linear(0, 0.2, steps=3)}}
    pair = Pair(Muon, params, lr=schedules.linear(0.1, 0.01, steps=3), adamw_lr=0.02, groups=groups, weight_decay=0.3)
    for value in 0.02, 0.05, schedules.linear(0.1, 0.05, steps=5), 0.01:
        pair.assign(adamw_lr=value)
        pair.update(like(rng, params))
        pair.check()


def test_a_pattern_has_to_match_a_name(rng):
    params = {"W": random(rng, (3, 4), F4)}
    opt = Muon(adamw="head*")
    before = snapshot(opt, params)
    with pytest.raises(ValueError, match=r"adamw\['head\*'\]: expected a pattern that matches a name"):
        opt.update(params, like(rng, params))
    assert snapshot(opt, params) == before
    opt.adamw = "W"
    opt.update(params, like(rng, params))
    assert opt.state["v"].keys() == {"W"}


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [((), "W", "has no v, which its step now needs"), ("W", (), "has a v, which its step now does not take")],
)
def test_a_matrix_stays_one(first, second, found, rng):
    """Patterns may change where they say the same of names that have made a step."""
    params = {"W": random(rng, (3, 4), F4), "late": random(rng, (2, 2), F4)}
    opt = Muon(adamw=first)
    opt.update({"W": params["W"]}, like(rng, params))
    opt.adamw = second
    before = snapshot(opt, params)
    with pytest.raises(ValueError, match=rf"params\['W'\]: its state {found}: expected it to be updated as before"):
        opt.update(params, like(rng, params))
    assert snapshot(opt, params) == before
    opt.adamw = (*first, "late")
    opt.update(params, like(rng, params))
    assert "late" in opt.state["v"]


def test_patterns_are_no_matter_of_groups():
    with pytest.raises(ValueError, match=r"groups\['W'\]: expected one of .*, got 'adamw'"):
        Muon(groups={"W": {"adamw": "W"}})


def test_what_it_cannot_do_is_refused(rng):
    params = {"W": random(rng, (3, 4), F4)}
    opt = Muon(capturable=True)
    with pytest.raises(ValueError, match=r"capturable: .* a function of matrices"):
        opt.update(params, like(rng, params))
    with pytest.raises(TypeError, match=r"Muon updates matrices by a function: expected opt\.update to be called"):
        Muon.kernels.cpu  # noqa: B018


def test_statistics_of_a_matrix(rng):
    params = {"W": random(rng, (6, 4), F8), "b": random(rng, (5,), F8)}
    grads, before = like(rng, params), {name: p.copy() for name, p in params.items()}
    opt = Muon(statistics=("grad_norm", "param_norm", "update_norm"), weight_decay=0.5)
    opt.update(params, grads)
    for name, found in opt.last_statistics.items():
        assert_close(np.array(found.grad_norm), np.linalg.norm(grads[name]))
        assert_close(np.array(found.param_norm), np.linalg.norm(before[name]))
        assert_close(np.array(found.update_norm), np.linalg.norm(params[name] - before[name]))
    assert opt.last_statistics.keys() == params.keys()


def test_memory_is_what_there_is(rng):
    params = {**in_every_layout(rng, (F4, F8)), "embed": random(rng, (9, 8), F4)}
    opt = Muon(adamw="embed")
    expected = opt.memory(params).state
    opt.update(params, like(rng, params))
    assert expected == sum(x.nbytes for views in opt.state.values() for x in views.values())
    assert expected < AdamW().memory(params).state
