"""Prodigy: an estimate that all arrays share, held against the paper's formula where names come, go and differ."""

import copy
import pickle

import numpy as np
import pytest

import fastoptim
from fastoptim import Prodigy
from references import Reference
from support import LAYOUTS, assert_close, assert_same_bits, flat_like, like, random, snapshot

F4, F8 = np.float32, np.float64
SHARED = "d", "d_max", "numerator"
SHAPES = {"W": (4, 3), "b": (3,), "late": (5,), "none": (0, 2), "wide": (3, 1500)}
GROWING = {"d0": 0.01, "beta2": 0.9}


def arrays(rng, dtype=F8):
    return {name: random(rng, shape, dtype) for name, shape in SHAPES.items()}


def slopes(rng, params):
    """Gradients of about the same direction in each step, so that the estimate grows."""
    return {name: 2 + g for name, g in like(rng, params).items()}


def check(opt, params, reference):
    dtype = min((p.dtype for p in params.values()), key=lambda dtype: dtype.itemsize)  # the sums are no better
    for name, p in params.items():
        assert_close(p.astype(dtype), reference.params[name], name)
        for slot in opt.slots if name in reference.steps else ():
            assert opt.state[slot][name].dtype == p.dtype
            assert_close(opt.state[slot][name].astype(dtype), reference.state[name][slot], f"{slot} {name}")
    for slot in SHARED:
        assert opt.state[slot].keys() == reference.steps.keys()
        for number in opt.state[slot].values():
            assert (number.shape, number.dtype) == ((), F8)
            assert_close(number.astype(dtype), reference.shared[slot], slot)


def trained(rng, params, opt, calls=12, options=None):
    """Beside the reference, with a name that comes late and others without a gradient in some steps."""
    reference = Reference(opt, params, options or {})
    for call in range(calls):
        grads = slopes(rng, params)
        grads["late"] = None if call < 4 else grads["late"]
        grads["b"] = None if call % 3 == 1 else grads["b"]
        reference.update(grads)
        opt.update(params, grads)
        check(opt, params, reference)
    return reference


@pytest.mark.parametrize("dtypes", [[F8], [F4, F8]], ids=["float64", "mixed"])
@pytest.mark.parametrize(
    "options",
    [{}, {"growth_rate": 1.5}, {"d_coef": 0.5, "bias_correction": True}, {"safeguard_warmup": True, "d_coef": 1.5}],
    ids=str,
)
def test_names_that_come_late_and_pause(options, dtypes, rng):
    params = {name: p.astype(dtypes[i % len(dtypes)]) for i, (name, p) in enumerate(arrays(rng).items())}
    opt = Prodigy(**GROWING, **options)
    reference = trained(rng, params, opt)
    assert reference.shared["d"] > 2 * 0.01


def test_a_growth_rate_limits_every_estimate_but_the_first_above_d0():
    p, opt = {"p": np.zeros(3)}, Prodigy(d0=1e-6, growth_rate=1.25)
    found = []
    for _ in range(12):
        opt.update(p, {"p": np.full(3, -1.0)})
        found.append(float(opt.state["d"]["p"]))
    growth = np.divide(found[1:], found[:-1])
    assert found[0] == 1e-6
    assert growth[0] > 1.5
    np.testing.assert_allclose(growth[1:], 1.25, rtol=1e-15)


def test_two_networks_in_turn(rng):
    """What the estimate is made of is summed over the arrays of a call; the estimate is that of all names."""
    params = arrays(rng)
    opt = Prodigy(**GROWING)
    reference = Reference(opt, params)
    for call in range(10):
        grads = slopes(rng, params)
        names = [("W", "b"), ("late", "none", "wide")][call % 2]
        reference.update({name: grads[name] if name in names else None for name in params})
        opt.update({name: params[name] for name in names}, grads)
        check(opt, params, reference)


@pytest.mark.parametrize("options", [{"accumulate": 2, "clip_value": 0.5}, {"accumulate": 2, "ema": 0.5}], ids=str)
def test_sums_of_gradients_of_different_lengths(options, rng):
    """Names that have had more calls make a step of their own in the same call."""
    params = arrays(rng)
    opt = Prodigy(**GROWING, **options)
    reference = Reference(opt, params, options)
    for call in range(10):
        opt.accumulate = reference.options["accumulate"] = 4 if 2 <= call < 5 else 2
        grads = slopes(rng, params)
        names = ["W", "b"] if call < 3 else list(params)
        held, reference.params = reference.params, {name: reference.params[name] for name in names}
        reference.update(grads)
        reference.params = held | reference.params
        opt.update({name: params[name] for name in names}, grads)
        check(opt, params, reference)
    assert reference.steps["W"] == 4


