"""Schedules against Optax and PyTorch, their turning points by hand, what they refuse, and to plain data and back."""

import copy
import json
import math
import pickle
from dataclasses import FrozenInstanceError, fields
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastoptim import schedules
from fastoptim.schedules import (
    as_data,
    constant,
    cosine,
    cosine_restarts,
    exponential,
    from_data,
    linear,
    one_cycle,
    polynomial,
    step,
    warmup,
)
from fastoptim.schedules.checked import Then
from support import assert_close

CLASSES = [
    value
    for name, value in vars(schedules).items()
    if isinstance(value, type) and value.__module__ == schedules.__name__ and not name.startswith("_")
]
STEPS = 60  # most of the schedules below end well before

# ours -> Optax's: its name and arguments
OPTAX = {
    constant(0.1): ("constant_schedule", (0.1,)),
    linear(0.1, 0.5, 40): ("linear_schedule", (0.1, 0.5, 40)),
    linear(0.5, 0.0, 1): ("linear_schedule", (0.5, 0.0, 1)),
    exponential(0.1, 0.9): ("exponential_decay", (0.1, 1, 0.9)),
    exponential(0.1, 0.3, 7): ("exponential_decay", (0.1, 7, 0.3)),
    exponential(0.1, 1.5, 3): ("exponential_decay", (0.1, 3, 1.5)),
    step(0.1, 7): ("exponential_decay", (0.1, 7, 0.1, 0, True)),
    polynomial(0.1, 0.01, 40): ("polynomial_schedule", (0.1, 0.01, 1, 40)),
    polynomial(0.1, 0.01, 40, 2): ("polynomial_schedule", (0.1, 0.01, 2, 40)),
    polynomial(0.0, 0.3, 33, 0.5): ("polynomial_schedule", (0.0, 0.3, 0.5, 33)),
    cosine(0.1, 40): ("cosine_decay_schedule", (0.1, 40)),
    cosine(0.1, 33, 0.02): ("cosine_decay_schedule", (0.1, 33, 0.2)),
    cosine(0.1, 33, 0.3): ("cosine_decay_schedule", (0.1, 33, 3)),
    one_cycle(0.1, 50): ("cosine_onecycle_schedule", (50, 0.1)),
    one_cycle(0.1, 100, 0.29, 10, 100): ("cosine_onecycle_schedule", (100, 0.1, 0.29, 10, 100)),
    one_cycle(0.1, 37, 0.0): ("cosine_onecycle_schedule", (37, 0.1, 0.0)),
    one_cycle(0.1, 1): ("cosine_onecycle_schedule", (1, 0.1)),
    warmup(0.1, 9): ("warmup_constant_schedule", (0.0, 0.1, 9)),
    warmup(cosine(0.1, 31, 0.02), 9, 0.01): ("warmup_cosine_decay_schedule", (0.01, 0.1, 9, 40, 0.02)),
    warmup(exponential(0.1, 0.5, 5), 9, 0.3): ("warmup_exponential_decay_schedule", (0.3, 0.1, 9, 5, 0.5)),
}

