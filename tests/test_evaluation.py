"""Parameters to evaluate with that an optimizer computes itself, and `averaged`, which puts them into place."""

import copy
import re

import numpy as np
import pytest

import fastoptim
from fastoptim import ASGD, SGD, Number, Optimizer, nonnegative, rule, schedules
from internals import has_state
from references import Reference
from support import (
    DTYPES,
    LAYOUTS,
    OPTIMIZERS,
    assert_close,
    assert_same_bits,
    frozen,
    like,
    random,
    read_only,
    snapshot,
)
from variants import VARIANTS

F4, F8 = np.float32, np.float64
SHAPES = {"W": (5, 6), "b": (4,), "s": (), "none": (0, 2), "slow": (3,)}


@rule
def summed(p, g, total, lr):
    return p - lr * g, total + p


@rule
def combined(p, g, total, part, lr, carry, t):
    return part * total + lr * p + carry * g + t


class Combined(Optimizer):
    """Its evaluation parameters are `part * total + (lr + carry) * p + t`: with numbers of every origin."""

    rule, slots, evaluation = summed, ("total",), combined
    carry = 0.0
    lr: Number = nonnegative(0.1)
    part: Number = nonnegative(0.5)

    def next_carry(self, t):
        return self.carry + self.lr

    def scalars(self, t):
        return (self.lr,)

    def evaluation_scalars(self, t):
        return self.part, self.lr, self.carry, float(t)


RATES = schedules.linear(0.1, 0.5, steps=4)
SLOW = schedules.linear(0.2, 0.4, steps=2)
OPTIONS = {"lr": RATES, "groups": {"slow": {"part": 0.25, "lr": SLOW}}}


class Twin:
    """What `Combined` holds, in NumPy."""

    def __init__(self, params):
        self.params = {name: np.array(p, F8) for name, p in params.items()}
        self.total, self.carry, self.steps = (dict.fromkeys(params, 0.0) for _ in range(3))
        self.rates = {}

    def update(self, grads):
        step = max(self.steps[name] for name, g in grads.items() if g is not None)
        for name, g in grads.items():
            if g is not None:
                self.rates[name] = rate = (SLOW if name == "slow" else RATES)(step)
                self.total[name] = self.total[name] + self.params[name]
                self.params[name] = self.params[name] - rate * g
                self.carry[name] += rate
                self.steps[name] += 1

    def evaluated(self, name, step):
        """With the numbers of the last step of all names, but its own count and carry."""
        p, part, rate = self.params[name], *((0.25, SLOW(step)) if name == "slow" else (0.5, RATES(step)))
        if not self.steps[name]:
            return p
        return part * self.total[name] + (rate + self.carry[name]) * p + self.steps[name]


def arrays(rng, dtype, layout):
    start = {name: random(rng, shape, dtype) for name, shape in SHAPES.items()}
    return fastoptim.flatten(start) if layout == "flat" else {k: LAYOUTS[layout](p) for k, p in start.items()}


def inside(opt, params, action=lambda: None):
    with opt.averaged(params):
        return action()


def held(opt, params):
    return inside(opt, params, lambda: {name: np.array(p) for name, p in params.items()})


def trained(rng, params, cls=Combined, **options):
    opt = cls(**options)
    for _ in range(3):
        opt.update(params, like(rng, params))
    return opt


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", [*LAYOUTS, "flat"])
def test_in_every_layout(layout, dtype, rng):
    params = arrays(rng, dtype, layout)
    opt, twin = Combined(**OPTIONS), Twin(params)
    for step in range(4):
        grads = like(rng, params) | ({"b": None} if step in (0, 1, 3) else {})
        opt.update(params, grads)
        twin.update(grads)
        before, objects = snapshot(opt, params), dict(params)
        for _ in range(2):
            with opt.averaged(params):
                assert opt.is_averaged
                for name, p in params.items():
                    assert p is objects[name]
                    assert_close(p, twin.evaluated(name, step), f"{name} after step {step}")
            assert not opt.is_averaged
            assert snapshot(opt, params) == before


def test_both_dtypes_at_once_as_a_list_and_a_part_of_them(rng):
    params = [random(rng, (3, 2), F4), random(rng, (70, 300), F8), random(rng, (4,), F4)]
    opt = trained(rng, dict(enumerate(params)))
    expected = held(opt, dict(enumerate(params)))
    before = frozen(dict(enumerate(params)))
    with opt.averaged(params):
        for i, p in enumerate(params):
            assert_same_bits(p, expected[i])
    assert frozen(dict(enumerate(params))) == before
    with opt.averaged({1: params[1]}):
        assert_same_bits(params[1], expected[1])
        assert frozen({0: params[0]}) == {0: before[0]}
    assert frozen(dict(enumerate(params))) == before


