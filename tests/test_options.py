"""The options that every optimizer takes: alone, together, switched while training, against the reference's passes."""

import copy
import inspect
import json
import math

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastoptim
from fastoptim import SGD, Adam, FlatDict, Momentum, schedules
from references import ALONE, EVERYTHING, GROUPS, OPTIONS, SEVERAL, VARIANTS, Reference
from support import DTYPES, LAYOUTS, OPTIMIZERS, assert_close, assert_same_bits, python, random

F4, F8 = np.float32, np.float64
LARGE = 20_000  # elements, for which there are several threads
# Sets of options for drawn values, with the optimizers and dtypes that they are compiled for. Where a sum of gradients
# goes into the norm there is one dtype, as the norm passes the roundings of float32 on to float64.
TOGETHER = {
    "as torch trains": ({"weight_decay", "clip_norm", "skip_nonfinite"}, [Adam], [F4, F8]),
    "as language models are trained": (set(OPTIONS) - {"clip_value", "grad_scale", "maximize", "groups"}, [Adam], [F8]),
    "no norm": (set(OPTIONS) - {"decoupled", "clip_norm", "ema"}, [Adam], [F4]),
    "everything": (set(OPTIONS), OPTIMIZERS, [F4]),
}
VALUES = {
    "lr": st.sampled_from([0.01, 0.05, schedules.linear(0.05, 0, steps=4), schedules.warmup(0.02, steps=2)]),
    "weight_decay": st.sampled_from([0.01, 0.5, schedules.linear(0, 0.5, steps=3)]),
    "decoupled": st.just(True),
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
}


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def threads():
    before = numba.get_num_threads()
    yield numba.set_num_threads
    numba.set_num_threads(before)


class Pair:
    """An optimizer and the reference beside it: what is done to one is done to both."""

    def __init__(self, cls, params, **options):
        self.opt = cls(**{**VARIANTS[cls.__name__][0], **options})
        self.params, self.reference = params, Reference(self.opt, params, options)

    def assign(self, **options):
        for name, value in options.items():
            setattr(self.opt, name, value)
        self.reference.options |= options

    def update(self, grads):
        before = self.reference.iter
        self.reference.update(grads)
        self.stepped = self.reference.iter > before
        assert self.opt.update(self.params, grads) is None
        if self.reference.value("zero_grads"):
            assert all(not g.any() for g in grads.values() if g is not None)

    def check(self):
        """Parameters, state, averages, sums and counts."""
        opt, reference = self.opt, self.reference
        assert (opt.iter, opt.skipped) == (reference.iter, reference.skipped)
        for name, p in self.params.items():
            assert_close(p, reference.params[name], name)
            for slot in opt.slots if name in reference.steps else ():
                assert opt.state[slot][name].dtype == p.dtype
                assert_close(opt.state[slot][name], reference.state[name][slot], f"{slot} {name}")
        self._check_averages()
        saved = opt.state_dict()
        assert saved["calls"] == reference.calls
        assert {name: count for name, count in saved["steps"].items() if count} == reference.steps
        for name, total in saved["gradients"].items():
            assert_close(total, reference.sums.get(name, np.zeros(total.shape)), f"sum of {name}")
        assert set(saved["gradients"]) >= set(reference.sums)
        self._check_norm()

    def _check_averages(self):
        if self.reference.value("ema") is None:
            assert self.opt.ema is None
            return
        averages = self.opt.ema
        assert type(averages) is FlatDict
        assert set(averages) >= set(self.reference.ema)
        for name, average in averages.items():  # one that has not begun may be there already, as the parameter
            assert (average.dtype, average.shape) == (self.params[name].dtype, self.params[name].shape)
            expected = self.reference.ema.get(name, self.reference.params[name])
            assert_close(average, expected, f"average of {name}")

    def _check_norm(self):
        """After a step with clipping: what it is after others is left open."""
        if self.reference.value("clip_norm") is not None and self.stepped:
            assert type(self.opt.grad_norm) is float
            dtype = min((p.dtype for p in self.params.values()), default=np.dtype(F8))
            assert_close(dtype.type(self.opt.grad_norm), self.reference.grad_norm, "norm")


def like(rng, params, dtype=None):
    return {name: random(rng, p.shape, dtype or p.dtype) for name, p in params.items()}


def flat_like(flat, grads):
    gradients = flat.zeros_like()
    for name, g in grads.items():
        gradients[name][...] = g
    return gradients


def in_every_layout(rng, dtypes=(F4,)):
    shapes = [(), (0,), (7,), (3, 5), (2, 3, 4)]
    makers = list(LAYOUTS.values())
    return {
        f"{'ab'[i % 2]} {i}": makers[i % len(makers)](random(rng, shapes[i % len(shapes)], dtypes[i % len(dtypes)]))
        for i in range(len(shapes) * len(makers))
    }


