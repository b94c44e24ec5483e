"""Tuples of a length known at compile time: how one loop serves rules with any number of slots and scalars.

Each function here builds, by recursion in Python, a chain of tiny functions that numba inlines to nothing. They are
plain functions made callable from compiled code, because a closure over a compiled one never hits numba's cache.
"""

from collections.abc import Callable
from typing import Any

from fastoptim.kernels.jit import jitable

Jitable = Callable[..., Any]


def cast(count: int) -> Jitable:
    """`(x, like) -> (x[0], ..., x[count - 1])`, each in the dtype of the array `like`."""
    if count == 0:
        return jitable(count)(lambda x, like: ())
    before, last = cast(count - 1), count - 1
    return jitable(count)(lambda x, like: before(x, like) + (like.dtype.type(x[last]),))


def load(count: int) -> Jitable:
    """`(rows, i) -> (rows[0][i], ..., rows[count - 1][i])`."""
    if count == 0:
        return jitable(count)(lambda rows, i: ())
    before, last = load(count - 1), count - 1
    return jitable(count)(lambda rows, i: before(rows, i) + (rows[last][i],))


def store(count: int) -> Jitable:
    """`(rows, i, values) -> None`, doing `rows[0][i] = values[0]` and so on."""
    if count == 0:
        return jitable(count)(lambda rows, i, values: None)
    before, last = store(count - 1), count - 1

    @jitable(count)
    def every(rows: Any, i: Any, values: Any) -> None:
        before(rows, i, values)
        rows[last][i] = values[last]

    return every
