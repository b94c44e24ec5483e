"""A user's own rule, defined here and outside the package, has everything that the built-in ones have."""

import math

import numpy as np
import pytest
from numba import njit

import fastoptim
from fastoptim import Optimizer, fraction, nonnegative, rule, switch
from internals import has_state
from support import (
    DTYPES,
    FEW,
    LAYOUTS,
    WITH_KERNELS,
    assert_close,
    assert_same_bits,
    random,
    read_only,
    scalars_of_step,
)


@rule
def lion(p, g, m, lr, beta1, beta2, one_minus_beta1, one_minus_beta2, decay):
    c = beta1 * m + one_minus_beta1 * g
    m = beta2 * m + one_minus_beta2 * g
    return p - (lr if c > 0 else -lr if c < 0 else c) - decay * p, m


class Lion(Optimizer):
    rule, slots = lion, ("m",)
    lr: float = nonnegative(1e-4)
    beta1: float = fraction(0.9)
    beta2: float = fraction(0.99)
    weight_decay: float = nonnegative(0.0)

    def scalars(self, t):
        beta1, beta2 = self.beta1, self.beta2
        return self.lr, beta1, beta2, 1 - beta1, 1 - beta2, self.lr * self.weight_decay


def lion_in_numpy(p, g, m, opt):
    c = opt.beta1 * m + (1 - opt.beta1) * g
    return p - opt.lr * (np.sign(c) + opt.weight_decay * p), opt.beta2 * m + (1 - opt.beta2) * g


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", [*LAYOUTS, "flat"])
def test_a_users_rule(dtype, layout):
    rng = np.random.default_rng(1)
    start = {"W": random(rng, (390, 170), dtype), "b": random(rng, (170,), dtype), "s": random(rng, (), dtype)}
    params = fastoptim.flatten(start) if layout == "flat" else {k: LAYOUTS[layout](v) for k, v in start.items()}
    opt = Lion(0.01, weight_decay=0.1)
    expected = {k: (v.astype(float), np.zeros(v.shape)) for k, v in start.items()}
    for _ in range(4):
        grads = {k: random(rng, v.shape, dtype) for k, v in params.items()}
        expected = {k: lion_in_numpy(*(expected[k][0], grads[k], expected[k][1]), opt) for k in params}
        opt.update(params, grads)
    for k in params:
        assert_close(params[k], expected[k][0], k)
        assert_close(opt.state["m"][k], expected[k][1], k)
    assert repr(opt) == "Lion(lr=0.01, beta1=0.9, beta2=0.99, weight_decay=0.1)"
    with pytest.raises(ValueError, match="beta2"):
        opt.beta2 = 1


def test_a_rule_stays_a_function_for_python_and_numba():
    assert lion(1.0, 1.0, 0.0, 0.5, 0.9, 0.99, 0.1, 0.01, 0.0)[0] == 0.5
    call = njit(lambda p, g: lion(p, g, 0.0, 0.5, 0.9, 0.99, 0.1, 0.01, 0.0)[0])
    assert call(1.0, 1.0) == 0.5


@pytest.mark.parametrize("cls", [*FEW, Lion])
@pytest.mark.parametrize("which", ["cpu", "cpu_serial"])
def test_kernels_from_the_users_own_compiled_code(cls, which):
    kernel, opt, n = getattr(cls.kernels, which), cls(lr=0.1), 80_000
    rng = np.random.default_rng(0)

    @njit
    def train(p, g, state, scalars, steps):
        for _ in range(steps):
            kernel(p, g, state, scalars)

    p, g, state = random(rng, n, np.float32), random(rng, n, np.float32), np.zeros((len(cls.slots), n), np.float32)
    other, other_state = p.copy(), state.copy()
    train(p, g, state, opt.scalars(1), 3)
    for _ in range(3):
        kernel(other, g, other_state, opt.scalars(1))
    assert_same_bits(p, other)
    assert_same_bits(state, other_state)
    assert (p != random(np.random.default_rng(0), n, np.float32)).any()


@pytest.mark.parametrize("cls", [*WITH_KERNELS, Lion])
def test_the_kernels_docstring_names_the_scalars(cls):
    import inspect

    names = list(inspect.signature(cls.rule).parameters)[2:]
    for kernel in cls.kernels.cpu, cls.kernels.cpu_serial:
        assert f"{', '.join(names[len(cls.slots) :])}." in kernel.__doc__
        for slot in cls.slots:
            assert slot in kernel.__doc__
    assert len(scalars_of_step(cls(), 1)) == len(names) - len(cls.slots)


