"""Tuples of a length known at compile time: how one loop serves rules with any number of slots and scalars.

Numba has no loop over a tuple of different functions or arrays. So these functions are written out as text, an
expression for each element, and evaluated. They are plain functions made callable from compiled code, because a closure
over a compiled one never hits numba's cache. Each is made once: a second kernel then finds it compiled.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from fastoptim.kernels.jit import jitable

Jitable = Callable[..., Any]


def unrolled(name: str, arguments: str, elements: Iterable[str], *content: object, **values: Any) -> Jitable:
    """`(arguments) -> (elements[0], elements[1], ...)`, where both are texts.

    Args:
        name: the function's name, for numba's messages and for whoever profiles.
        arguments: the names of the arguments, with commas between them.
        elements: an expression for each element of the tuple.
        content: what tells the function from others of its name.
        values: what other names in the elements are.
    """
    returned = "".join(f"{element}, " for element in elements)
    function = eval(f"lambda {', '.join(values)}: lambda {arguments}: ({returned})")(**values)
    function.__name__ = function.__qualname__ = name
    return jitable(*content)(function)


def of_each(name: str, arguments: str, element: str, functions: Sequence[Jitable], *content: object) -> Jitable:
    """The same with one expression for all, in which `{i}` counts the elements and `own` is the function of each."""
    own = {f"own{i}": function for i, function in enumerate(functions)}
    elements = (element.replace("own", f"own{i}").format(i=i) for i in range(len(functions)))
    return unrolled(name, arguments, elements, *(each.__name__ for each in functions), *content, **own)


@cache
def cast(count: int) -> Jitable:
    """`(x, like) -> (x[0], ..., x[count - 1])`, each in the dtype of the array `like`."""
    return unrolled("cast", "x, like", (f"like.dtype.type(x[{i}])" for i in range(count)), count)


@cache
def load(loads: tuple[Jitable, ...]) -> Jitable:
    """`(arrays, i) -> (loads[0](arrays[0], i), loads[1](arrays[1], i), ...)`."""
    return of_each("load", "arrays, i", "own(arrays[{i}], i)", loads)


@cache
def store(stores: tuple[Jitable, ...]) -> Jitable:
    """`(arrays, i, values)`, doing `stores[0](arrays[0], i, values[0])` and so on."""
    return of_each("store", "arrays, i, values", "own(arrays[{i}], i, values[{i}])", stores)


@cache
def select(indices: tuple[int, ...]) -> Jitable:
    """`(values) -> (values[indices[0]], values[indices[1]], ...)`."""
    return unrolled("select", "values", (f"values[{i}]" for i in indices), *indices)


@cache
def repeat(count: int) -> Jitable:
    """`(x) -> (x, x, ...)`, `count` times."""
    return unrolled("repeat", "x", ["x"] * count, count)


@cache
def rows(count: int) -> Jitable:
    """`(matrix, start, stop) -> (matrix[0, start:stop], ..., matrix[count - 1, start:stop])`."""
    return unrolled("rows", "matrix, start, stop", (f"matrix[{i}, start:stop]" for i in range(count)), count)