def frozen(value):
    """Something to compare: bytes for arrays, also those in dicts."""
    if isinstance(value, dict):
        return {name: frozen(item) for name, item in value.items()}
    return (value.dtype.str, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


def snapshot(opt, params, grads):
    """All that a call could have changed."""
    state = {slot: dict(views) for slot, views in opt.state.items()}
    ema = None if opt.ema is None else dict(opt.ema)
    return frozen({"p": dict(params), "g": dict(grads), "state": state, "ema": ema, "saved": opt.state_dict(),
                   "counts": (opt.iter, opt.skipped, opt.grad_norm)})  # fmt: skip


def test_every_option_is_tested():
    for cls in OPTIMIZERS:
        signature = inspect.signature(cls).parameters.values()
        options = {x.name: x.default for x in signature if x.kind is x.KEYWORD_ONLY and x.name != "capturable"}
        assert options == OPTIONS
    drawn = set().union(*(names for names, _, _ in TOGETHER.values()))
    together = set().union(*SEVERAL.values())
    assert set(ALONE) == set(OPTIONS) == together == drawn == set(VALUES) - {"lr"} == set(WRONG)


def train(pair, rng):
    """With gradients that are in other orders, of other dtypes, late, missing or, where they are skipped, nan."""
    names = list(pair.params)
    for call in range(7):
        grads = {}
        for i, (name, p) in enumerate(pair.params.items()):
            grads[name] = [*LAYOUTS.values()][(i + call) % 6](random(rng, p.shape, (F4, F4, F8, np.float16)[i % 4]))
        if call < 3:
            grads[names[2]] = None
        grads[names[7 + call]] = None
        if pair.reference.value("skip_nonfinite") and call % 2:
            grads[names[3]][...] = [np.nan, np.inf, -np.inf][call // 2]
        pair.update(grads)
        pair.check()


@pytest.mark.parametrize("option", ALONE)
def test_alone(option, rng):
    train(Pair(Adam, in_every_layout(rng), **ALONE[option]), rng)


@pytest.mark.parametrize("several", SEVERAL)
@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_several(cls, several, rng):
    train(Pair(cls, in_every_layout(rng), **SEVERAL[several]), rng)


@pytest.mark.parametrize("several", SEVERAL)
def test_several_of_both_dtypes(several, rng):
    train(Pair(Adam, in_every_layout(rng, DTYPES), **SEVERAL[several]), rng)


@pytest.mark.parametrize("several", SEVERAL)
@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_several_flat(cls, several, rng):
    params = fastoptim.flatten({"b1": random(rng, (7,), F4), "W": random(rng, (5, 9), F4), "s": random(rng, (), F4)})
    pair = Pair(cls, params, **SEVERAL[several])
    for call in range(5):
        grads = flat_like(params, like(rng, params))
        if pair.reference.value("skip_nonfinite") and call % 2:
            grads["W"][2, 1] = np.nan
        pair.update(grads)
        pair.check()


@pytest.mark.parametrize("cls", OPTIMIZERS)
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


def test_groups_with_both_kinds_of_decay(rng):
    params = in_every_layout(rng)
    groups = {"b*": {"decoupled": True, "weight_decay": 0.2}, "* 2": {"weight_decay": 0}, "* 4": {"clip_value": 0.1}}
    pair = Pair(SGD, params, weight_decay=0.3, groups=groups)
    for _ in range(3):
        pair.update(like(rng, params))
        pair.check()


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
    if "groups" in options:
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


def test_switched_while_training(rng):
    params = in_every_layout(rng)
    pair = Pair(Adam, params)
    for options in (
        {"ema": 0.5},
        {"ema": 0.75, "lr": schedules.linear(0, 0.02, steps=20)},
        {"ema": None, "clip_norm": 0.5, "beta1": schedules.linear(0, 0.9, steps=20)},
        {"clip_norm": 2, "lr": 0.01, "skip_nonfinite": True},
        {"clip_norm": None, "ema": 0.5},
        {"ema": None, "weight_decay": schedules.exponential(1, 0.9)},
        {"decoupled": True, "lr": schedules.step(0.1, steps=9, gamma=0)},
        {"weight_decay": 0, "accumulate": 2, "lr": 0.02, "beta1": 0.5},
        {"accumulate": 1, "zero_grads": True},
        {"zero_grads": False, "maximize": True},
        {"maximize": False, "clip_value": 0.3},
        {"clip_value": None, "decoupled": False, "groups": GROUPS},
        EVERYTHING | {"accumulate": 2},
        {name: value for name, value in OPTIONS.items() if name != "ema"},
    ):
        pair.assign(**options)
        for _ in range(2):
            pair.update(like(rng, params))
            pair.check()


NEUTRAL = [
    {"clip_norm": 1e30, "weight_decay": lambda step: 0.0, "skip_nonfinite": True},
    {"ema": 0.5, "weight_decay": lambda step: 0, "decoupled": True},
    {"grad_scale": 1, "accumulate": 1, "skip_nonfinite": True, "decoupled": True},
    {"groups": {"*": {}}},
    {"groups": {"?": {"lr": 0.05}, "b*": {"maximize": False}}},
    {"lr": lambda step: 0.05},
]
NEUTRAL_FOR_ADAM = [{"clip_norm": 1e30}, {"clip_value": 1e30}, {"zero_grads": True}]


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_what_changes_nothing_leaves_the_very_bits(cls, rng):
    """Also behind a strided array and one in another order than its gradient."""
    start = {"W": random(rng, (13, 5), F4), "b1": LAYOUTS["strided"](random(rng, (9,), F4)), "s": random(rng, (), F4)}
    steps = [like(rng, start) | {"W": random(rng, (13, 5), F4).copy("F")} for _ in range(4)]

    def trained(options):
        params, opt = copy.deepcopy(start), cls(**{"lr": 0.05, **options})
        for grads in copy.deepcopy(steps):
            opt.update(params, grads)
        return frozen({"p": params, **{slot: dict(views) for slot, views in opt.state.items()}})

    expected = trained({})
    for options in NEUTRAL + NEUTRAL_FOR_ADAM * (cls is Adam):
        assert trained(options) == expected, options


def test_powers_of_two_are_exact(rng):
    start, g = random(rng, (50,), F4), random(rng, (50,), F4)
    results = set()
    for factor, calls, options in (
        (1, 1, {}),
        (8, 1, {"grad_scale": 8}),
        (1, 4, {"accumulate": 4}),
        (-0.25, 2, {"grad_scale": 0.25, "accumulate": 2, "maximize": True}),
    ):
        p, opt = start.copy(), Adam(0.1, **options)
        for _ in range(2 * calls):
            opt.update({"p": p}, {"p": g * F4(factor)})
        results.add(p.tobytes())
    assert len(results) == 1


# The step's numbers.


def test_a_schedule_gets_the_number_of_steps_made(rng):
    asked = []
    opt = Adam(lr=lambda step: asked.append(step) or 0.1, accumulate=2, skip_nonfinite=True)
    p = random(rng, (3,), F4)
    for call in range(6):
        opt.update({"p": p}, {"p": np.full(3, np.nan if call == 1 else 1, F4)})
    assert (opt.iter, opt.skipped) == (2, 1)
    assert {0, 1} <= set(asked) <= {0, 1, 2}  # the last one for a step that is yet to come
    assert asked == sorted(asked)
    assert all(type(step) is int for step in asked)
    assert callable(opt.lr)


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_every_number_may_follow_a_schedule(cls, rng):
    options = {"weight_decay": schedules.linear(0, 0.5, steps=3), "clip_norm": 0.7}
    for name, x in inspect.signature(cls).parameters.items():
        if x.kind is not x.KEYWORD_ONLY and type(x.default) is float:
            options[name] = schedules.exponential(VARIANTS[cls.__name__][0].get(name, x.default), 0.5)
    assert "lr" in options
    params = in_every_layout(rng)
    pair = Pair(cls, params, **options)
    for _ in range(4):
        pair.update(like(rng, params))
        pair.check()


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_a_late_name_counts_its_own_steps(cls, rng):
    early, late = random(rng, (6,), F4), random(rng, (6,), F4)
    start = late.copy()
    opt = cls(lr=0.1)
    for _ in range(3):
        opt.update({"early": early, "late": late}, {"early": random(rng, (6,), F4), "late": None})
    assert_same_bits(late, start)
    fresh = cls(lr=0.1)
    for g in random(rng, (6,), F4), None, random(rng, (6,), F4):
        opt.update({"early": early, "late": late}, {"early": random(rng, (6,), F4), "late": g})
        if g is not None:
            fresh.update({"late": start}, {"late": g})
        assert_same_bits(late, start)
    saved = opt.state_dict()
    assert saved["steps"] == {"early": 6, "late": 2}
    for slot in cls.slots:
        assert_same_bits(opt.state[slot]["late"], fresh.state[slot]["late"])


def test_no_gradient_at_all(rng):
    p = random(rng, (4,), F4)
    before, opt = p.copy(), Adam(ema=0.9, clip_norm=1)
    opt.update({"p": p}, {"p": None})
    assert_same_bits(p, before)
    assert opt.iter == 1
    assert opt.grad_norm == 0
    assert not opt.ema
    with pytest.raises(KeyError, match="grads has no 'p'"):
        opt.update({"p": p}, {})


# The norm.


def norm_of(params, grads, **options):
    opt = SGD(lr=1, clip_norm=1e-3, **options)
    opt.update(params, grads)
    return opt.grad_norm


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_norm_has_the_same_bits(dtype, rng, threads):
    shapes = {"W": (300, 211), "b": (7,), "s": (), "none": (0, 3), "large": (50_003,), "T": (33, 4, 65)}
    start = {name: random(rng, shape, dtype) for name, shape in shapes.items()}
    grads = like(rng, start)
    expected = copy.deepcopy(start)
    threads(1)
    norm = norm_of(expected, grads)
    assert norm == pytest.approx(math.hypot(*np.concatenate([g.ravel() for g in grads.values()])), rel=1e-12)

    def check(params, grads, what):
        assert norm_of(params, grads) == norm, what
        for name, p in params.items():
            assert_same_bits(p, expected[name], f"{what}: {name}")

    for count in range(1, numba.config.NUMBA_NUM_THREADS + 1):
        threads(count)
        check(copy.deepcopy(start), grads, f"{count} threads")
    flat = fastoptim.flatten(start)
    check(flat, flat_like(flat, grads), "flat")
    check(fastoptim.flatten(start), grads, "flat parameters")
    for layout, make in LAYOUTS.items():
        others = {name: make(g) for name, g in grads.items()}
        check(copy.deepcopy(start), others, f"gradients {layout}")
        check({name: make(p) for name, p in start.items()}, grads, f"parameters {layout}")
        check({name: make(p) for name, p in start.items()}, others, f"both {layout}")
    check(dict(reversed(copy.deepcopy(start).items())), grads, "reversed names")
    wider = {name: g.astype(F8) for name, g in grads.items()}
    check(copy.deepcopy(start), wider, "float64")


NORM_AND_BITS = """
import numpy as np
import fastoptim
rng = np.random.default_rng(0)
params, grads = ({k: rng.standard_normal(n).astype(np.float32) for k, n in (("a", 70_001), ("b", 3))} for _ in range(2))
opt = fastoptim.SGD(lr=1, clip_norm=0.5)
opt.update(params, grads)
print(opt.grad_norm.hex(), params["a"].tobytes().hex()[-999:])
"""


def test_the_norm_in_a_process_with_more_threads():
    assert len({python(NORM_AND_BITS, NUMBA_NUM_THREADS=n) for n in "15"}) == 1


@pytest.mark.parametrize(("dtype", "size"), [(F4, 1e30), (F8, 1e200)])
@pytest.mark.parametrize("shape", [(1,), (40, 25), (LARGE + 3,)])
def test_the_norm_does_not_overflow(dtype, size, shape):
    for layout in "C", "strided":
        p, g = np.zeros(shape, dtype), LAYOUTS[layout](np.full(shape, size, dtype))
        opt = SGD(lr=1, clip_norm=1)
        opt.update({"p": p}, {"p": g})
        n = math.prod(shape)
        assert_close(dtype(opt.grad_norm), float(g.flat[0]) * math.sqrt(n))
        assert_close(p, np.full(shape, -1 / math.sqrt(n)))


def test_the_norm_of_what_is_not_finite(rng):
    p = np.zeros(3, F4)
    opt = SGD(lr=1, clip_norm=1)
    opt.update({"p": p}, {"p": np.array([1, -np.inf, 2], F4)})
    assert opt.grad_norm == math.inf
    assert (p[::2] == 0).all()  # a finite number by an infinite one
    opt.update({"p": np.zeros(3, F4)}, {"p": np.array([1, np.nan, np.inf], F4)})
    assert math.isnan(opt.grad_norm)
    opt.update({"p": np.zeros(3, F4)}, {"p": np.zeros(3, F4)})
    assert opt.grad_norm == 0


def test_the_norm_is_that_of_the_mean_unscaled(rng):
    g = random(rng, (100,), F4)
    opt = Adam(**{**EVERYTHING, "accumulate": 2, "grad_scale": 4, "groups": None})
    assert opt.grad_norm is None
    p = np.zeros(100, F4)
    opt.update({"p": p}, {"p": g.copy()})
    assert opt.iter == 0
    opt.update({"p": p}, {"p": F4(3) * g})
    assert opt.grad_norm == pytest.approx(np.linalg.norm(g) / 2, rel=1e-6)


def test_clip_value_leaves_nan(rng):
    p, g = np.zeros(4, F4), np.array([np.nan, np.inf, -np.inf, 0.125], F4)
    Adam(lr=1, eps=0, clip_value=0.5).update({"p": p}, {"p": g})
    np.testing.assert_array_equal(np.sign(p), np.array([np.nan, -1, 1, -1], F4))
    assert np.isfinite(p[1:]).all()


# Skipped calls and sums of several.


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_a_skipped_call_changes_nothing(cls, rng):
    params = in_every_layout(rng)
    opt = cls(**EVERYTHING)
    for call in range(4):
        for name in ("a 2", "b 3", "a 4")[: 3 - call]:  # none of them in the last call
            bad = like(rng, params)
            bad[name].flat[-1] = np.inf
            zeroed = {key: np.zeros_like(g) for key, g in bad.items()}
            before, skipped = snapshot(opt, params, zeroed), opt.skipped
            opt.update(params, bad)
            assert opt.skipped == skipped + 1
            after = snapshot(opt, params, bad)
            for counts in before, after:
                del counts["counts"], counts["saved"]["skipped"]
            assert after == before
        opt.update(params, like(rng, params))
    assert (opt.iter, opt.skipped) == (1, 6)


@pytest.mark.parametrize("size", [3, LARGE])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_bad_number_anywhere_is_found(layout, size):
    p, opt = np.zeros((size, 2), F4), SGD(skip_nonfinite=True)
    for place in 0, size, 2 * size - 1:
        for bad in np.nan, np.inf, -np.inf:
            g = np.ones((size, 2), F4)
            g.flat[place] = bad
            opt.update({"q": np.zeros(1), "p": p}, {"q": np.ones(1), "p": LAYOUTS[layout](g)})
    assert (opt.iter, opt.skipped) == (0, 9)
    assert not p.any()


def test_what_overflows_in_the_parameters_dtype_is_skipped():
    opt, p = SGD(skip_nonfinite=True), np.zeros(2, F4)
    opt.update({"p": p}, {"p": np.array([1, 1e300])})
    opt.update({"p": p}, {"p": np.array([1, 1e30])})
    assert (opt.iter, opt.skipped) == (1, 1)


def test_others_gradients_are_not_looked_at():
    opt, p = Adam(skip_nonfinite=True, zero_grads=True), np.zeros(2, F4)
    grads = {"p": np.ones(2, F4), "other": np.full(2, np.nan, F4)}
    opt.update({"p": p}, grads)
    assert (opt.iter, opt.skipped) == (1, 0)
    assert np.isnan(grads["other"]).all()


def test_a_sum_over_several_calls_takes_each_calls_scale(rng):
    params = {"p": random(rng, (9,), F4), "late": random(rng, (4,), F4)}
    pair = Pair(Adam, params, accumulate=3, skip_nonfinite=True)
    for call, scale in enumerate([1024, 512, 256, 2048, 4, 4, 4]):
        pair.assign(grad_scale=scale)
        grads = {name: g * F4(scale) for name, g in like(rng, params).items()}
        grads["late"] = None if call % 3 != 1 else grads["late"]
        if call == 2:
            grads["p"][0] = np.inf
        pair.update(grads)
        pair.check()
    assert (pair.opt.iter, pair.opt.skipped) == (2, 1)


def test_a_sum_does_not_share_memory_with_gradients(rng):
    p, g = random(rng, (9,), F4), random(rng, (9,), F4)
    theirs, opt, twin = p.copy(), Adam(accumulate=2), Adam(accumulate=2)
    given = g.copy()
    opt.update({"p": p}, {"p": given})
    twin.update({"p": theirs}, {"p": g})
    given[...] = 77
    opt.update({"p": p}, {"p": g})
    twin.update({"p": theirs}, {"p": g})
    assert_same_bits(p, theirs)


# Zeroed gradients.


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float16, F4, F8])
def test_gradients_are_zeroed_in_place(layout, dtype, rng):
    p, g = random(rng, (9, 7), F4), LAYOUTS[layout](random(rng, (9, 7), dtype))
    grads = {"p": g, "other": np.ones(3, F4)}
    opt = Adam(zero_grads=True)
    for _ in range(2):
        opt.update({"p": p}, grads)
        assert grads["p"] is g
        assert not g.any()
        assert not np.signbit(g).any()
        assert (grads["other"] == 1).all()
        g[...] = random(rng, (9, 7), dtype)


