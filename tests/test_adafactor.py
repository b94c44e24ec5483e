"""Adafactor: matrices by their rows and columns, in slabs, held against the paper's formula; and its state."""

import copy
import pickle

import numpy as np
import pytest

import fastoptim
from fastoptim import Adafactor
from fastoptim.algorithms import adafactor
from references import Reference
from support import (
    DTYPES,
    LAYOUTS,
    assert_close,
    assert_same_bits,
    assert_state_close,
    flat_like,
    like,
    random,
    snapshot,
)

F4, F8 = np.float32, np.float64
SHAPES = {"W": (7, 5), "wide": (2, 30), "many": (3, 2, 4, 5), "b": (13,), "s": (), "none": (0, 3), "empty": (3, 0)}


def arrays(rng, dtype=F8):
    return {name: random(rng, shape, dtype) for name, shape in SHAPES.items()}


def beside_the_reference(opt, params, steps, options=None):
    """Make steps of gradients by name, some of which are None."""
    reference = Reference(opt, params, options or {})
    for grads in steps:
        reference.update(grads)
        opt.update(params, grads)
        for name in reference.steps:
            assert_close(params[name], reference.params[name], name)
            assert_state_close(opt, name, params[name], reference.state[name])


@pytest.mark.parametrize("slab", [1, 8, 40, 1000])
def test_matrices_in_slabs_of_any_size(slab, rng, monkeypatch):
    """Some rows at a time, or some matrices."""
    monkeypatch.setattr(adafactor, "SLAB", slab)
    params = arrays(rng)
    beside_the_reference(Adafactor(lr=0.5, weight_decay=0.1), params, [like(rng, params) for _ in range(4)])


@pytest.mark.parametrize("dtype", DTYPES)
def test_matrices_of_several_slabs(dtype, rng):
    params = {"W": random(rng, (300, 500), dtype), "wide": random(rng, (2, 70_000), dtype)}
    assert all(p.size > 2 * adafactor.SLAB for p in params.values())
    beside_the_reference(Adafactor(lr=0.5), params, [like(rng, params) for _ in range(3)])


@pytest.mark.parametrize("options", [{}, {"groups": {"W": {"lr": 0.5, "weight_decay": 0.1}, "b": {"eps2": 0.5}}}])
def test_names_that_come_late_and_pause(options, rng):
    params, steps = arrays(rng), [like(rng, arrays(rng)) for _ in range(8)]
    for call, grads in enumerate(steps):
        grads["many"] = None if call < 3 else grads["many"]
        if call % 3 == 1:
            grads["W"] = grads["b"] = None
    beside_the_reference(Adafactor(lr=0.1, relative_step=True, **options), params, steps, options)


def test_the_state_of_each_kind_of_array(rng):
    params, opt = arrays(rng, F4), Adafactor()
    said = opt.memory(params)
    opt.update(params, like(rng, params))
    found = {slot: {name: x.shape for name, x in views.items()} for slot, views in opt.state.items()}
    assert found == {
        "v": {"b": (13,), "s": ()},
        "row": {"W": (7,), "wide": (2,), "many": (3, 2, 4), "none": (0,), "empty": (3,)},
        "column": {"W": (5,), "wide": (30,), "many": (3, 2, 5), "none": (3,), "empty": (0,)},
    }
    assert all(x.dtype == F4 for views in opt.state.values() for x in views.values())
    assert said.state == sum(x.nbytes for views in opt.state.values() for x in views.values())


def test_the_first_step_is_as_long_as_lr_says():
    """Its second moment is that of the first gradient alone, so that each element's step is the same."""
    params = {"W": np.full((4, 3), 2.0), "b": np.full(5, 2.0), "zero": np.zeros((2, 2))}
    Adafactor(lr=0.1).update(params, {"W": np.full((4, 3), 7.0), "b": np.full(5, -7.0), "zero": np.ones((2, 2))})
    assert_close(params["W"], np.full((4, 3), 1.8))
    assert_close(params["b"], np.full(5, 2.2))
    assert_close(params["zero"], np.full((2, 2), -0.1 * 1e-3))


@pytest.mark.parametrize("shape", [(4, 6), (24,)])
def test_steps_are_clipped(shape, rng):
    """Gradients that grow suddenly are large beside the second moment."""
    params, opt = {"p": np.ones(shape)}, Adafactor(lr=1.0, clip_threshold=0.5)
    for scale in 1e-2, 1.0:
        before = params["p"].copy()
        opt.update(params, {"p": scale * random(rng, shape, F8)})
        step = np.sqrt(np.mean((params["p"] - before) ** 2)) / np.sqrt(np.mean(before**2))
        assert step == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize("layout", [*LAYOUTS, "flat", "another order"])
