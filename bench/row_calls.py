"""Ways of `bench.ways`: gradients of some rows, with ours, PyTorch's SparseAdam, plain NumPy and a copy loop."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import cycle
from typing import Any

import numba
import numpy as np
from numba import njit, prange

import fastoptim
from bench.calls import Calls, Way

LR, BATCHES = 1e-3, 50
FEW, MANY = (50_000, 100, 200), (1_000_000, 64, 8192)  # rows, columns, and gradients in a batch


def drawn(rows: int, columns: int, count: int) -> tuple[Any, list[Any], Any]:
    """A parameter, the indices of batches, of which a tenth occur twice, and the gradients, which are in the cache."""
    rng = np.random.default_rng(0)
    param, values = (rng.standard_normal((n, columns), np.float32) for n in (rows, count))
    indices = [rng.integers(0, rows, count) for _ in range(BATCHES)]
    for each in indices:
        each[: count // 10] = each[-(count // 10) :]
    return param, indices, values


def in_turn(batches: list[Any], step: Callable[[Any], object]) -> Calls:
    """A step with one batch after another."""
    turns = cycle(batches)
    return Calls(lambda: step(next(turns)))


def ours(*work: int) -> Calls:
    """Our Adam, with the gradients of a batch as `Rows`."""
    param, indices, values = drawn(*work)
    opt, params = fastoptim.Adam(LR), {"E": param}
    return in_turn(indices, lambda own: opt.update(params, {"E": fastoptim.Rows(own, values)}))


def every_row(*work: int, as_rows: bool) -> Calls:
    """Our Adam, with a gradient of all rows."""
    param, _, _ = drawn(*work)
    grad = np.full_like(param, 0.01)
    rows = fastoptim.Rows(np.arange(len(param)), grad) if as_rows else grad
    opt, params = fastoptim.Adam(LR), {"E": param}
    return Calls(lambda: opt.update(params, {"E": rows}))


def plain(*work: int) -> Calls:
    """NumPy on the rows that there are, each once."""
    param, indices, values = drawn(*work)
    m, v, steps = np.zeros_like(param), np.zeros_like(param), np.zeros(len(param), np.int64)
    a, b, eps = np.float32(0.1), np.float32(0.001), np.float32(1e-8)

    def step(own: Any) -> None:
        rows, places = np.unique(own, return_inverse=True)
        g = np.zeros((len(rows), values.shape[1]), np.float32)
        np.add.at(g, places, values)
        steps[rows] += 1
        m[rows] += a * (g - m[rows])
        v[rows] += b * (g * g - v[rows])
        t = steps[rows, None]
        size = (LR * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)).astype(np.float32)
        param[rows] -= size * m[rows] / (np.sqrt(v[rows]) + eps)

    return in_turn(indices, step)


def torch(*work: int) -> Calls:
    """PyTorch's SparseAdam."""
    library: Any = import_module("torch")
    library.set_num_threads(numba.get_num_threads())
    param, indices, values = drawn(*work)
    tensor = library.nn.Parameter(library.from_numpy(param))
    own = library.from_numpy(values)
    sparse = partial(library.sparse_coo_tensor, size=param.shape, check_invariants=False)
    grads = [sparse(library.from_numpy(each[None]), own) for each in indices]
    optimizer = library.optim.SparseAdam([tensor], LR)

    def step(grad: Any) -> None:
        tensor.grad = grad
        optimizer.step()

    return in_turn(grads, step)


def _copy(param: Any, m: Any, v: Any, source: Any, target: Any, rows: Any) -> None:
    for i in prange(rows.size):
        row = rows[i]
        for j in range(param.shape[1]):
            target[i, 0, j], target[i, 1, j], target[i, 2, j] = param[row, j], m[row, j], v[row, j]
        for j in range(param.shape[1]):
            param[row, j], m[row, j], v[row, j] = source[i, 0, j], source[i, 1, j], source[i, 2, j]


def copies(*work: int) -> Calls:
    """Rows of three arrays are read, and others written in their place, in parallel."""
    param, indices, _ = drawn(*work)
    m, v, copy = np.zeros_like(param), np.zeros_like(param), njit(_copy, parallel=True)
    source, target = np.ones((2, work[2], 3, work[1]), np.float32)
    return in_turn([np.unique(own) for own in indices], lambda rows: copy(param, m, v, source, target, rows))


ROWS = {}
for _name, _work in {"200 of 50,000 x 100": FEW, "8,192 of 1M x 64": MANY}.items():
    ROWS[f"rows, {_name}"] = Way(partial(ours, *_work))
    ROWS[f"rows, {_name}, NumPy"] = Way(partial(plain, *_work))
    ROWS[f"rows, {_name}, copied"] = Way(partial(copies, *_work))
    if find_spec("torch"):
        ROWS[f"rows, {_name}, PyTorch"] = Way(partial(torch, *_work))
ROWS |= {
    "rows, all of 1M x 64": Way(partial(every_row, *MANY, as_rows=True)),
    "rows, all of 1M x 64, dense": Way(partial(every_row, *MANY, as_rows=False)),
}
