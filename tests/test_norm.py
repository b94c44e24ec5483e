"""`clip_norm` and `opt.grad_norm`: the same bits everywhere, no overflow; and `clip_value`."""

import copy
import math

import numba
import numpy as np
import pytest

import fastoptim
from fastoptim import SGD, Adam
from references import EVERYTHING
from support import (
    DTYPES,
    LAYOUTS,
    assert_close,
    assert_same_bits,
    flat_like,
    like,
    python,
    random,
)

F4, F8 = np.float32, np.float64
LARGE = 40_000  # elements, for which there are several threads


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