def test_nothing_around_a_gradient_is_zeroed():
    room = np.ones((8, 6), F4)
    params = {"even": np.zeros((4, 3), F4), "column": np.zeros(8, F4)}
    Adam(zero_grads=True).update(params, {"even": room[::2, ::2], "column": room[:, 5]})
    expected = np.ones((8, 6), F4)
    expected[::2, ::2] = expected[:, 5] = 0
    assert_same_bits(room, expected)


def test_gradients_are_zeroed_in_every_call(rng):
    params = {"p": random(rng, (50,), F4), "q": LAYOUTS["strided"](random(rng, (5,), F4))}
    opt = Adam(zero_grads=True, accumulate=2, skip_nonfinite=True)
    for call in range(5):
        grads = like(rng, params) | {"q": None if call == 0 else random(rng, (5,), (np.float16, F8)[call % 2])}
        if call in (1, 2):
            grads["p"][7] = np.nan
        opt.update(params, grads)
        assert not grads["p"].any()
        assert not np.any(grads["q"])
    assert (opt.iter, opt.skipped) == (1, 2)


def test_flat_gradients_are_zeroed(rng):
    params = fastoptim.flatten({"p": random(rng, (50,), F4), "q": random(rng, (5,), F4)})
    opt, grads = Adam(zero_grads=True), params.zeros_like()
    for _ in range(3):
        for g in grads.values():
            g[...] = 1
        opt.update(params, grads)
        assert not any(buffer.any() for buffer in grads.arrays)


