"""What several test modules use: the optimizers there are, the one tolerance, arrays of every layout, subprocesses."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

import fastoptim

ROOT = Path(__file__).parents[1]
OPTIMIZERS = [
    value
    for name in fastoptim.__all__
    if isinstance(value := getattr(fastoptim, name), type)
    and issubclass(value, fastoptim.Optimizer)
    and value is not fastoptim.Optimizer
]
DTYPES = [np.float32, np.float64]

# |actual - expected| <= ATOL + RTOL * |expected|: some tens of roundings over the steps that tests make.
RTOL = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-12}
ATOL = {np.dtype(np.float32): 2e-6, np.dtype(np.float64): 1e-13}


def assert_close(actual, expected, what=""):
    dtype = np.asarray(actual).dtype
    np.testing.assert_allclose(actual, expected, rtol=RTOL[dtype], atol=ATOL[dtype], err_msg=what)


def assert_same_bits(actual, expected, what=""):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype, what
    assert actual.shape == expected.shape, what
    assert actual.tobytes() == expected.tobytes(), what


def random(rng, shape, dtype):
    return np.asarray(rng.standard_normal(shape), dtype)


# From a C-ordered array to one with the same numbers that lies in memory otherwise.
def _strided(a):
    room = np.zeros([2 * n for n in a.shape], a.dtype)
    view = room[(..., *(slice(None, None, 2),) * a.ndim)]
    view[...] = a
    return view


def _unaligned(a):
    room = np.zeros(a.nbytes + 1, np.uint8)
    view = room[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def _axes_moved(a):
    return np.moveaxis(np.moveaxis(a, 0, -1).copy("C"), -1, 0) if a.ndim else a.copy()


def _reversed(a):
    back = (..., *(slice(None, None, -1),) * a.ndim)
    return a[back].copy("C")[back]


LAYOUTS = {
    "C": lambda a: a.copy("C"),
    "F": lambda a: a.copy("F"),
    "axes moved": _axes_moved,
    "strided": _strided,
    "reversed": _reversed,
    "unaligned": _unaligned,
}
SHAPES = [(), (0,), (1,), (7,), (3, 5), (2, 3, 4), (4, 0, 2), (1, 6, 1), (130, 129)]


def python(code, *arguments, timeout=240, **environment):
    """Run code in a new Python with the environment's variables changed, warnings as errors; return what it printed."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **environment}
    env = {name: value for name, value in env.items() if value is not None}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=env, capture_output=True, text=True, timeout=timeout, cwd=ROOT / "tests", check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
