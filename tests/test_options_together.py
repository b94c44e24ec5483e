"""Several options at once, and all of them, against the passes of the reference."""

import inspect

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastoptim
from fastoptim import Adam, Optimizer, schedules
from pair import Pair, train
from references import ALONE, EVERYTHING, OPTIONS, SEVERAL, WITH_REFERENCE
from support import DTYPES, FEW, LAYOUTS, OPTIMIZERS, flat_like, in_every_layout, like, random
from variants import WRONG, options_of

F4, F8 = np.float32, np.float64
LARGE = 40_000  # elements, for which there are several threads
# Sets of options for drawn values, with the optimizers and dtypes that they are compiled for. Where a sum of gradients
# goes into the norm there is one dtype, as the norm passes the roundings of float32 on to float64.
TOGETHER = {
    "as torch trains": ({"weight_decay", "clip_norm", "skip_nonfinite", "cautious"}, [Adam], [F4, F8]),
    "as language models are trained": (set(OPTIONS) - {"clip_value", "grad_scale", "maximize", "groups"}, [Adam], [F8]),
    "no norm": (set(OPTIONS) - {"decoupled", "clip_norm", "ema"}, [Adam], [F4]),
    "everything": (set(OPTIONS), WITH_REFERENCE, [F4]),
}

VALUES = {
    "lr": st.sampled_from([0.01, 0.05, schedules.linear(0.05, 0, steps=4), schedules.warmup(0.02, steps=2)]),
    "weight_decay": st.sampled_from([0.01, 0.5, schedules.linear(0, 0.5, steps=3)]),
    "decoupled": st.just(True),
    "cautious": st.just(True),
    "bounds": st.sampled_from([(-0.5, 0.5), (None, 0.25), (-0.25, None)]),
    "nonnegative": st.just(True),
    "clip_norm": st.sampled_from([0.01, 2.0, 1e6]),
    "clip_value": st.sampled_from([0.1, 100]),
    "grad_scale": st.sampled_from([0.5, 3.0, 64]),
    "skip_nonfinite": st.just(True),
    "accumulate": st.sampled_from([2, 3]),
    "ema": st.sampled_from([0.0, 0.5, 0.99]),
    "maximize": st.just(True),
    "zero_grads": st.just(True),
    "groups": st.sampled_from(
        [
            {"*": {"lr": 0.02}},
            {"[0-3]": {"lr": schedules.linear(0, 0.01, steps=4)}, "*[!3]": {"weight_decay": 0.2}},
            {"0": {"clip_value": 0.2, "maximize": False}, "?": {"weight_decay": 0, "lr": 0.03}},
        ]
    ),
    "frozen": st.sampled_from(["0", ["1", "0"], ("[1-9]",)]),
}


def test_every_option_is_tested():
    # They change no number of float32, and have tests of their own.
    apart = {"capturable": False, "statistics": ()}
    apart |= {"master": None, "state_dtype": None, "rounding": None, "seed": 0, "sparse": "lazy"}
    assert options_of(Optimizer) == OPTIONS | apart
    for cls in OPTIMIZERS:
        assert inspect.signature(cls).parameters.keys() >= {*OPTIONS, *apart}
    drawn = set().union(*(names for names, _, _ in TOGETHER.values()))
    together = set().union(*SEVERAL.values())
    assert set(ALONE) == set(OPTIONS) == together == drawn == set(VALUES) - {"lr"}
    assert {*OPTIONS, *apart} <= WRONG.keys()


@pytest.mark.parametrize("several", SEVERAL)
@pytest.mark.parametrize("cls", FEW)
def test_several(cls, several, rng):
    train(Pair(cls, in_every_layout(rng), **SEVERAL[several]), rng)


@pytest.mark.parametrize("several", SEVERAL)
def test_several_of_both_dtypes(several, rng):
    train(Pair(Adam, in_every_layout(rng, DTYPES), **SEVERAL[several]), rng)


