"""A rule on whole arrays has the bits of the rule on each element, and says what it cannot be made of."""

import math
from math import sqrt

import numpy as np
import pytest
from numba import njit

from fastoptim import rule
from fastoptim.kernels.rule import arguments
from fastoptim.kernels.vectorize import in_place, on_arrays
from support import DTYPES, OPTIMIZERS, assert_same_bits, random, scalars_of_step

SIZE = 300
TINY = 1e-30


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


def check(function, dtype, slots, scalars):
    """Several steps, on arrays and element by element."""
    rng = np.random.default_rng(0)
    on_all, writes = on_arrays(function), in_place(function, slots)
    scalars = tuple(map(dtype, scalars))
    p, *state = random(rng, SIZE, dtype), *(np.abs(random(rng, SIZE, dtype)) for _ in range(slots))
    for _ in range(3):
        g = random(rng, SIZE, dtype)
        before = [x.copy() for x in (p, g, *state)]
        each = [as_tuple(function(*numbers, *scalars)) for numbers in zip(p, g, *state, strict=True)]
        found = [x.copy() for x in as_tuple(on_all(p, g, *state, *scalars))]  # one may be an argument
        for array, expected in zip(found, zip(*each, strict=True), strict=True):
            assert_same_bits(array, np.array(expected, dtype))
        for array, expected in zip((p, g, *state), before, strict=True):
            assert_same_bits(array, expected, "an argument was changed")
        assert writes(p, g, *state, *scalars) is None
        assert_same_bits(g, before[1], "the gradient was changed")
        for array, expected in zip((p, *state), found, strict=True):
            assert_same_bits(array, expected, "in place")
    assert len({*p}) > SIZE / 3, "there is little to see"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_every_optimizer(cls, dtype):
    """Numbers of an array, which are computed of sums, are any here."""
    known = dict(zip(cls.kernels.scalar_names, scalars_of_step(cls(), 3), strict=True))
    numbers = [known.get(name, 0.3) for name in arguments(cls.rule)[2 + len(cls.slots) :]]
    check(cls.rule, dtype, len(cls.slots), numbers)


@rule
def sign_with_nested_conditionals(p, g, m, lr, part):
    c = m + part * (g - m)
    return p - (lr if c > 0 else -lr if c < 0 else c), c


@rule
def conditions(p, g, lr, low, high):
    inside = low < g + 0 * math.sqrt(lr) < high and not (g < lr and -g < lr)
    outside = g >= high or g <= low or g != g
    return p - (lr * g if inside else lr if outside else TINY * g)


@rule
def values_of_conditions(p, g, lr):
    return p - lr * ((g > 0 and g) or lr)


@rule
def does_not_divide_by_zero(p, g, lr):
    rest = g - g
    return p - (lr / rest if rest > 0 else g)


@rule
def assigns_in_place(p, g, m, lr):
    """A docstring."""
    m += lr * g
    m *= lr
    p -= m
    return p, m


@rule
def functions_of_math(p, g, m, lr):
    return p - lr * math.copysign(sqrt(abs(g)), g) + math.fabs(m) + math.pi * lr, g


@njit
def square(x):
    return x * x


def limited(x: float, limit: float = 0.5):
    size = sqrt(square(x))
    return x if size < limit else limit * x / size


@rule
def with_helpers(p, g, m, lr):
    return p - lr * limited(g) + limited(m, lr), square(m) + g


@rule
def swaps_its_state(p, g, a, b, lr):
    return p - lr * a + g, b, a


@rule
def keeps_the_last_ones(p, g, last_p, last_g, lr):
    return p - lr * g * last_g, p, g


@rule
def remembers(p, g, m, lr):
    before = m
    m = lr * m * g - g
    p = before * p + lr * g
    return p - m, before - m


@rule
def several_at_once(p, g, a, b, lr):
    a, b = b, a
    a, b = a + g, b - lr
    c = b = lr * b
    p, a = p - a * c, a - p
    return p, a, b + c


@rule
def uses_itself_twice(p, g, m, lr):
    m = m * lr + m * g
    m = (m + lr * m) * g - m
    m = g / (lr + m * m)
    return lr * p - m, lr - m


def itself(x):
    return x


