"""Sums and functions of them that do not fit: what is wrong is said in a sentence, and nothing has changed."""

from math import sqrt

import numpy as np
import pytest
from numba import njit

from fastoptim import LAMB, Optimizer, Reduction, nonnegative, rule
from internals import has_state

F4 = np.float32


@rule
def squares(p, g):
    return p * p, g * g


@rule
def with_state(p, g, m, lr):
    m = m + lr * g
    return m, m * m


@rule
def takes_ratio(p, g, ratio):
    return p * ratio, g


@rule
def step(p, g, ratio, lr):
    return p - lr * ratio * g


@rule
def step_with_state(p, g, m, ratio, lr):
    return p - lr * ratio * m, m


@rule
def takes_a_sum(p, g, one, ratio, lr):
    return p - one * lr * ratio * g


@rule
def promotes(p, g):
    return p * p, 2 * g


def ratio(one, two):
    return sqrt(one) / sqrt(two) if two > 0 else 1.0


def other(one, ratio):
    return one * ratio


def named_ratio(function):
    function.__name__ = "ratio"
    return function


@named_ratio
def sometimes(one, two):
    if two > 0:
        return one / two


@named_ratio
def two_of_them(one, two):
    return one, two


@named_ratio
def nothing(one):
    return None


@named_ratio
def misspelled(one):
    return one * wto  # noqa: F821


@named_ratio
def unknown(one, tow, trust):
    return one * tow * trust


@named_ratio
def takes_elements(p, one):
    return p * one


def optimizer_of(*reductions, last=step, slots=(), numbers=1, **others):
    body = {"rule": last, "slots": slots, "reductions": reductions, "lr": nonnegative(0.1), **others}
    return type("Own", (Optimizer,), {**body, "scalars": lambda self, t: (self.lr,) * numbers})


def refused(cls, error, words):
    """Twice, as what is known after the first time must not be half of a step."""
    opt, params = cls(), {"a": np.ones(3), "b": np.ones(3, F4)}
    for _ in range(2):
        with pytest.raises(error, match=f"(?s){words}") as caught:
            opt.update(params, {name: p.copy() for name, p in params.items()})
        assert len(str(caught.value).splitlines()) == 1
    assert all((p == 1).all() for p in params.values())
    assert opt.iter == 0
    assert not has_state(opt)


PAIR = ("one", "two")


def test_one_that_fits():
    params = {"a": np.full(4, 2.0)}
    optimizer_of(Reduction(squares, PAIR, ratio))().update(params, {"a": np.ones(4)})
    assert (params["a"] == 2 - 0.1 * 2).all()


@pytest.mark.parametrize(
    ("reduction", "words"),
    [
        (lambda: Reduction(squares, ("one",), named_ratio(lambda one: one)), r"returned .*x 2\).*expected 1 x float"),
        (lambda: Reduction(squares, ("one", "two", "three"), ratio), r"squares .*returned .*expected 3 x float"),
        (lambda: Reduction(promotes, PAIR, ratio), r"the rule promotes \(.*errors.py.*write x \* x for x\*\*2"),
    ],
)
def test_a_rule_that_returns_something_else(reduction, words):
    refused(optimizer_of(reduction()), TypeError, words)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (sometimes, r"returned OptionalType\(float64\); expected one float"),
        (two_of_them, r"returned UniTuple\(float64 x 2\); expected one float"),
        (nothing, r"returned none; expected one float"),
        (misspelled, r"name 'wto' is not defined"),
    ],
)
def test_a_function_that_returns_no_float(function, words):
    where = rf"the function ratio \(.*test_reduction_errors\.py, line \d+\) cannot be compiled: .*{words}"
    refused(optimizer_of(Reduction(squares, PAIR, function)), TypeError, where)


def test_a_name_that_nobody_knows_is_a_number_of_the_step():
    cls = optimizer_of(Reduction(squares, PAIR, unknown))
    refused(cls, ValueError, r"Own\.scalars\(1\): expected 3 floats \(tow, trust, lr\), got \(0\.1,\)")


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda: Reduction(lambda p, g: p, PAIR, ratio), r"its rule .*lambda.* is not declared, put @fastoptim\.rule"),
        (lambda: Reduction(squares, PAIR), r"expected names of sums and functions of them, got \('one', 'two'\) and"),
        (lambda: Reduction(squares, "one", ratio), r"expected names of sums and functions of them, got 'one'"),
        (lambda: Reduction(squares, (), ratio), r"expected names of sums and functions of them, got \(\)"),
        (
            lambda: Reduction(squares, PAIR, lambda one: one),
            "expected functions that are made with `def`, got <lambda>",
        ),
        (lambda: Reduction(squares, PAIR, njit(ratio)), "expected functions that are made with `def`, got ratio"),
        (lambda: Reduction(squares, PAIR, varied), r"varied\(\*sums\): expected arguments that have names"),
    ],
)
def test_a_reduction_that_is_none(declare, words):
    with pytest.raises(TypeError, match=f"Reduction: {words}"):
        declare()


