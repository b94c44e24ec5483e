"""Sums over arrays before a rule: the bits of any division and layout; zero, nan and inf; options; resuming."""

import copy
import json
import pickle
from math import sqrt

import numpy as np
import pytest

import fastoptim
from fastoptim import Number, Optimizer, Reduction, fraction, nonnegative, rule
from internals import divide_work_among, never_go_on_alone
from pair import Pair, train
from references import EVERYTHING, REFERENCES, SEVERAL, Reference
from sums_in_numpy import InNumpy
from support import (
    DTYPES,
    LAYOUTS,
    assert_close,
    assert_same_bits,
    assert_state_close,
    flat_like,
    in_every_layout,
    like,
    python,
    random,
    snapshot,
)
from variants import VARIANTS

F4, F8 = np.float32, np.float64


@rule
def follow(p, g, m, one_minus_beta):
    m = m + one_minus_beta * (g - m)
    return m, m * g, p * p, m * m


def agreement(dot, size, agreement, one_minus_rho):
    return agreement + one_minus_rho * ((dot / size if size > 0 else 0.0) - agreement)


def length(p_squares, m_squares):
    return sqrt(p_squares) / sqrt(m_squares) if p_squares > 0 and m_squares > 0 else 1.0


@rule
def measure(p, g, m, length, agreement):
    step = length * m + agreement * g
    return m, step * step


def rms(step_squares, size, length):
    return sqrt(step_squares / size) + length if size > 0 else 1.0


@rule
def both(p, g, m, length, agreement, rms, lr):
    return p - lr / rms * (length * m + agreement * g), m


class Both(Optimizer):
    """Two reductions, a number for each array, the number of its elements, and numbers of the step in each of them."""

    rule, slots, array_slots = both, ("m",), ("agreement",)
    reductions = (
        Reduction(follow, ("dot", "p_squares", "m_squares"), agreement, length),
        Reduction(measure, ("step_squares",), rms),
    )
    lr: Number = nonnegative(0.1)
    beta: Number = fraction(0.75)
    rho: Number = fraction(0.5)

    def scalars(self, t):
        return 1 - self.beta, 1 - self.rho, self.lr


def both_in_numpy(p, g, state, t, opt):
    m = opt.beta * state["m"] + (1 - opt.beta) * g
    mean = np.sum(m * g) / g.size if g.size else 0.0
    agreement = opt.rho * state["agreement"] + (1 - opt.rho) * mean
    p_norm, m_norm = np.sqrt(np.sum(p * p)), np.sqrt(np.sum(m * m))
    length = p_norm / m_norm if p_norm > 0 and m_norm > 0 else 1.0
    step = length * m + agreement * g
    rms = np.sqrt(np.mean(step * step)) + length if g.size else 1.0
    return p - opt.lr / rms * step, {"m": m, "agreement": agreement}


@pytest.fixture(autouse=True)
def known_to_the_references(monkeypatch):
    monkeypatch.setitem(REFERENCES, "Both", both_in_numpy)
    monkeypatch.setitem(VARIANTS, "Both", [{"lr": 0.05, "beta": 0.6, "rho": 0.25}])


# Around a block, which is 4,096 elements, and enough for several threads.
SHAPES = {str(n): (n,) for n in (0, 1, 127, 129, 4095, 4096, 4097, 100_003)} | {"s": (), "M": (130, 129)}


def arrays(seed, dtype):
    rng = np.random.default_rng(seed)
    return {name: random(rng, shape, dtype) for name, shape in SHAPES.items()}


