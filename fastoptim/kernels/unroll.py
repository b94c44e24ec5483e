"""Tuples of a length known at compile time: how one loop serves rules with any number of slots and scalars.

Each function here builds, by recursion in Python, a chain of tiny functions that numba inlines to nothing. They are
plain functions made callable from compiled code, because a closure over a compiled one never hits numba's cache.
"""

from collections.abc import Callable, Sequence
from typing import Any

from fastoptim.kernels.jit import jitable

Jitable = Callable[..., Any]


def _names(functions: Sequence[Jitable]) -> list[str]:
    return [function.__name__ for function in functions]


def cast(count: int) -> Jitable:
    """`(x, like) -> (x[0], ..., x[count - 1])`, each in the dtype of the array `like`."""
    if count == 0:
        return jitable(count)(lambda x, like: ())
    before, last = cast(count - 1), count - 1
    return jitable(count)(lambda x, like: before(x, like) + (like.dtype.type(x[last]),))


def load(loads: Sequence[Jitable]) -> Jitable:
    """`(arrays, i) -> (loads[0](arrays[0], i), loads[1](arrays[1], i), ...)`."""
    count = len(loads)
    if count == 0:
        return jitable(count)(lambda arrays, i: ())
    before, own, last = load(loads[:-1]), loads[-1], count - 1
    return jitable(*_names(loads))(lambda arrays, i: before(arrays, i) + (own(arrays[last], i),))


def store(stores: Sequence[Jitable]) -> Jitable:
    """`(arrays, i, values) -> None`, doing `stores[0](arrays[0], i, values[0])` and so on."""
    count = len(stores)
    if count == 0:
        return jitable(count)(lambda arrays, i, values: None)
    before, own, last = store(stores[:-1]), stores[-1], count - 1

    @jitable(*_names(stores))
    def every(arrays: Any, i: Any, values: Any) -> None:
        before(arrays, i, values)
        own(arrays[last], i, values[last])

    return every


def select(indices: Sequence[int]) -> Jitable:
    """`(values) -> (values[indices[0]], values[indices[1]], ...)`."""
    if not indices:
        return jitable("none")(lambda values: ())
    before, last = select(indices[:-1]), indices[-1]
    return jitable(*indices)(lambda values: before(values) + (values[last],))


def repeat(count: int) -> Jitable:
    """`(x) -> (x, x, ...)`, `count` times."""
    if count == 0:
        return jitable(count)(lambda x: ())
    before = repeat(count - 1)
    return jitable(count)(lambda x: before(x) + (x,))


def rows(count: int) -> Jitable:
    """`(matrix, start, stop) -> (matrix[0, start:stop], ..., matrix[count - 1, start:stop])`."""
    if count == 0:
        return jitable(count)(lambda matrix, start, stop: ())
    before, last = rows(count - 1), count - 1
    return jitable(count)(lambda matrix, start, stop: before(matrix, start, stop) + (matrix[last, start:stop],))
