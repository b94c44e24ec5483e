"""What several test modules use: the optimizers, the one tolerance, arrays of every layout, snapshots, subprocesses."""

import copy
import os
import subprocess
import sys
from itertools import islice
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
WITH_KERNELS = [cls for cls in OPTIMIZERS if cls.kernels.are_public]  # the others sum over arrays before their rule
# What hardly depends on the rule is compiled for these alone: one without state, one with two slots and a root.
FEW = [fastoptim.SGD, fastoptim.Adam]
ON_GPU = [cls for cls in OPTIMIZERS if cls.matrices is None]  # a function of matrices takes NumPy's arrays alone
SUMMED = [cls for cls in ON_GPU if cls.reductions]
DTYPES = [np.float32, np.float64]

# |actual - expected| <= ATOL + RTOL * |expected|: some tens of roundings over the steps that tests make.
RTOL = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-12}
ATOL = {np.dtype(np.float32): 2e-6, np.dtype(np.float64): 1e-13}


def has_public_kernel(cls, dtype, which):
    """Whether a public kernel is compiled in tests: "cpu" or "cpu_serial"."""
    return cls in FEW or which == {np.float32: "cpu", np.float64: "cpu_serial"}[dtype]


def scalars_of_step(opt, t):
    """The numbers of step `t`, with what is carried there by the steps before."""
    return next(islice(opt.successive_scalars(), t - 1, None))


def assert_close(actual, expected, what=""):
    dtype = np.asarray(actual).dtype
    np.testing.assert_allclose(actual, expected, rtol=RTOL[dtype], atol=ATOL[dtype], err_msg=what)


def assert_same_bits(actual, expected, what=""):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype, what
    assert actual.shape == expected.shape, what
    assert actual.tobytes() == expected.tobytes(), what


def state_shapes(opt, name, shape):
    """The shapes of a parameter's state by slot."""
    others = {slot: opt.state_shape(slot, name, shape) for slot in opt.shaped_slots}
    return dict.fromkeys(opt.stored_slots, shape) | {slot: own for slot, own in others.items() if own is not None}


def assert_state_close(opt, name, p, expected, what=""):
    """The state of a parameter, which has its dtype; a number of a whole array is float64, but no more exact."""
    for slot, shape in state_shapes(opt, name, p.shape).items():
        own = opt.state[slot][name]
        assert own.shape == shape
        assert own.dtype == (np.float64 if slot in opt.array_slots and shape == () else p.dtype)
        assert_close(own.astype(p.dtype), expected[slot], f"{what} {slot} {name}")


def assert_state_same_bits(opt, other, name, what=""):
    """The state of a name in two optimizers."""
    found = [slot for slot, views in opt.state.items() if name in views]
    assert found == [slot for slot, views in other.state.items() if name in views], what
    for slot in found:
        assert_same_bits(opt.state[slot][name], other.state[slot][name], f"{what} {slot} {name}")


def random(rng, shape, dtype):
    return np.asarray(rng.standard_normal(shape), dtype)


def like(rng, params, dtype=None):
    """Gradients: random arrays of the parameters' shapes, and of their dtypes if none is given."""
    return {name: random(rng, p.shape, dtype or p.dtype) for name, p in params.items()}


def flat_like(flat, grads):
    """The gradients in a FlatDict of the layout of `flat`."""
    gradients = flat.zeros_like()
    for name, g in grads.items():
        gradients[name][...] = g
    return gradients


def read_only(a):
    a.flags.writeable = False
    return a


def frozen(value):
    """Something to compare later: bytes for arrays, also those in dicts, and copies of anything else."""
    if isinstance(value, dict):
        return {name: frozen(item) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return copy.deepcopy(value)


def snapshot(opt, params, grads=None):
    """All that a call could have changed."""
    state = {slot: dict(views) for slot, views in opt.state.items()}
    averages = None if opt.averages is None else dict(opt.averages)
    return frozen({"p": dict(params), "g": dict(grads or {}), "state": state, "averages": averages,
                   "saved": opt.state_dict(), "counts": (opt.iter, opt.skipped, opt.grad_norm)})  # fmt: skip


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


def in_every_layout(rng, dtypes=(np.float32,)):
    """Arrays of some shapes in each of the layouts; their names begin with a or b."""
    shapes = [(), (0,), (7,), (3, 5), (2, 3, 4)]
    makers = list(LAYOUTS.values())
    return {
        f"{'ab'[i % 2]} {i}": makers[i % len(makers)](random(rng, shapes[i % len(shapes)], dtypes[i % len(dtypes)]))
        for i in range(len(shapes) * len(makers))
    }


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