def test_gradients_of_torch_are_zeroed():
    torch = pytest.importorskip("torch", reason="takes gradients of torch, which is not installed")
    g = torch.ones(4)
    Adam(zero_grads=True).update({"p": np.zeros(4, F4)}, {"p": g})
    assert not g.any()


# Averages.


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
    before, averages = snapshot(opt, params, {}), frozen(dict(opt.ema))
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
    assert frozen(dict(opt.ema)) == frozen(dict(twin.ema))


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
    assert_same_bits(inside(opt, only, only["q"].copy), opt.ema["q"])


def read_only(a):
    a.flags.writeable = False
    return a


def test_averages_within_averages(rng):
    params = {"p": random(rng, (3,), F4)}
    opt = trained(rng, params)
    before = snapshot(opt, params, {})
    with opt.averaged(params):
        with pytest.raises(RuntimeError, match="averaged"):
            inside(opt, params)
        assert_same_bits(params["p"], opt.ema["p"])
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
    assert type(opt.ema) is FlatDict
    assert not opt.ema
    assert "ema=0.5" in repr(opt)
    opt.update(params, like(rng, params))
    assert {name: (a.shape, a.dtype) for name, a in opt.ema.items()} == {"p": ((3, 2), F4), "q": ((3,), F8)}
    opt.ema["p"][...] = 3  # a view
    assert (opt.ema["p"] == 3).all()
    opt.ema = 0.25
    assert (opt.ema["p"] == 3).all()
    with pytest.raises(ValueError, match=r"ema: expected .*got 1"):
        opt.ema = 1
    assert opt.state_dict()["hyperparameters"]["ema"] == 0.25
    opt.ema = None
    assert opt.ema is None
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
        assert_close(opt.ema[name], average, name)