def test_layouts_and_orders_change_no_bit(layout, rng, monkeypatch):
    monkeypatch.setattr(adafactor, "SLAB", 16)
    params, steps = arrays(rng, F4), [like(rng, arrays(rng, F4)) for _ in range(4)]
    expected, twin, opt = copy.deepcopy(params), Adafactor(weight_decay=0.1), Adafactor(weight_decay=0.1)
    for grads in steps:
        twin.update(expected, grads)
    if layout == "flat":
        params = fastoptim.flatten(params)
        steps = [flat_like(params, grads) for grads in steps]
    elif layout in LAYOUTS:
        make = LAYOUTS[layout]
        params, *steps = ({name: make(x) for name, x in each.items()} for each in [params, *steps])
    for i, grads in enumerate(steps):
        opt.update(dict(reversed(params.items())) if layout == "another order" and i % 2 else params, grads)
    for name, p in expected.items():
        assert_same_bits(params[name].copy("C"), p, name)
        for slot in (slot for slot in twin.state if name in twin.state[slot]):
            assert_same_bits(opt.state[slot][name].copy("C"), twin.state[slot][name], f"{slot} {name}")


@pytest.mark.parametrize(
    "how",
    [copy.deepcopy, lambda opt: pickle.loads(pickle.dumps(opt)), "dict", "file"],
    ids=["copy", "pickle", "dict", "file"],
)
def test_a_resume_in_the_middle(how, rng, tmp_path):
    params, opt = arrays(rng, F4), Adafactor(lr=0.1, relative_step=True)
    steps = [like(rng, params) for _ in range(6)]
    for grads in steps[:3]:
        opt.update(params, {**grads, "many": None, "b": None})
    others = copy.deepcopy(params)
    if how == "file":
        fastoptim.save(tmp_path / "file", params, opt)
        twin = Adafactor()
        fastoptim.load(tmp_path / "file").restore(others, twin)
    elif how == "dict":
        twin = Adafactor()
        twin.load_state_dict(opt.state_dict())
    else:
        twin = how(opt)
    for grads in steps[3:]:
        opt.update(params, grads)
        twin.update(others, grads)
    for name, p in params.items():
        assert_same_bits(others[name], p, name)
        for slot in (slot for slot in opt.state if name in opt.state[slot]):
            assert_same_bits(twin.state[slot][name], opt.state[slot][name], f"{slot} {name}")


@pytest.mark.parametrize("eps1", [1e-15, 1e-30, 2**-23])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_of_zero_move_nothing(dtype, eps1, rng):
    params, opt = arrays(rng, dtype), Adafactor(eps1=eps1)
    before = snapshot(opt, params)["p"]
    for _ in range(3):
        opt.update(params, {name: np.zeros_like(p) for name, p in params.items()})
    assert snapshot(opt, params)["p"] == before
    opt.update(params, like(rng, params))
    assert all(np.isfinite(p).all() for p in params.values())
    assert all(np.isfinite(x).all() for views in opt.state.values() for x in views.values())


@pytest.mark.parametrize("name", ["W", "many", "b"])
def test_nan_is_that_of_a_whole_array(name, rng):
    params, grads, opt = arrays(rng), like(rng, arrays(rng)), Adafactor()
    grads[name].flat[3] = np.nan
    careful, before = Adafactor(skip_nonfinite=True), snapshot(Adafactor(), params)["p"]
    careful.update(params, grads)
    assert (careful.skipped, careful.iter, snapshot(careful, params)["p"]) == (1, 0, before)
    opt.update(params, grads)
    for other, p in params.items():
        assert np.isnan(p).all() if other == name else np.isfinite(p).all()


def test_a_parameter_that_was_a_matrix_is_refused_as_a_vector():
    opt, params = Adafactor(), {"p": np.ones((2, 3))}
    opt.update(params, {"p": np.ones((2, 3))})
    flat = {"p": params["p"].reshape(6)}
    before = snapshot(opt, flat)
    with pytest.raises(ValueError, match=r"params\['p'\]: its state has no v, which its step now needs"):
        opt.update(flat, {"p": np.ones(6)})
    assert snapshot(opt, flat) == before


def test_public_kernels_are_refused():
    with pytest.raises(TypeError, match=r"Adafactor .*: expected opt\.update to be called"):
        Adafactor.kernels.cpu  # noqa: B018  # the property raises