def trained(opt, params, gradients=lambda grads: grads):
    """Parameters and state after three steps, as bytes."""
    for step in range(3):
        opt.update(params, gradients(arrays(step + 1, params["s"].dtype)))
    return {name: (p.tobytes(), *(opt.state[slot][name].tobytes() for slot in opt.state)) for name, p in params.items()}


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_promised_order_of_additions(dtype):
    params, opt = arrays(0, dtype), Both()
    alone = {name: InNumpy(opt, p.copy()) for name, p in params.items()}
    trained(opt, params)
    for step in range(3):
        grads = arrays(step + 1, dtype)
        for name, each in alone.items():
            each.step(grads[name])
    for name, each in alone.items():
        assert_same_bits(params[name], each.elements["p"], name)
        assert_same_bits(opt.state["m"][name], each.elements["m"], name)
        assert_same_bits(opt.state["agreement"][name], each.numbers["agreement"], name)


@pytest.mark.parametrize("cls", [Both, fastoptim.LAMB])
def test_the_same_bits_however_arrays_are_put_together(cls, monkeypatch):
    never_go_on_alone(monkeypatch)
    expected = trained(cls(), arrays(0, F4))
    for workers in 1, 2, 3, 8, 64:
        with monkeypatch.context() as patch:
            divide_work_among(workers, patch)
            assert trained(cls(), arrays(0, F4)) == expected, workers
    assert trained(cls(), dict(reversed(arrays(0, F4).items()))) == expected
    assert trained(cls(), arrays(0, F4), lambda grads: dict(reversed(grads.items()))) == expected
    flat = fastoptim.flatten(arrays(0, F4))
    assert trained(cls(), flat.copy()) == expected
    assert trained(cls(), flat.copy(), lambda grads: flat_like(flat, grads)) == expected
    assert trained(cls(statistics=("update_norm",)), arrays(0, F4)) == expected
    one_by_one = cls()
    params = arrays(0, F4)
    for step in range(3):
        for name, g in arrays(step + 1, F4).items():
            one_by_one.update({name: params[name]}, {name: g})
    assert {name: (p.tobytes(), *(x[name].tobytes() for x in one_by_one.state.values()))
            for name, p in params.items()} == expected  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_bits_in_any_layout(layout):
    expected, laid = trained(Both(), arrays(0, F4)), {name: LAYOUTS[layout](p) for name, p in arrays(0, F4).items()}
    assert trained(Both(), laid) == expected
    other = trained(Both(), arrays(0, F4), lambda grads: {name: LAYOUTS[layout](g) for name, g in grads.items()})
    assert other == expected


@pytest.mark.parametrize("cls", [Both, fastoptim.LARS, fastoptim.LAMB, fastoptim.NovoGrad])
def test_zero_norms(cls, rng):
    params = {"p": np.zeros(9), "g": random(rng, 9, F8), "both": np.zeros(9), "none": random(rng, 9, F8)}
    opt = cls(**VARIANTS[cls.__name__][0])
    reference = Reference(opt, params)
    for step in range(4):
        grads = like(rng, params) | {"g": np.zeros(9), "both": np.zeros(9)}
        if step == 2:
            grads = {name: np.zeros(9) for name in params}
        reference.update(grads)
        opt.update(params, grads)
    for name, p in params.items():
        assert np.isfinite(p).all()
        assert_close(p, reference.params[name], name)
        assert_state_close(opt, name, p, reference.state[name])


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_finite_stays_in_its_array(wrong, rng):
    params, opt, twin = {"a": random(rng, 9000, F4), "b": random(rng, 9000, F4)}, Both(), Both()
    alone = {"b": params["b"].copy()}
    for step in range(3):
        grads = like(rng, params)
        if step == 1:
            grads["a"][5000] = wrong
        opt.update(params, grads)
        twin.update(alone, grads)
    assert not np.isfinite(params["a"]).any()  # as its norm is a factor of each element
    assert not np.isfinite(opt.state["agreement"]["a"])
    assert_same_bits(params["b"], alone["b"])


def test_a_step_that_is_skipped_changes_nothing(rng):
    params, opt = {"a": random(rng, 70, F4), "b": random(rng, 7, F8)}, Both(skip_nonfinite=True)
    opt.update(params, like(rng, params))
    before = snapshot(opt, params)
    opt.update(params, like(rng, params) | {"b": np.full(7, np.inf)})
    assert opt.skipped == 1
    after = snapshot(opt, params)
    assert (after["p"], after["state"], after["saved"]["steps"]) == (
        before["p"], before["state"], before["saved"]["steps"]
    )  # fmt: skip