@pytest.mark.parametrize("first", [1, np.nan])
def test_the_average_starts_where_the_first_step_does(first, rng):
    """And not at a call before that made no step, after which the parameters were set to something else."""
    p = random(rng, (4,), F4)
    opt = Adam(**{**EVERYTHING, "lr": 0, "ema": 0.5, "groups": None, "accumulate": 2 if first == 1 else 1})
    opt.update({"p": p}, {"p": np.full(4, first, F4)})
    p[...] = 8
    opt.update({"p": p}, {"p": np.ones(4, F4)})
    assert opt.iter == 1
    assert (opt.ema["p"] == 8).all()


@pytest.mark.parametrize("options", [{}, {**EVERYTHING, "groups": None}], ids=["averages", "everything"])
@pytest.mark.parametrize("cls", [SGD, Adam])
def test_other_arrays_in_another_order_go_on_with_averages_and_sums(cls, options, rng):
    start = {"W": random(rng, (3, 4), F4), "b": random(rng, (2, 3, 4), F4)}
    pair = Pair(cls, start, **options)
    for call, layout in enumerate(("C", "F", "strided", "axes moved", "C", "reversed", "F")):
        pair.params = {name: LAYOUTS[layout](p) for name, p in pair.params.items()}
        if call == 1:
            pair.assign(ema=0.5)
        pair.update({name: LAYOUTS["F" if call % 3 else "C"](g) for name, g in like(rng, start).items()})
        pair.check()


