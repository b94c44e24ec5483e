"""What is wrong with a rule of one's own is said in a sentence, with its line; numba's own words are chained."""

import math

import numpy as np
import pytest

from fastoptim import Optimizer, nonnegative, rule
from fastoptim.kernels.rule import MOST_ARGUMENTS
from internals import has_state
from references import EVERYTHING

F4, F8 = np.float32, np.float64


@rule
def misspelled(p, g, lr):
    return p - lr * gradient  # noqa: F821


@rule
def no_such_function(p, g, lr):
    q = p * p
    return q - lr * math.squareroot(g)


@rule
def calls_python(p, g, lr):
    return p - lr * undeclared(g)


def undeclared(x):
    return x


def optimizer_of(function):
    body = {"rule": function, "lr": nonnegative(1.0), "scalars": lambda self, t: (self.lr,)}
    return type("Own", (Optimizer,), body)


def line_of(function, offset):
    return getattr(function, "py_func", function).__code__.co_firstlineno + offset


@pytest.mark.parametrize(
    ("function", "word", "offset"), [(misspelled, "gradient", 2), (no_such_function, "squareroot", 3)]
)
@pytest.mark.parametrize("dtypes", [(F4,), (F8, F4)])
def test_an_undefined_name(function, word, offset, dtypes):
    opt = optimizer_of(function)()
    params = {str(i): np.ones(3, dtype) for i, dtype in enumerate(dtypes)}
    for _ in range(2):
        with pytest.raises(Exception, match=word) as caught:
            opt.update(params, {name: p.copy() for name, p in params.items()})
        message = str(caught.value)
        assert len(message.splitlines()) <= 2, f"{len(message.splitlines())} lines"
        assert function.__name__ in message
        assert "test_rule_errors.py" in message
        assert f"line {line_of(function, offset)}" in message
        assert isinstance(caught.value, NameError | AttributeError | TypeError)
        assert caught.value.__cause__ is not None  # the original is chained
    assert all((p == 1).all() for p in params.values())
    assert opt.iter == 0
    assert not has_state(opt)


def test_a_function_that_is_no_rule_is_named():
    opt, params = optimizer_of(calls_python)(), {"p": np.ones(3, F4)}
    with pytest.raises(TypeError, match="undeclared") as caught:
        opt.update(params, {"p": np.ones(3, F4)})
    assert len(str(caught.value).splitlines()) <= 2
    assert (params["p"] == 1).all()


@pytest.mark.parametrize("count", [200, 1000])
def test_a_rule_with_very_many_arguments(count):
    names = [f"a{i}" for i in range(count)]
    namespace = {}
    exec(f"def many(p, g, {', '.join(names)}):\n    return p - g * ({' + '.join(names[:9])})", namespace)

    def update():
        body = {"rule": rule(namespace["many"]), "lr": nonnegative(1.0), "scalars": lambda self, t: (self.lr,) * count}
        params = {"p": np.ones(3, F4)}
        type("Own", (Optimizer,), body)().update(params, {"p": np.ones(3, F4)})

    with pytest.raises(TypeError, match=rf"many.*{count + 2} arguments, expected at most \d+"):
        update()


@pytest.mark.parametrize("dtype", [F4, F8])
def test_a_rule_with_as_many_arguments_as_there_may_be(dtype):
    """With the options, whose numbers come behind its own."""
    count = MOST_ARGUMENTS - 3
    names = [f"a{i}" for i in range(count)]
    namespace = {}
    exec(f"def most(p, g, m, {', '.join(names)}):\n    return p - g * ({' + '.join(names)}), m + g", namespace)
    body = {"rule": rule(namespace["most"]), "slots": ("m",), "lr": nonnegative(1.0)}
    cls = type("Own", (Optimizer,), {**body, "scalars": lambda self, t: (self.lr,) * count})
    everything = {name: value for name, value in EVERYTHING.items() if name not in ("lr", "groups", "accumulate")}
    for options in {}, everything:
        params, opt = {"p": np.zeros(3, dtype)}, cls(**options)
        opt.update(params, {"p": np.ones(3, dtype)})
        assert params["p"].any()
        assert options or (params["p"] == -count).all()
        assert opt.iter == 1