@pytest.mark.parametrize("layout", [*LAYOUTS, "flat", "another order"])
def test_layouts_and_orders_change_no_bit(layout, rng):
    params, steps = arrays(rng, F4), [slopes(rng, arrays(rng, F4)) for _ in range(5)]
    expected, twin = {name: p.copy() for name, p in params.items()}, Prodigy(**GROWING)
    for grads in steps:
        twin.update(expected, grads)
    opt = Prodigy(**GROWING)
    if layout == "flat":
        params = fastoptim.flatten(params)
        steps = [flat_like(params, grads) for grads in steps]
    elif layout in LAYOUTS:
        make = LAYOUTS[layout]
        params, steps = ([{name: make(x) for name, x in each.items()} for each in given] for given in ([params], steps))
        (params,) = params
    for i, grads in enumerate(steps):
        opt.update(dict(reversed(params.items())) if layout == "another order" and i % 2 else params, grads)
    for name, p in expected.items():
        assert_same_bits(params[name].copy("C"), p, name)
        for slot in twin.state:
            assert_same_bits(opt.state[slot][name].copy("C"), twin.state[slot][name], f"{slot} {name}")


@pytest.mark.parametrize(
    "how",
    [copy.deepcopy, lambda opt: pickle.loads(pickle.dumps(opt)), "dict", "file"],
    ids=["copy", "pickle", "dict", "file"],
)
def test_a_resume_goes_on_with_the_estimate(how, rng, tmp_path):
    params, opt = arrays(rng, F4), Prodigy(**GROWING, bias_correction=True)
    steps = [slopes(rng, params) for _ in range(8)]
    for grads in steps[:4]:
        opt.update(params, {**grads, "late": None})
    others = {name: p.copy() for name, p in params.items()}
    if how == "file":
        fastoptim.save(tmp_path / "file", params, opt)
        twin = Prodigy()
        fastoptim.load(tmp_path / "file").restore(others, twin)
    elif how == "dict":
        twin = Prodigy()
        twin.load_state_dict(opt.state_dict())
    else:
        twin = how(opt)
    for grads in steps[4:]:
        opt.update(params, grads)
        twin.update(others, grads)
    for name, p in params.items():
        assert_same_bits(others[name], p, name)
        for slot in opt.state:
            assert_same_bits(twin.state[slot][name], opt.state[slot][name], f"{slot} {name}")


def test_a_name_that_comes_after_a_resume_has_the_same_estimate(rng):
    params, opt, twin = arrays(rng), Prodigy(**GROWING), Prodigy()
    for _ in range(3):
        opt.update(params, {**slopes(rng, params), "late": None})
    twin.load_state_dict(opt.state_dict())
    twin.update(params, slopes(rng, params))
    assert len({float(d) for d in twin.state["d"].values()}) == 1
    assert twin.state["d"].keys() == params.keys()
    assert twin.state["d"]["late"] >= opt.state["d"]["W"]


def test_a_state_dict_with_different_estimates_is_refused(rng):
    params, opt = arrays(rng), Prodigy(**GROWING)
    opt.update(params, like(rng, params))
    saved = copy.deepcopy(opt.state_dict())
    saved["slots"]["d"]["b"] = np.array(0.5)
    before = snapshot(opt, params)
    with pytest.raises(ValueError, match=r"slots\['d'\]: expected the same number for all names"):
        opt.load_state_dict(saved)
    assert snapshot(opt, params) == before


def test_a_state_dict_with_a_wrong_estimate_is_refused(rng):
    params, opt = arrays(rng), Prodigy(**GROWING)
    opt.update(params, like(rng, params))
    saved = copy.deepcopy(opt.state_dict())
    saved["slots"]["d"]["b"] = np.zeros(2)
    before = snapshot(opt, params)
    with pytest.raises(ValueError, match=r"slots\['d'\]\['b'\]: expected float64 \(\), got float64 \(2,\)"):
        opt.load_state_dict(saved)
    assert snapshot(opt, params) == before