# Groups.


def test_groups_by_any_name(rng):
    params = {name: random(rng, (4,), F4) for name in (3, "3x", ("a", 1), "X")}
    groups = {"3": {"lr": 0.5}, "('a', ?)": {"lr": 0.25}, "x": {"lr": 9}, "*": {"lr": 0}}
    start, grads = copy.deepcopy(params), like(rng, params)
    with pytest.raises(ValueError, match=r"groups.*'x'"):
        SGD(lr=1, groups=groups).update(params, grads)
    del groups["x"]
    SGD(lr=1, groups=groups).update(params, grads)
    rates = {3: 0.5, ("a", 1): 0.25, "3x": 0, "X": 0}
    for name, p in params.items():
        assert_same_bits(p, start[name] - F4(rates[name]) * grads[name], str(name))


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_each_hyperparameter_of_a_group(cls, rng):
    """A group's names go as with an optimizer of their own: bit for bit."""
    values = [{name: value} for name, value in VARIANTS[cls.__name__][0].items()] + [{"lr": lambda step: 0.1 * step}]
    if cls is Adam:
        values += [ALONE[name] for name in ("weight_decay", "decoupled", "clip_value", "maximize")]
    for group in values:
        params, grads = ({name: random(rng, (6,), F4) for name in ("a1", "b1")} for _ in range(2))
        expected = copy.deepcopy(params)
        opt = cls(lr=0.05, groups={"a*": group, "a1": {"lr": 5}})
        alone = {"a1": cls(**{"lr": 0.05, **group}), "b1": cls(lr=0.05)}
        for _ in range(3):
            opt.update(params, grads)
            for name, p in expected.items():
                alone[name].update({name: p}, {name: grads[name]})
        for name, p in expected.items():
            assert_same_bits(params[name], p, f"{group} {name}")


# Refused.

WRONG = {
    "weight_decay": [-1, math.nan, math.inf, "0.1", None, [0.1]],
    "decoupled": [2, "yes", None, lambda step: True],
    "clip_norm": [0, -1, math.nan, math.inf, "1", [1.0], lambda step: 1.0],
    "clip_value": [0, -1, math.nan, math.inf, "1", [1.0], lambda step: 1.0],
    "grad_scale": [0, -2, math.nan, math.inf, "1", None, lambda step: 1.0],
    "skip_nonfinite": [2, "yes", None],
    "accumulate": [0, -1, 1.5, math.nan, "2", None, lambda step: 1],
    "ema": [1, 1.5, -0.1, math.nan, "0.9", lambda step: 0.9],
    "maximize": [2, "yes", None],
    "zero_grads": [2, "yes", None],
    "groups": [3, "W", [("W", {})], {"W": 3}, {"W": None}, {3: {"lr": 0.1}}],
}


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_wrong_options_are_refused_by_name(cls):
    for name, values in WRONG.items():
        for value in values:
            with pytest.raises(ValueError, match=f"{name}.*: expected .*got"):
                cls(**{name: value})
            opt = cls(**ALONE[name])
            kept = opt.state_dict()["hyperparameters"]
            with pytest.raises(ValueError, match=f"{name}.*: expected .*got"):
                setattr(opt, name, value)
            assert opt.state_dict()["hyperparameters"] == kept