# ours -> PyTorch's: the optimizer's lr, the scheduler's name and arguments, and for how many steps the two are one
TORCH = {
    constant(0.1): (0.1, "ConstantLR", {"factor": 1.0}, STEPS),
    linear(0.03, 0.08, 40): (0.1, "LinearLR", {"start_factor": 0.3, "end_factor": 0.8, "total_iters": 40}, STEPS),
    exponential(0.1, 0.9): (0.1, "ExponentialLR", {"gamma": 0.9}, STEPS),
    step(0.1, 7): (0.1, "StepLR", {"step_size": 7}, STEPS),
    step(0.1, 1, 0.5): (0.1, "StepLR", {"step_size": 1, "gamma": 0.5}, STEPS),
    step(0.1, 9, 1.5): (0.1, "StepLR", {"step_size": 9, "gamma": 1.5}, STEPS),
    step(0.1, 9, 0): (0.1, "StepLR", {"step_size": 9, "gamma": 0.0}, STEPS),
    polynomial(0.1, 0, 40, 2): (0.1, "PolynomialLR", {"total_iters": 40, "power": 2.0}, STEPS),
    cosine(0.1, 40, 0.01): (0.1, "CosineAnnealingLR", {"T_max": 40, "eta_min": 0.01}, 41),
    cosine_restarts(0.1, 7): (0.1, "CosineAnnealingWarmRestarts", {"T_0": 7}, 200),
    cosine_restarts(0.1, 1): (0.1, "CosineAnnealingWarmRestarts", {"T_0": 1}, STEPS),
    cosine_restarts(0.1, 5, 2, 0.01): (
        0.1,
        "CosineAnnealingWarmRestarts",
        {"T_0": 5, "T_mult": 2, "eta_min": 0.01},
        200,
    ),
    cosine_restarts(0.1, 1, 3): (0.1, "CosineAnnealingWarmRestarts", {"T_0": 1, "T_mult": 3}, 200),
}
ALL = list(dict.fromkeys([*OPTAX, *TORCH]))


def test_every_schedule_is_compared():
    assert {type(ours) for ours in ALL} == set(CLASSES)


@pytest.fixture
def optax():
    optax = pytest.importorskip("optax", reason="compares with Optax, which is not installed")
    jax = pytest.importorskip("jax", reason="compares with Optax, which needs JAX")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)  # as schedules are computed in float64
    yield optax
    jax.config.update("jax_enable_x64", before)


@pytest.mark.parametrize("ours", OPTAX, ids=repr)
def test_optax(ours, optax):
    name, arguments = OPTAX[ours]
    theirs = getattr(optax, name)(*arguments)
    assert_close(list(map(ours, range(STEPS))), [float(theirs(t)) for t in range(STEPS)])


def test_optax_joins_any_schedules(optax):
    ours = warmup(cosine_restarts(0.1, 20), 9, 0.01)
    joined = optax.join_schedules([optax.linear_schedule(0.01, 0.1, 9), cosine_restarts(0.1, 20)], [9])
    assert_close(list(map(ours, range(STEPS))), [float(joined(t)) for t in range(STEPS)])


@pytest.mark.parametrize("ours", TORCH, ids=repr)
def test_torch(ours):
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    lr, name, arguments, steps = TORCH[ours]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr)
    scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, **arguments)
    theirs = []
    for _ in range(steps):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()  # before the scheduler's, or it warns
        scheduler.step()
    assert_close(list(map(ours, range(steps))), theirs)