def varied(*sums):
    return sums[0]


SUMS = Reduction(squares, PAIR, ratio)


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda: optimizer_of(Reduction(squares, ("one", "one"), ratio)), "'one' to be the name of one thing"),
        (lambda: optimizer_of(Reduction(squares, ("one", "g"), ratio)), "'g' to be the name of one thing"),
        (lambda: optimizer_of(Reduction(squares, ("one", "ratio"), ratio)), "'ratio' to be the name of one thing"),
        (lambda: optimizer_of(SUMS, SUMS), "'one' to be the name of one thing"),
        (lambda: optimizer_of(Reduction(squares, PAIR, ratio, ratio)), "'ratio' to be the name of one thing"),
        (lambda: optimizer_of(SUMS, array_slots=("two",)), "'two' to be the name of one thing"),
        (
            lambda: optimizer_of(SUMS, last=step_with_state, slots=("m",), array_slots=("m",)),
            "'m' to be the name of one thing",
        ),
        (lambda: optimizer_of(Reduction(takes_ratio, PAIR, ratio)), "takes_ratio cannot take ratio: a rule"),
        (lambda: optimizer_of(Reduction(squares, PAIR, other, ratio)), "other cannot take ratio: it takes"),
        (lambda: optimizer_of(SUMS, Reduction(squares, ("three", "four"), other)), "other cannot take one"),
        (lambda: optimizer_of(Reduction(squares, PAIR, takes_elements)), "ratio cannot take p"),
        (lambda: optimizer_of(SUMS, last=takes_a_sum), "takes_a_sum cannot take one: a rule takes results"),
        (lambda: optimizer_of(SUMS, last=lambda p, g, ratio: p), "its rule .*lambda.* is not declared"),
    ],
)
def test_names_that_clash_or_are_not_known_in_time(declare, words):
    with pytest.raises(TypeError, match=f"Own: .*{words}"):
        declare()


@pytest.mark.parametrize(
    ("over_all", "shared", "words"),
    [
        (True, (), "'ratio' in shared_slots: it follows from sums over all arrays"),
        (False, ("ratio",), "'ratio' in array_slots, and not in shared_slots: it follows from sums over each array"),
    ],
)
def test_a_number_of_all_arrays_is_shared(over_all, shared, words):
    reduction, of_array = Reduction(squares, PAIR, ratio, over_all=over_all), () if shared else ("ratio",)
    with pytest.raises(TypeError, match=f"Own: expected {words}"):
        optimizer_of(reduction, array_slots=of_array, shared_slots=shared)


@pytest.mark.parametrize("name", ["reductions", "array_slots", "shared_slots", "matrices"])
def test_sums_and_matrices_come_with_their_rule(name):
    with pytest.raises(TypeError, match=f"Mine: expected its `rule` beside {name}, as they go together"):
        type("Mine", (LAMB,), {name: ()})


def test_a_number_of_the_state_may_be_taken_before_it_is_computed():
    cls = optimizer_of(Reduction(takes_ratio, PAIR, ratio), array_slots=("ratio",))
    opt, params = cls(), {"a": np.full(4, 2.0)}
    opt.update(params, {"a": np.ones(4)})
    assert opt.state["ratio"]["a"] == 0  # of sums with the state's number, 0 at first
    assert (params["a"] == 2).all()


def test_a_rule_of_sums_that_names_state_returns_it():
    cls = optimizer_of(Reduction(with_state, ("one",), named_ratio(only_one)), last=step_with_state, slots=("m",))
    opt, params = cls(), {"a": np.full(4, 2.0)}
    opt.update(params, {"a": np.ones(4)})
    assert np.allclose(opt.state["m"]["a"], 0.1)
    assert np.allclose(params["a"], 2 - 0.1 * (4 * 0.01) * 0.1)


def only_one(one):
    return one