def test_options_are_attributes():
    opt = Adam()
    for name, default in OPTIONS.items():
        assert getattr(opt, name) == default
        for option, value in ALONE[name].items():
            setattr(opt, option, value)
            if option != "ema":
                assert getattr(opt, option) == value
    assert json.loads(json.dumps(opt.state_dict()["hyperparameters"]))["ema"] == ALONE["ema"]["ema"]


NOT_IN_GROUPS = ("clip_norm", "accumulate", "ema", "grad_scale", "skip_nonfinite", "zero_grads", "groups", "capturable",
                 "learning_rate", "momentum", "rule", "iter", 5)  # fmt: skip
WRONG_GROUPS = [{name: 1} for name in NOT_IN_GROUPS] + [
    {"lr": -1},
    {"lr": None},
    {"beta1": 1.0},
    {"eps_hat": 3},
    {"weight_decay": math.nan},
    {"decoupled": "no"},
    {"clip_value": 0},
    {"lr": 0.1, "maximize": 5},
]


@pytest.mark.parametrize("group", WRONG_GROUPS, ids=str)
def test_wrong_groups_name_the_pattern_and_the_key(group):
    words = rf"groups.*'W\*'.*{list(group)[-1]}"
    with pytest.raises(ValueError, match=words):
        Adam(groups={"b": {"lr": 0.1}, "W*": group})
    opt = Adam(groups=GROUPS)
    with pytest.raises(ValueError, match=words):
        opt.groups = {"W*": group}
    assert opt.groups == GROUPS


def test_a_pattern_without_a_name(rng):
    params = {"W": random(rng, (3,), F4)}
    grads = like(rng, params)
    opt = Adam(groups={"W": {"lr": 0.1}, "w": {"lr": 0.5}})
    before = snapshot(opt, params, grads)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"groups.*'w'"):
            opt.update(params, grads)
        assert snapshot(opt, params, grads) == before
    opt.update({**params, "w": np.ones(2, F4)}, {**grads, "w": None})  # from now on it may be away
    opt.update(params, grads)
    opt.groups = {"v": {"lr": 0.5}}
    before = snapshot(opt, params, grads)
    with pytest.raises(ValueError, match=r"groups.*'v'"):
        opt.update(params, grads)
    assert snapshot(opt, params, grads) == before


def failing(step):
    raise ZeroDivisionError("no rate today")


BAD = {
    "negative": ({"lr": lambda step: -1.0}, ValueError, "lr.*: expected .*got -1"),
    "nan": ({"lr": lambda step: math.nan}, ValueError, "lr.*: expected .*got nan"),
    "infinite": ({"weight_decay": lambda step: math.inf}, ValueError, "weight_decay.*: expected .*got inf"),
    "text": ({"lr": lambda step: "0.1"}, ValueError, "lr.*: expected .*got '0.1'"),
    "nothing": ({"eps": lambda step: None}, ValueError, "eps.*: expected .*got None"),
    "one": ({"beta1": lambda step: 1}, ValueError, "beta1.*: expected .*got 1"),
    "in a group": ({"groups": {"b": {"lr": lambda step: -0.5}}}, ValueError, "lr.*: expected .*got -0.5"),
    "raises": ({"lr": failing}, ZeroDivisionError, "no rate today"),
}


@pytest.mark.parametrize("calls", [1, 3])
@pytest.mark.parametrize("case", BAD)
def test_a_schedules_wrong_value_changes_nothing(case, calls, rng):
    options, error, words = BAD[case]
    params = {"W": random(rng, (3, 4), F4), "b": LAYOUTS["strided"](random(rng, (4,), F4))}
    opt = Adam(**{**EVERYTHING, "accumulate": 2, "groups": None})
    for _ in range(calls):
        opt.update(params, like(rng, params))
    grads, before = like(rng, params), {name: getattr(opt, name) for name in options}
    expected = snapshot(opt, params, grads)
    for name, value in options.items():
        setattr(opt, name, value)
    with pytest.raises(error, match=words):
        opt.update(params, grads)
    for name, value in before.items():
        setattr(opt, name, value)
    assert snapshot(opt, params, grads) == expected
    opt.update(params, grads)
    assert opt.iter == (calls + 1) // 2