@pytest.mark.parametrize("options", [*SEVERAL.values(), EVERYTHING], ids=[*SEVERAL, "everything"])
def test_all_options(options, rng):
    """With gradients that are in other orders, of other dtypes, late, missing or, where they are skipped, nan."""
    train(Pair(Both, in_every_layout(rng), **options), rng)


def by_state_dict(opt):
    saved = opt.state_dict()
    saved["hyperparameters"] = json.loads(json.dumps(saved["hyperparameters"]))
    fresh = type(opt)()
    fresh.load_state_dict(pickle.loads(pickle.dumps(saved)))
    return fresh


@pytest.mark.parametrize("way", [by_state_dict, copy.deepcopy, lambda opt: pickle.loads(pickle.dumps(opt))])
def test_resuming_in_the_middle(way, rng):
    """Also while gradients are summed, and with a name that comes later."""
    params = {"W": random(rng, (300, 40), F4), "b": random(rng, 7, F8), "late": random(rng, (), F4)}
    opt = Both(accumulate=2, ema=0.5)
    calls = [like(rng, params) | ({"late": None} if i < 3 else {}) for i in range(9)]
    for grads in calls[:5]:
        opt.update(params, grads)
    theirs, twin = copy.deepcopy(params), way(opt)
    for grads in calls[5:]:
        opt.update(params, grads)
        twin.update(theirs, grads)
    assert snapshot(twin, theirs) == snapshot(opt, params)


GO_ON = """
import sys
import numpy as np
import fastoptim
rng = np.random.default_rng(7)
checkpoint = fastoptim.load(sys.argv[1])
params = {name: np.zeros(shape, np.float32) for name, shape in (("W", (30, 4)), ("b", (4,)))}
opt = fastoptim.NovoGrad()
checkpoint.restore(params, opt)
for _ in range(3):
    opt.update(params, {name: rng.standard_normal(p.shape).astype(np.float32) for name, p in params.items()})
print(params["W"].tobytes().hex(), opt.state["v"]["W"].tobytes().hex(), opt.state["v"]["b"].dtype)
"""


def test_going_on_in_another_process(tmp_path, rng):
    params = {"W": random(rng, (30, 4), F4), "b": random(rng, 4, F4)}
    opt = fastoptim.NovoGrad(0.01, beta2=0.5)
    for _ in range(2):
        opt.update(params, like(rng, params))
    fastoptim.save(tmp_path / "file", params, opt)
    printed, rng = python(GO_ON, tmp_path / "file").split(), np.random.default_rng(7)
    for _ in range(3):
        opt.update(params, like(rng, params))
    assert printed == [params["W"].tobytes().hex(), opt.state["v"]["W"].tobytes().hex(), "float64"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.update(W=np.zeros(3)), r"slots\['v'\]\['W'\]: expected float64 \(\), got float64 \(3,\)"),
        (lambda v: v.update(W=np.zeros((), F4)), r"slots\['v'\]\['W'\]: expected float64 \(\), got float32 \(\)"),
        (lambda v: v.pop("W"), "expected the same names in all slots"),
        (lambda v: v.update(x=np.zeros(())), r"slots\['v'\]\['x'\]: expected a name that steps has"),
    ],
)
def test_wrong_numbers_of_arrays_are_not_loaded(change, words, rng):
    params, opt = {"W": random(rng, (3, 2), F4), "b": random(rng, 2, F4)}, fastoptim.NovoGrad()
    opt.update(params, like(rng, params))
    saved, before = copy.deepcopy(opt.state_dict()), snapshot(opt, params)
    change(saved["slots"]["v"])
    with pytest.raises(ValueError, match=words):
        opt.load_state_dict(saved)
    assert snapshot(opt, params) == before