# schedule -> {step: its value, to a rounding}
POINTS = {
    constant(0.3): {0: 0.3, 1: 0.3, 10**12: 0.3},
    linear(0.1, 0.3, 4): {0: 0.1, 2: 0.2, 4: 0.3, 5: 0.3, 10**12: 0.3},
    linear(0.3, 0.1, 1): {0: 0.3, 1: 0.1, 2: 0.1},
    exponential(8, 0.5): {0: 8, 1: 4, 3: 1, 4: 0.5, 10**12: 0},
    exponential(8, 0.25, 2): {0: 8, 1: 4, 2: 2, 3: 1},
    exponential(8, 2.0): {0: 8, 1: 16, 10**12: math.inf},
    exponential(0, 2.0): {0: 0, 10**12: 0},
    step(8, 3, 0.5): {0: 8, 2: 8, 3: 4, 5: 4, 6: 2, 10**12: 0},
    step(8, 3, 0): {0: 8, 2: 8, 3: 0, 4: 0},
    step(8, 1, 2): {10**12: math.inf},
    polynomial(8, 0, 4, 2): {0: 8, 1: 4.5, 2: 2, 3: 0.5, 4: 0, 5: 0},
    polynomial(0.1, 0.3, 4, 3): {0: 0.1, 4: 0.3, 10**12: 0.3},
    cosine(0.1, 4, 0.3): {0: 0.1, 2: 0.2, 4: 0.3, 5: 0.3, 8: 0.3, 10**12: 0.3},
    cosine(0.3, 3): {0: 0.3, 1: 0.225, 2: 0.075, 3: 0, 4: 0},
    warmup(0.5, 5): {0: 0, 1: 0.1, 4: 0.4, 5: 0.5, 6: 0.5, 10**12: 0.5},
    warmup(0.5, 1): {0: 0, 1: 0.5},
    warmup(linear(8, 0, 4), 4, 4): {0: 4, 1: 5, 4: 8, 5: 6, 8: 0, 9: 0},
    warmup(warmup(8, 2, 4), 2): {0: 0, 1: 2, 2: 4, 3: 6, 4: 8, 5: 8},
    one_cycle(8, 10, 0.4, 8, 2): {0: 1, 2: 4.5, 4: 8, 7: 4.25, 10: 0.5, 11: 0.5, 10**12: 0.5},
    one_cycle(8, 10, 0, 8, 2): {0: 8, 5: 4.25, 10: 0.5},
    one_cycle(8, 10, 1, 8, 2): {0: 1, 5: 4.5, 10: 0.5, 11: 0.5},
    one_cycle(8, 1, 1): {0: 0.32, 1: 0.32e-4},
    cosine_restarts(0.1, 4, 1, 0.3): {0: 0.1, 2: 0.2, 4: 0.1, 6: 0.2, 4 * 10**12 + 2: 0.2},
    cosine_restarts(0.1, 4, 2, 0.3): {0: 0.1, 2: 0.2, 4: 0.1, 8: 0.2, 12: 0.1, 20: 0.2, 28: 0.1},
    cosine_restarts(0.1, 1): {0: 0.1, 1: 0.1},
}


@pytest.mark.parametrize("schedule", POINTS, ids=repr)
def test_points(schedule):
    for t, value in POINTS[schedule].items():
        assert schedule(t) == pytest.approx(value, rel=1e-15, abs=0), t


def test_every_schedule_has_points():
    assert {type(schedule) for schedule in POINTS} == set(CLASSES)


@pytest.mark.parametrize("cls", [linear, polynomial, cosine])
@pytest.mark.parametrize(("init", "end"), [(0.1, 0.3), (0.3, 0.1), (1e-3, 0.7), (0.7, 1e-9)])
def test_the_ends_are_exact(cls, init, end):
    """Adding and subtracting misses by a rounding: 0.3 + (0.1 - 0.3) is not 0.1."""
    schedule = cls(init=init, end=end, steps=7)
    assert (schedule(0), schedule(7), schedule(8)) == (init, end, end)


def test_a_warmup_asks_any_callable():
    seen = []
    schedule = warmup(lambda t: seen.append(t) or 0.5 / (t + 1), 2)
    assert [schedule(t) for t in range(4)] == [0, 0.25, 0.5, 0.25]
    assert seen == [0, 0, 0, 1]


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_a_value(schedule):
    assert eval(repr(schedule), {cls.__name__: cls for cls in CLASSES}) == schedule
    assert copy.deepcopy(schedule) == pickle.loads(pickle.dumps(schedule)) == schedule
    assert all(type(schedule(t)) is float for t in range(STEPS))
    assert [schedule(np.int64(t)) for t in range(STEPS)] == [schedule(t) for t in range(STEPS)]
    with pytest.raises(FrozenInstanceError):
        setattr(schedule, fields(schedule)[0].name, 1.0)


def test_equality():
    assert cosine(1, 10) == cosine(1.0, np.int64(10), end=np.float32(0)) == cosine(init=Fraction(1), steps=10)
    assert cosine(1, 10) != cosine(1, 11)
    assert cosine(1, 10) != cosine_restarts(1, 10)
    assert linear(1, 0, 10) != polynomial(1, 0, 10)
    assert repr(cosine(1, np.int64(10))) == "cosine(init=1.0, steps=10, end=0.0)"