@pytest.mark.parametrize("options", [{"zero_grads": True}, {"zero_grads": True, "accumulate": 3}])
@pytest.mark.parametrize("case", ["read-only", "twice", "itself", "another's", "overlapping", "scalar"])
def test_gradients_that_cannot_be_zeroed(case, options, rng):
    room = random(rng, (40,), F4)
    params = {"W": random(rng, (3, 4), F4), "b": random(rng, (12,), F4), "s": np.ones((), F4)}
    grads = {"W": room[:12].reshape(3, 4), "b": room[20:32], "s": np.ones((), F4)}
    opt = Adam(**options)
    opt.update(params, grads)
    room[...] = 1
    bad = {
        "read-only": {"b": read_only(np.ones(12, F4))},
        "twice": {"b": grads["W"].reshape(12)},
        "itself": {"b": params["b"]},
        "another's": {"b": params["W"].reshape(12)},
        "overlapping": {"b": room[11:23]},
        "scalar": {"s": F4(1)},
    }[case]
    name = next(iter(bad))
    given = {**grads, **bad}
    before = snapshot(opt, params, given)
    with pytest.raises(ValueError, match=rf"grads\['{name}'\]"):
        opt.update(params, given)
    assert snapshot(opt, params, given) == before
    opt.update(params, grads)
    opt.zero_grads = False
    if case != "another's":
        opt.update(params, given)


@pytest.mark.parametrize("what", ["missing", "shape", "dtype", "read-only", "shared"])
@pytest.mark.parametrize("trained", [False, True])
def test_a_bad_call_changes_nothing_with_every_option_on(what, trained, rng):
    params = {"W": random(rng, (3, 4), F4), "b": LAYOUTS["strided"](random(rng, (4,), F4)), "b0": np.ones((), F4)}
    opt = Adam(**EVERYTHING)
    for _ in range(5 if trained else 0):
        opt.update(params, like(rng, params))
    grads, given = like(rng, params), dict(params)
    if what == "missing":
        del grads["b"]
    elif what == "shape":
        grads["b"] = np.ones(3)
    elif what == "dtype":
        grads["b"] = np.ones(4, int)
    elif what == "read-only":
        given["b"] = read_only(np.ones(4, F4))
    else:
        given["b0"] = given["W"][1, 1:2].reshape(())
    before = snapshot(opt, given, grads)
    with pytest.raises((KeyError, ValueError, TypeError), match=r"'b0?'"):
        opt.update(given, grads)
    assert snapshot(opt, given, grads) == before
    opt.update(params, like(rng, params))


# The reference itself, against torch.

TORCH = {
    "Adam": (Adam(0.1, 0.8, 0.9, 1e-8, False), {"weight_decay": 0.2, "maximize": True}, {"betas": (0.8, 0.9)}),
    "AdamW": (Adam(0.1, 0.8, 0.9, 1e-8, False), {"weight_decay": 0.2, "decoupled": True}, {"betas": (0.8, 0.9)}),
    "SGD": (Momentum(0.1, 0.8), {"weight_decay": 0.2, "maximize": True}, {"momentum": 0.8}),
}


@pytest.mark.parametrize("case", TORCH)
def test_the_reference_is_what_torch_does(case, rng):
    """Sums of gradients with some missing, their norm, clipping, decay, groups, averages."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    opt, options, arguments = TORCH[case]
    params = {name: random(rng, shape, F8) for name, shape in (("W", (7, 5)), ("b", (5,)), ("s", ()))}
    groups = {"W": {"lr": 0.3, "weight_decay": 0.1}}
    reference = Reference(opt, params, {**options, "groups": groups, "clip_norm": 0.5, "clip_value": 0.1, "ema": 0.9,
                                        "accumulate": 3, "grad_scale": 4})  # fmt: skip
    tensors = {name: torch.tensor(p, requires_grad=True) for name, p in params.items()}
    averages = {name: torch.tensor(p) for name, p in params.items()}
    arguments = {**arguments, "lr": 0.1, "weight_decay": 0.2, "maximize": options.get("maximize", False)}
    peer = getattr(torch.optim, case)(
        [{"params": [tensors["W"]], **groups["W"]}, {"params": [tensors["b"], tensors["s"]]}], **arguments
    )
    for step in range(4):
        peer.zero_grad()
        for call in range(3):
            grads = {name: random(rng, p.shape, F8) for name, p in params.items()}
            if step == 1 or call == 1:
                grads["b"] = None
            reference.update(grads)
            for name, g in grads.items():
                if g is not None:
                    sum_so_far = 0 if tensors[name].grad is None else tensors[name].grad
                    tensors[name].grad = sum_so_far + torch.tensor(g) / 4 / 3
        norm = torch.nn.utils.clip_grad_norm_(tensors.values(), 0.5)
        assert_close(np.asarray(reference.grad_norm), norm.item())
        torch.nn.utils.clip_grad_value_(tensors.values(), 0.1)
        peer.step()
        for name, tensor in tensors.items():
            if tensor.grad is not None:
                averages[name].lerp_(tensor.detach(), 0.1)
    assert reference.steps == {"W": 4, "b": 3, "s": 4}
    for name, tensor in tensors.items():
        assert_close(tensor.detach().numpy(), reference.params[name], name)
        assert_close(averages[name].numpy(), reference.ema[name], name)


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
        assert_same_bits(np.ascontiguousarray(one.ema["W"]), np.ascontiguousarray(two.ema["W"]))
        assert_same_bits(turned["W"], columns["W"])