def test_the_parameters_come_back_to_the_bit_also_after_an_error(rng):
    params = {"p": random(rng, (3,), F4), "new": random(rng, (2,), F4)}
    opt = trained(rng, {"p": params["p"]})
    params["p"].view(np.uint32)[0] = 0x7FC0BEEF  # a nan with a payload
    before = snapshot(opt, params)

    def fail():
        params["p"][...] = params["new"][...] = 7
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inside(opt, params, fail)
    assert snapshot(opt, params) == before
    assert not opt.is_averaged


def test_without_a_step_they_are_the_parameters(rng):
    params = {"p": random(rng, (3,), F4), "late": random(rng, (2, 2), F4)}
    opt = Combined()
    before = frozen(params)
    with opt.averaged(params):
        assert frozen(params) == before
        with pytest.raises(RuntimeError, match="averaged"):
            opt.update(params, params)
    assert not has_state(opt)
    opt.update(params, {"p": params["p"].copy(), "late": None})
    before = frozen(params)
    with opt.averaged(params):
        assert frozen({"late": params["late"]}) == {"late": before["late"]}
        assert frozen(params) != before


def test_nothing_is_done_meanwhile(rng, tmp_path):
    params = {"p": random(rng, (3,), F4)}
    opt = trained(rng, params)
    before, saved = snapshot(opt, params), opt.state_dict()
    with opt.averaged(params):
        for action in (
            lambda: opt.update(params, like(rng, params)),
            lambda: inside(opt, params),
            lambda: opt.load_state_dict(saved),
            lambda: fastoptim.save(tmp_path / "file", params, opt),
        ):
            with pytest.raises(RuntimeError, match="average"):
                action()
        fastoptim.save(tmp_path / "file", params)
        published = params["p"].copy()
    assert snapshot(opt, params) == before
    assert_same_bits(fastoptim.load(tmp_path / "file").params["p"], published)
    assert opt.averages is None


def test_arrays_that_are_refused(rng):
    params = {"p": random(rng, (3,), F4), "q": random(rng, (2, 3), F4)}
    opt = trained(rng, params)
    whole = np.zeros(6, F4)
    for other, error, words in (
        ({"q": np.zeros((3, 2), F4)}, ValueError, r"q.*\(3, 2\)"),
        ({"q": np.zeros((2, 3))}, TypeError, "q.*float64"),
        ({"q": np.zeros((2, 3), F4).tolist()}, TypeError, "q.*list"),
        ({"q": read_only(np.zeros((2, 3), F4))}, ValueError, "q.*read-only"),
        ({"late": read_only(np.zeros(2, F4))}, ValueError, "late.*read-only"),
        ({"p": whole[:3], "q": whole.reshape(2, 3)}, ValueError, "p.*q.*share memory"),
        ({"late": np.zeros(2, int)}, TypeError, "late.*int64"),
    ):
        given = {**params, **other}
        before = snapshot(opt, params)
        with pytest.raises(error, match=words):
            inside(opt, given)
        assert snapshot(opt, params) == before
        assert not opt.is_averaged
    with pytest.raises(TypeError, match="params: expected a mapping"):
        inside(opt, params["p"])


def test_amid_a_sum_of_gradients(rng):
    params = {"p": random(rng, (3,), F4)}
    opt = trained(rng, params, accumulate=2)
    assert opt.iter == 1
    twin, theirs = copy.deepcopy(opt), copy.deepcopy(params)
    assert_close(held(opt, params)["p"], 0.5 * opt.state["total"]["p"] + 0.2 * params["p"] + 1)
    grads = like(rng, params)
    opt.update(params, grads)
    twin.update(theirs, grads)
    assert snapshot(opt, params) == snapshot(twin, theirs)


def test_options_have_no_part_in_it(rng):
    """Not even those of groups: they are of steps."""
    params = {"W": random(rng, (3,), F4), "b": random(rng, (2,), F4)}
    groups = {"b": {"weight_decay": 0.5, "clip_value": 1e-3, "maximize": True}}
    options = {"weight_decay": schedules.constant(0.1), "clip_norm": 0.1, "clip_value": 0.01, "grad_scale": 4.0}
    opt = trained(rng, params, **options, decoupled=True, zero_grads=True, skip_nonfinite=True, groups=groups)
    for name, x in held(opt, params).items():
        assert_close(x, 0.5 * opt.state["total"][name] + 0.4 * params[name] + 3, name)