NUMBERS = {
    "a finite number >= 0": [-1, -1e-300],
    "a finite number > 0": [0, -0.0, -1],
    "a finite number >= 1": [0, 0.999, -1],
    "a number from 0 to 1": [-1e-300, 1.001, 25],
    "a positive integer below 2**63": [0, -1, 1.0, 1.5, 2**63, np.float64(3)],
    "a schedule or a finite number >= 0": [-1, cosine],
}
NO_NUMBERS = [math.nan, math.inf, -math.inf, 10**400, Fraction(10**400), "1", b"1", None, True, np.True_, 1j, [1], {}]


@pytest.mark.parametrize(
    ("cls", "field"),
    [pytest.param(cls, field, id=f"{cls.__name__}-{field.name}") for cls in CLASSES for field in fields(cls)],
)
def test_refused(cls, field):
    good = next(ours for ours in ALL if type(ours) is cls)
    arguments = {x.name: getattr(good, x.name) for x in fields(cls)}
    expected, _ = field.type.__metadata__
    callables = [] if field.type is Then else [print, constant(1)]
    for wrong in [*NUMBERS[expected], *NO_NUMBERS, *callables]:
        with pytest.raises(ValueError, match="expected") as caught:
            cls(**arguments | {field.name: wrong})
        assert str(caught.value) == f"{cls.__name__}.{field.name}: expected {expected}, got {wrong!r}"


def test_what_each_argument_may_be():
    """By hand, as the test above believes the classes."""
    for make in (
        lambda: constant(-0.1), lambda: linear(-1, 0, 5), lambda: linear(0, -1, 5), lambda: linear(1, 0, 0),
        lambda: exponential(1, 0), lambda: exponential(1, -0.5, 2), lambda: exponential(1, 0.5, 0),
        lambda: step(1, 0), lambda: step(1, 1.0), lambda: step(1, 5, -0.1), lambda: polynomial(1, 0, 5, 0),
        lambda: polynomial(1, 0, 5, -1), lambda: cosine(1, 0), lambda: cosine(1, 5, -0.1), lambda: warmup(0.1, 0),
        lambda: warmup(-0.1, 5), lambda: warmup("cosine", 5), lambda: warmup(cosine, 5), lambda: warmup(0.1, 5, -1),
        lambda: one_cycle(1, 0), lambda: one_cycle(1, 5, 1.1), lambda: one_cycle(1, 5, -0.1),
        lambda: one_cycle(1, 5, 0.3, 0.5), lambda: one_cycle(1, 5, 0.3, 25, 0.5), lambda: cosine_restarts(1, 0),
        lambda: cosine_restarts(1, 5, 0), lambda: cosine_restarts(1, 5, 1.5), lambda: cosine_restarts(1, 5, 1, -1),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"^\w+\.\w+: expected .*, got "):
            make()


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_to_data_and_back(schedule):
    data = as_data(schedule)
    assert from_data(data) == schedule
    text = json.dumps(data, allow_nan=False)
    assert json.loads(text) == data
    again = from_data(json.loads(text))
    assert again == schedule
    assert repr(again) == repr(schedule)


def test_data():
    assert as_data(cosine(np.float32(0.5), np.int32(7))) == {"schedule": "cosine", "init": 0.5, "steps": 7, "end": 0.0}
    assert as_data(warmup(constant(2), 5)) == {
        "schedule": "warmup",
        "then": {"schedule": "constant", "value": 2.0},
        "steps": 5,
        "init": 0.0,
    }
    assert as_data(warmup(2, 5))["then"] == 2.0
    assert all("schedule" not in {field.name for field in fields(cls)} for cls in CLASSES)  # the name's key


class mine(cosine):  # noqa: N801
    pass


@pytest.mark.parametrize(
    ("foreign", "name"),
    [(lambda t: 0.1, "<lambda>"), (math.sqrt, "sqrt"), (mine(0.1, 5), "mine"), (cosine, "cosine"), (0.1, "0.1")],
)
def test_no_data_of_others(foreign, name):
    with pytest.raises(TypeError, match=rf"expected a schedule of fastoptim.schedules \(.*cosine.*\), got .*{name}"):
        as_data(foreign)
    if callable(foreign) and not isinstance(foreign, type):
        with pytest.raises(TypeError, match=name):
            as_data(warmup(foreign, 5))