@rule
def calls_what_returns_its_argument(p, g, m, lr):
    before = itself(m)
    m = m * lr + g
    return p - lr * before, m


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("function", "slots", "scalars"),
    [
        (swaps_its_state, 2, (0.1,)),
        (keeps_the_last_ones, 2, (0.1,)),
        (remembers, 1, (0.1,)),
        (several_at_once, 2, (0.1,)),
        (uses_itself_twice, 1, (0.1,)),
        (calls_what_returns_its_argument, 1, (0.1,)),
        (sign_with_nested_conditionals, 1, (0.1, 0.3)),
        (conditions, 0, (0.1, -0.5, 0.7)),
        (does_not_divide_by_zero, 0, (0.1,)),
        (assigns_in_place, 1, (0.1,)),
        (functions_of_math, 1, (0.1,)),
        (with_helpers, 1, (0.1,)),
    ],
)
def test_what_rules_are_made_of(function, slots, scalars, dtype):
    check(function, dtype, slots, scalars)


def test_and_and_or_give_values_as_in_python():
    g = np.array([2.0, -3.0, 0.0])
    expected = [values_of_conditions(1.0, x, 0.5) for x in g.tolist()]
    assert on_arrays(values_of_conditions)(np.ones(3), g, np.float64(0.5)).tolist() == expected == [0.0, 0.75, 0.75]


def test_a_rule_in_a_function_and_its_variables():
    factor = np.float32(3)

    @rule
    def scaled(p, g, lr):
        return p - factor * lr * g

    check(scaled, np.float32, 0, (0.1,))
    assert on_arrays(scaled).__name__ == "scaled"


@rule
def with_a_loop(p, g, lr):
    for _ in range(3):
        p = p - lr * g
    return p


@rule
def with_an_if(p, g, lr):
    if g > 0:
        p = p - lr
    return p


@rule
def with_a_subscript(p, g, lr):
    return p - lr * DTYPES[0](g)


@rule
def with_max(p, g, lr):
    return p - max(lr, g)


@rule
def with_is(p, g, lr):
    return p - (lr if g is lr else g)


@rule
def with_a_keyword(p, g, lr):
    return p - limited(g, limit=lr)


@rule
def with_a_function_as_a_number(p, g, lr):
    return p - lr * math.sqrt


@rule
def with_an_unknown_function(p, g, lr):
    return p - lr * math.nothing_like_that(g)


def loops(x):
    while x > 1:
        x = x / 2
    return x


@rule
def calls_a_loop(p, g, lr):
    return p - lr * loops(g)


def forever(x):
    return forever(x)


@rule
def calls_itself(p, g, lr):
    return p - lr * forever(g)


@rule
def returns_nothing(p, g, lr):
    p = p - lr * g


@rule
def forgets_its_state(p, g, m, lr):
    return p - lr * g


nameless = rule(lambda p, g, lr: p - lr * g)
namespace = {}
exec("def at_a_prompt(p, g, lr):\n    return p - lr * g", namespace)
at_a_prompt = rule(namespace["at_a_prompt"])


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (with_a_loop, r"only assignments .*got `for _ in range\(3\):` in line \d+"),
        (with_an_if, r"`a if c else b`.* got `if g > 0:` in line \d+"),
        (with_a_subscript, r"made with `def`.*got `DTYPES\[0\]\(g\)`"),
        (with_max, r"made with `def`.*got `max\(lr, g\)`"),
        (with_is, "comparisons.*got `g is lr`"),
        (with_a_keyword, r"by position, got `limited\(g, limit=lr\)`"),
        (with_a_function_as_a_number, "only assignments .*got `math.sqrt`"),
        (with_an_unknown_function, r"got `math.nothing_like_that\(g\)`"),
        (calls_a_loop, r"in loops, which it calls: expected .*got `while x > 1:`"),
        (calls_itself, "in forever, which it calls: expected no function that calls itself"),
        (returns_nothing, r"last statement to be `return`, got `p = p - lr \* g`"),
        (nameless, "source of a function made with `def`, found `nameless = "),
        (at_a_prompt, "source of a function made with `def`, found none"),
    ],
)
def test_what_has_no_counterpart_is_refused(function, words):
    with pytest.raises(ValueError, match=rf"rule {function.__name__} for arrays.*{words}"):
        on_arrays(function)


def test_the_line_is_the_files():
    line = with_a_loop.__code__.co_firstlineno + 2  # behind the decorator and the function's first line
    with pytest.raises(ValueError, match=f"in line {line}$"):
        on_arrays(with_a_loop)


def test_results_that_are_not_those_of_the_slots():
    with pytest.raises(ValueError, match=r"to return 2 values \(p, m\), got `return p - .*` in line"):
        in_place(forgets_its_state, 1)