WRONG = [(), (0.1, 0.2, 0.3), (0.1, 0.2, 0.3, "1"), None, (0.1, 0.2, 0.3, 1e300)]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_wrong_numbers_are_refused(wrong, rng):
    class Wrong(Combined):
        def evaluation_scalars(self, t):
            return wrong

    params = {"p": random(rng, (3,), F4)}
    opt = trained(rng, params, Wrong)
    before = snapshot(opt, params)
    with pytest.raises(ValueError, match=r"Wrong\.evaluation_scalars: expected 4 floats \(part, lr, carry, t\), got"):
        inside(opt, params)
    assert snapshot(opt, params) == before
    assert not opt.is_averaged


def test_a_rule_that_returns_the_state_is_refused(rng):
    @rule
    def both(p, g, total):
        return total, total

    class Both(Combined):
        evaluation = both

    params = {"p": random(rng, (3,), F4)}
    opt = trained(rng, params, Both)
    before = snapshot(opt, params)
    with pytest.raises(TypeError, match=r"both.*expected 1 x float32.*Return p alone"):
        inside(opt, params)
    assert snapshot(opt, params) == before


def test_classes_that_declare_them_wrongly():
    with pytest.raises(TypeError, match=r"Wrong\.evaluation: its slots are \('total',\), but its rule has"):

        class Wrong(Combined):
            evaluation = rule(lambda p, g, other: other)

    with pytest.raises(TypeError, match=r"Undeclared\.evaluation: its rule .* is not declared"):

        class Undeclared(Combined):
            evaluation = staticmethod(lambda p, g, total: total)

    with pytest.raises(TypeError, match=r"Other\.evaluation: its slots are \(\), but its rule has|Other\.evaluation"):

        class Other(Combined):  # other slots, for which the evaluation of the base class is none
            rule, slots = SGD.rule, ("lr",)


def test_a_subclass_has_them_too_unless_it_says_no(rng):
    class Fast(Combined):
        lr = 0.5

    class Plain(Combined):
        evaluation = None

    params = {"p": random(rng, (3,), F4)}
    opt = trained(rng, params, Fast)
    assert_close(held(opt, params)["p"], 0.5 * opt.state["total"]["p"] + 2 * params["p"] + 3)
    with pytest.raises(RuntimeError, match="there are no averages, expected ema"):
        inside(trained(rng, params, Plain), params)
    opt = trained(rng, params, Plain, ema=0.5)
    assert_same_bits(held(opt, params)["p"], opt.averages["p"])


AVERAGING = [cls for cls in OPTIMIZERS if cls.evaluation is not None]


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(("cls", "variant"), [(cls, x) for cls in AVERAGING for x in ({}, *VARIANTS[cls.__name__])])
def test_those_of_the_formula(cls, variant, flat, rng):
    """Of every optimizer that has some: its formula in `references.py` has them in its state, as x."""
    params = {name: random(rng, shape, F8) for name, shape in SHAPES.items()}
    params = fastoptim.flatten(params) if flat else params
    opt = cls(**variant)
    reference = Reference(opt, params)
    for step in range(6):
        grads = like(rng, params)
        if not flat:
            grads |= {"slow": None} if step < 2 else {"b": None} if step == 3 else {}
        reference.update(grads)
        opt.update(params, grads)
        for name, x in held(opt, params).items():
            assert_close(x, reference.state[name].get("x", reference.params[name]), f"{name} after step {step}")
    if cls is not ASGD or variant:  # whose defaults average after a million steps
        assert any((x != params[name]).any() for name, x in held(opt, params).items())


OPTIONS_BESIDE = [("cautious", True), ("bounds", (0, 1)), ("nonnegative", True), ("ema", 0.9)]


@pytest.mark.parametrize(("name", "value"), OPTIONS_BESIDE)
@pytest.mark.parametrize("cls", [Combined, *AVERAGING])
def test_options_that_are_refused_beside_them(cls, name, value):
    opt = cls()
    default = getattr(opt, name)
    setattr(opt, name, default)
    expected = rf"{name}: expected {default}, as .*averaged.*, got {re.escape(repr(value))}"
    with pytest.raises(ValueError, match=expected):
        cls(**{name: value})
    with pytest.raises(ValueError, match=expected):
        setattr(opt, name, value)
    assert getattr(opt, name) == default
    saved = opt.state_dict()
    saved["hyperparameters"][name] = value
    with pytest.raises(ValueError, match=expected):
        opt.load_state_dict(saved)
    if name in ("bounds", "nonnegative"):
        with pytest.raises(ValueError, match=expected):
            cls(groups={"*": {name: value}})