@pytest.mark.parametrize("slot", [*SHARED, "s"])
def test_a_state_dict_without_a_names_number_is_refused(slot, rng):
    params, opt = arrays(rng), Prodigy(**GROWING)
    opt.update(params, like(rng, params))
    saved = copy.deepcopy(opt.state_dict())
    del saved["slots"][slot]["W"]
    before = snapshot(opt, params)
    with pytest.raises(ValueError, match="expected the same names in all slots"):
        opt.load_state_dict(saved)
    assert snapshot(opt, params) == before


@pytest.mark.parametrize("dtype", [F4, F8])
def test_gradients_of_zero(dtype, rng):
    params = arrays(rng, dtype)
    before, opt = {name: p.copy() for name, p in params.items()}, Prodigy(weight_decay=0.0)
    for _ in range(3):
        opt.update(params, {name: np.zeros_like(p) for name, p in params.items()})
    assert opt.state["d"]["W"] == dtype(opt.d0)
    for name, p in params.items():
        assert_same_bits(p, before[name], name)
    for _ in range(3):
        opt.update(params, like(rng, params))
    assert all(np.isfinite(p).all() for p in params.values())
    assert all(np.isfinite(x).all() for views in opt.state.values() for x in views.values())


def test_a_learning_rate_of_zero_leaves_the_estimate(rng):
    params, opt = arrays(rng), Prodigy(**GROWING)
    for _ in range(3):
        opt.update(params, like(rng, params))
    before, opt.lr = float(opt.state["d"]["W"]), 0.0
    opt.update(params, like(rng, params))
    assert opt.state["d"]["W"] == before


def test_nan_goes_on_to_all_arrays_and_is_skipped_where_that_is_asked_for(rng):
    params, grads = arrays(rng), like(rng, arrays(rng))
    grads["b"][1] = np.nan
    careful, before = Prodigy(skip_nonfinite=True), snapshot(Prodigy(), params)["p"]
    careful.update(params, grads)
    assert (careful.skipped, careful.iter, snapshot(careful, params)["p"]) == (1, 0, before)
    opt = Prodigy()
    opt.update(params, grads)
    assert np.isnan(opt.state["d"]["W"])
    assert all(np.isnan(p).all() for p in params.values())
    twin = Prodigy()
    twin.load_state_dict(opt.state_dict())
    assert np.isnan(twin.state["d"]["W"])


def test_calls_without_an_element(rng):
    opt = Prodigy()
    opt.update({}, {})
    opt.update({"b": np.ones(3)}, {"b": None})
    opt.update({"none": np.zeros((0, 2))}, {"none": np.zeros((0, 2))})
    assert opt.state["d"]["none"] == opt.d0
    params = {"none": np.zeros((0, 2)), "b": np.ones(3)}
    reference = Reference(opt, params)
    for _ in range(3):
        grads = like(rng, params)
        reference.update(grads)
        opt.update(params, grads)
    assert_close(params["b"], reference.params["b"])


@pytest.mark.parametrize("name", ["d0", "d_coef", "growth_rate", "beta2"])
def test_groups_cannot_change_what_the_estimate_is_made_of(name):
    with pytest.raises(ValueError, match=rf"groups\['b\*'\]: expected one of lr, beta1, eps.*, got '{name}'"):
        Prodigy(groups={"b*": {name: 0.5}})


def test_groups_with_other_rates_and_decay(rng):
    options = {"groups": {"W": {"lr": 0.5, "weight_decay": 0.1}, "*": {"beta1": 0.5, "eps": 0.01}}}
    trained(rng, arrays(rng), Prodigy(**GROWING, **options), options=options)


def test_a_schedule_of_the_learning_rate(rng):
    options = {"lr": fastoptim.schedules.cosine(1.0, 10)}
    trained(rng, arrays(rng), Prodigy(**GROWING, **options), options=options)


@pytest.mark.parametrize("dtype", [F4, F8])
def test_memory(dtype, rng):
    params, opt = arrays(rng, dtype), Prodigy()
    said = opt.memory(params)
    opt.update(params, like(rng, params))
    held = {id(x.base if x.base is not None and not x.ndim else x): x for v in opt.state.values() for x in v.values()}
    assert said.state == sum(x.nbytes for x in held.values()) == 4 * said.params + 3 * 8