@pytest.mark.parametrize("several", SEVERAL)
@pytest.mark.parametrize("cls", FEW)
def test_several_flat(cls, several, rng):
    params = fastoptim.flatten({"b1": random(rng, (7,), F4), "W": random(rng, (5, 9), F4), "s": random(rng, (), F4)})
    pair = Pair(cls, params, **SEVERAL[several])
    for call in range(5):
        grads = flat_like(params, like(rng, params))
        if pair.reference.value("skip_nonfinite") and call % 2:
            grads["W"][2, 1] = np.nan
        pair.update(grads)
        pair.check()


@pytest.mark.parametrize("cls", WITH_REFERENCE)
def test_everything(cls, rng):
    params = in_every_layout(rng)
    pair = Pair(cls, params, **EVERYTHING)
    for call in range(8):
        grads = like(rng, params) | {"b 3": None}
        if call % 4 == 2:
            grads["a 8"][2, 3] = np.nan
        pair.update(grads)
        pair.check()
    assert (pair.opt.iter, pair.opt.skipped) == (2, 2)


@pytest.mark.parametrize("flat", [False, True])
def test_everything_on_several_threads(flat, rng):
    shapes = {"W": (LARGE // 100, 100), "b1": (30,), "Large": (LARGE,), "b2": (LARGE // 4, 5), "s": ()}
    params = {name: random(rng, shape, F4) for name, shape in shapes.items()}
    params = fastoptim.flatten(params) if flat else {**params, "b2": params["b2"].copy("F")}
    pair = Pair(Adam, params, **EVERYTHING)
    for call in range(7):
        grads = like(rng, params)
        if flat:
            grads = flat_like(params, grads)
        if call == 2:
            grads["Large"][-1] = np.nan
        pair.update(grads)
    pair.check()
    assert (pair.opt.iter, pair.opt.skipped) == (2, 1)


kinds = st.sampled_from(["normal"] * 6 + ["none", "zero", "large", "nan"])

arrays = st.tuples(
    st.lists(st.integers(0, 5), max_size=3).map(tuple),
    st.integers(0, 1),
    st.sampled_from([None, None, np.float16, F4, F8]),
    st.sampled_from(sorted(LAYOUTS)),
    st.sampled_from(sorted(LAYOUTS)),
    st.integers(0, 4),
)


def drawn_gradient(data, rng, p, dtype, layout, skips):
    kind = data.draw(kinds)
    if kind == "none":
        return None
    g = LAYOUTS[layout](random(rng, p.shape, dtype or p.dtype))
    if kind in ("zero", "large"):
        g *= {"zero": 0, "large": 1000}[kind]
    elif kind == "nan" and skips and g.size:
        g.flat[data.draw(st.integers(0, g.size - 1))] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    return g


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    together=st.sampled_from(sorted(TOGETHER)),
    described=st.lists(arrays, max_size=5),
    calls=st.integers(1, 8),
    data=st.data(),
)
def test_any_mixture(together, described, calls, data):
    """Arrays that appear at some call, in any order and layout, with gradients of any dtype, None or not finite."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    names, classes, dtypes = TOGETHER[together]
    cls = data.draw(st.sampled_from(classes), label="optimizer")
    options = {name: data.draw(VALUES[name], label=name) for name in sorted(names | {"lr"})}
    if options.keys() & {"groups", "frozen"}:
        described = [((3,), 0, None, "C", "C", 0)] * 2 + described  # so that each pattern has a name
    appearing = {
        str(i): (LAYOUTS[own](random(rng, shape, dtypes[which % len(dtypes)])), call)
        for i, (shape, which, _, own, _, call) in enumerate(described)
    }
    pair = Pair(cls, {}, **options)
    for call in range(calls):
        new = {k: p for k, (p, first) in appearing.items() if first == call}
        pair.params |= new
        pair.reference.add(new)
        skips = pair.reference.value("skip_nonfinite")
        grads = {
            k: drawn_gradient(data, rng, p, described[int(k)][2], described[int(k)][4], skips)
            for k, p in pair.params.items()
        }
        pair.update({k: grads[k] for k in data.draw(st.permutations(list(grads)))})
        pair.check()