COSINE = as_data(cosine(0.1, 5))
WARMUP = as_data(warmup(cosine(0.1, 5), 5))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "schedule: expected a dict whose 'schedule' is one of constant, .*, got None"),
        (0.1, "expected a dict.*got 0.1"),
        ([COSINE], "expected a dict.*got \\["),
        ({}, "expected a dict.*got {}"),
        (cosine(0.1, 5), "expected a dict.*got cosine"),
        (COSINE | {"schedule": "lion"}, "one of constant, .*cosine_restarts, got .*lion"),
        (COSINE | {"schedule": "_Checked"}, "expected a dict.*_Checked"),
        (COSINE | {"schedule": "math"}, "expected a dict.*math"),
        (COSINE | {"schedule": "Schedule"}, "expected a dict.*Schedule"),
        (COSINE | {"schedule": ["cosine"]}, "expected a dict"),
        (COSINE | {"schedule": cosine}, "expected a dict"),
        ({"schedule": "cosine", "init": 0.1, "steps": 5}, r"cosine: expected the fields \[.*'end'\], got \['init', "),
        ({"schedule": "cosine"}, r"cosine: expected the fields .*, got \[\]"),
        (COSINE | {"power": 2}, "cosine: expected the fields .*, got .*'power'"),
        (COSINE | {7: 2}, "cosine: expected the fields .*, got .*7"),
        (COSINE | {"init": "0.1"}, r"cosine.init: expected a finite number >= 0, got '0.1'"),
        (COSINE | {"init": COSINE}, "cosine.init: expected a finite number >= 0, got {"),
        (COSINE | {"steps": 5.0}, "cosine.steps: expected a positive integer .*, got 5.0"),
        (COSINE | {"steps": True}, "cosine.steps: expected a positive integer .*, got True"),
        (WARMUP | {"then": None}, "schedule: expected a dict.*got None"),
        (WARMUP | {"then": True}, "warmup.then: expected .*got True"),
        (WARMUP | {"then": -1}, "warmup.then: expected .*got -1"),
        (WARMUP | {"then": print}, "schedule: expected a dict.*print"),
        (WARMUP | {"then": cosine(0.1, 5)}, "schedule: expected a dict.*got cosine"),
        (WARMUP | {"then": COSINE | {"steps": 0}}, "cosine.steps: expected .*got 0"),
    ],
)
def test_data_refused(data, message):
    with pytest.raises(ValueError, match=message):
        from_data(data)


def test_data_without_end():
    data = dict(WARMUP)
    data["then"] = data
    with pytest.raises(ValueError, match="fewer schedules"):
        from_data(data)


NAMES = [cls.__name__ for cls in CLASSES]
KEYS = [field.name for cls in CLASSES for field in fields(cls)]
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.integers(0, 99) | st.floats() | st.floats(0, 1) | st.text(max_size=5)
)
ANYTHING = st.recursive(
    SCALARS | st.just(print) | st.sampled_from([as_data(schedule) for schedule in ALL]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["schedule", *KEYS]) | st.integers() | st.text(max_size=5), inner, max_size=5)
        | st.fixed_dictionaries({"schedule": st.sampled_from(NAMES) | inner, "init": inner, "steps": inner})
    ),
    max_leaves=12,
)
# Mostly right: one schedule's fields, of which some are anything.
NEARLY = st.sampled_from([as_data(schedule) for schedule in ALL]).flatmap(
    lambda data: st.fixed_dictionaries({key: st.just(value) | ANYTHING for key, value in data.items()})
)


@given(ANYTHING | NEARLY, st.integers(0, 10**6))
def test_data_of_any_kind(data, t):
    """A ValueError, or a schedule that can be called and saved."""
    try:
        schedule = from_data(data)
    except ValueError as error:
        schedule, message = None, str(error)
    if schedule is None:
        assert "expected" in message
        return
    assert type(schedule) in CLASSES
    assert schedule(t) >= 0
    assert from_data(json.loads(json.dumps(as_data(schedule)))) == schedule
