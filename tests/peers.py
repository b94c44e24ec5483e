"""What the comparisons with other libraries share: the table of equivalents, the problem, and a row as a case.

docs/equivalents.toml has the table. Its texts of Python are evaluated here.
"""

import tomllib

import numpy as np
import pytest

import fastoptim
from support import ROOT, assert_close, random

TABLE = tomllib.loads((ROOT / "docs" / "equivalents.toml").read_text(encoding="utf-8"))
NUMBERS = TABLE["numbers"]
TORCH_LIKE = {"torch": "torch.optim", "schedulefree": "schedulefree", "pytorch_optimizer": "pytorch_optimizer"}
MODULES = {**TORCH_LIKE, "optax": "optax", "keras": "keras.optimizers"}

STEPS, CHANGE, LATE = 200, 90, 40  # `lr` is another one from step CHANGE on; the parameter "late" is added in step LATE
GROWING = 150  # steps, where roundings grow
RATES = np.where(np.arange(STEPS) < CHANGE, NUMBERS["lr"], 0.4 * NUMBERS["lr"])
SHAPES = {"W": (7, 5), "late": (4, 6), "c": (2, 3, 4), "s": (), "small": (13,)}
SMALL = np.append(10.0 ** -np.arange(9), np.zeros(4))  # the scale of the gradients of "small": some let `eps` matter
OFTEN_NONE = ["late", "c", "s"]  # never all: such a call counts no step
WITHOUT_NONE = ["W", "s", "small"]  # where every parameter has a gradient in every step, the others say nothing more


def problem(dtype, *, nones=True, zeros=True):
    """Parameters, and gradients by name for each step. A parameter without a gradient in a step is not there yet."""
    rng = np.random.default_rng(0)
    names = list(SHAPES) if nones else WITHOUT_NONE
    params = {name: random(rng, SHAPES[name], dtype) for name in names}
    params["small"][...] = 0
    steps = []
    for i in range(STEPS):
        grads = {name: random(rng, SHAPES[name], dtype) for name in names if name != "late" or i >= LATE}
        grads["small"] *= (SMALL if zeros else np.where(SMALL, SMALL, 1)).astype(dtype)
        for name in OFTEN_NONE if nones else []:
            if name in grads and rng.random() < 0.2:
                grads[name] = None
        steps.append(grads)
    return params, steps


def square(matrix):
    """As many of its rows as columns, or the other way round; None for None."""
    return None if matrix is None else matrix[: matrix.shape[1], : matrix.shape[0]].copy()


def stacked(steps):
    """Arrays by name, one dict for each step, as one array for each name."""
    return {name: np.stack([arrays[name] for arrays in steps]) for name in steps[0]}


def ours(row, **names):
    """Our optimizer of a row."""
    return eval(row["ours"], vars(fastoptim) | NUMBERS | names)


class Case:
    """A row of the table and one of the libraries in it."""

    def __init__(self, row, key):
        self.module = pytest.importorskip(MODULES[key], reason=f"compares with {key}, which is not installed")
        self.row, self.key = row, key
        excepted = {name for name in TABLE["exceptions"] if key in row.get(name, [])}
        self.changes = "constant_lr" not in excepted and "lr" in compile(row["ours"], row["ours"], "eval").co_names
        self.dtype = np.dtype("float32" if "float32" in excepted else "float64")
        nones = key in TORCH_LIKE and "every_step" not in excepted
        self.params, self.steps = problem(self.dtype, nones=nones, zeros="nonzero" not in excepted)
        self.steps = self.steps[:GROWING] if "growing" in excepted else self.steps
        self.in_full_precision = "bfloat16" in excepted
        if "matrices" in excepted:
            self.params = {name: p for name, p in self.params.items() if p.ndim == 2}
            self.steps = [{name: g for name, g in grads.items() if name in self.params} for grads in self.steps]
        if "square" in excepted:
            self.params = {name: square(p) for name, p in self.params.items()}
            self.steps = [{name: square(g) for name, g in grads.items()} for grads in self.steps]

    def theirs(self, **names):
        return eval(self.row[self.key], vars(self.module) | NUMBERS | names)

    def compare(self, theirs):
        """Compare our parameters after each step with theirs, which are stacked."""
        opt = ours(self.row, **({"lr": RATES.__getitem__} if self.changes else {}))
        steps = []
        for grads in self.steps:
            opt.update({name: self.params[name] for name in grads}, grads)
            steps.append({name: p.copy() for name, p in self.params.items()})
        for name, path in stacked(steps).items():
            assert_close(path, np.asarray(theirs[name]), f"{name}; indices are those of the step, then of the element")


def rows(*keys):
    """The cases of a test that takes a row and a library's key."""
    cases = [(row, key) for key in keys for row in TABLE["row"] if key in row]
    names = [f"{row['ours']} = {row[key]}, {key}" for row, key in cases]
    return pytest.mark.parametrize(("row", "key"), cases, ids=names)