def test_kernels_refuse_what_they_would_misread():
    p, g, state = np.ones(4, np.float32), np.ones(4, np.float32), np.zeros((2, 4), np.float32)
    scalars = fastoptim.Adam().scalars(1)
    for kernel in fastoptim.Adam.kernels.cpu, fastoptim.Adam.kernels.cpu_serial:
        with pytest.raises(ValueError, match="sizes differ"):
            kernel(p, g[:3], state, scalars)
        with pytest.raises(ValueError, match="sizes differ"):
            kernel(p, g, state[:1], scalars)
        with pytest.raises(TypeError, match="C-contiguous"):
            kernel(p[::2], g[::2], state[:, :2], scalars)
        with pytest.raises(TypeError, match="one dtype"):
            kernel(p, g.astype(np.float64), state, scalars)
        with pytest.raises(TypeError, match="expected arrays of float32 or float64, got int64"):
            kernel(*(x.astype(np.int64) for x in (p, g, state)), scalars)
        for wrong in scalars[:3], (*scalars, 1.0), np.array(scalars[:1]):
            with pytest.raises(ValueError, match="number of scalars"):
                kernel(p, g, state, wrong)
        frozen = read_only(p.copy())
        with pytest.raises(TypeError, match="writeable"):
            kernel(frozen, g, state, scalars)
        kernel(p.copy(), frozen, state.copy(), scalars)  # a gradient may be read-only
    assert (p == 1).all()


def optimizer_of(function, *names):
    return type(function.__name__, (Optimizer,), {
        "rule": function, "slots": names, "lr": nonnegative(1.0), "scalars": lambda self, t: (self.lr,)
    })  # fmt: skip


@rule
def promotes(p, g, lr):
    return p - 2 * lr * g


@rule
def forgets_state(p, g, m, lr):
    return p - lr * g


@rule
def too_much(p, g, lr):
    return p - lr * g, g


@rule
def unknown_function(p, g, lr):
    return p - lr * math.nothing_like_that(g)


@pytest.mark.parametrize(
    ("function", "slots", "words"),
    [
        (promotes, (), "returned float64 for elements of float32.*x \\* x"),
        (forgets_state, ("m",), "expected 2 x float32.*Return a tuple of p and each slot"),
        (too_much, (), "expected 1 x float32.*Return p alone"),
        (unknown_function, (), "nothing_like_that"),
    ],
)
def test_a_rule_that_cannot_be_compiled_changes_nothing(function, slots, words):
    opt = optimizer_of(function, *slots)()
    # float64 comes second, and float32 is what fails first: neither may have been written
    params = {"a": np.ones(3, np.float64), "b": np.ones(3, np.float32)}
    for _ in range(2):
        with pytest.raises(Exception, match=f"(?s){words}"):
            opt.update(params, {k: v.copy() for k, v in params.items()})
    assert all((p == 1).all() for p in params.values())
    assert opt.iter == 0
    assert all(not views for views in opt.state.values())


def test_a_wrong_number_of_scalars_changes_nothing():
    cls = optimizer_of(rule(lambda p, g, a, b: p - a * g - b))
    params = {"a": np.ones(3, np.float64), "b": np.ones(3, np.float32)}
    opt = cls()
    with pytest.raises(ValueError, match=r"scalars\(1\): expected 2 floats \(a, b\), got \(1\.0,\)"):
        opt.update(params, dict(params))
    assert all((p == 1).all() for p in params.values())
    assert opt.iter == 0
    assert not has_state(opt)


def test_an_init_of_ones_own():
    class Own(fastoptim.Adam):
        wd: float = nonnegative(0.0)

        def __init__(self, wd=0.25):
            super().__init__(lr=0.5, wd=wd)

    class Fixed(fastoptim.SGD):
        lr = 0.125

    assert (Own().lr, Own().wd, Own(0.5).wd) == (0.5, 0.25, 0.5)
    p = np.zeros(1, np.float32)
    Fixed().update({"p": p}, {"p": np.ones(1, np.float32)})
    assert p == -0.125


def test_declarations_that_do_not_fit():
    with pytest.raises(TypeError, match=r"\(p, g, \*state, \*scalars\)"):
        rule(lambda grad, param: param)
    with pytest.raises(TypeError, match=r"\(p, g, \*state, \*scalars\)"):
        rule(lambda p, g, *rest: p)
    with pytest.raises(TypeError, match=r"slots are .*'v'.*its rule has.*'m'"):
        optimizer_of(lion, "v")
    with pytest.raises(TypeError, match=r"put @fastoptim\.rule before it"):
        optimizer_of(lambda p, g, lr: p)
    with pytest.raises(TypeError, match="has no rule"):
        Optimizer()


def test_hyperparameters_of_a_subclass_come_after_its_parents():
    class Doubled(fastoptim.SGD):
        twice: bool = switch(False)

        def scalars(self, t):
            return (self.lr * (2 if self.twice else 1),)

    p = np.zeros(2, np.float32)
    Doubled(0.5, 0.0, 0.0, False, True).update({"p": p}, {"p": np.ones(2, np.float32)})
    assert (p == -1).all()
