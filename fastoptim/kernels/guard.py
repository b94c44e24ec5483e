"""Looks whether dicts of arrays are like those before, in one compiled call that reads NumPy's headers in memory.

In Python, one look at an array's dtype, shape, strides and address costs about half a microsecond: more than updating
it when it is small. CPython's `id` is an object's address, and the structs read here are what every compiled extension
has built in, part of the C ABIs of CPython (`PyTupleObject.ob_item`) and NumPy (`PyArrayObject_fields`,
`PyArray_Descr`). The guard accepts only what it knows to be good. Python checks everything else again, and raises
the errors.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import register_jitable
from numpy.lib.stride_tricks import as_strided

from fastoptim.kernels import jit, memory
from fastoptim.kernels.jit import compiled, have_ready, name_apart
from fastoptim.kernels.memory import WORD, load_word, store_word
from fastoptim.kernels.rule import fingerprint

Array = np.ndarray[Any, Any]

HEAD = object.__basicsize__  # the reference count, then the type
ITEMS = tuple.__basicsize__  # offset of a tuple's first item
TYPE = HEAD - WORD
DATA, NDIM, SHAPE, STRIDES, DTYPE, FLAGS = (HEAD + WORD * field for field in (0, 1, 2, 3, 5, 6))
SCALAR_TYPE, CHARACTERS = HEAD, HEAD + WORD  # of a dtype: np.float32 or so; then kind, type and byte order, a byte each
THREE_BYTES, INT = 0xFF_FFFF, 0xFFFF_FFFF
ALIGNED, WRITEABLE = 0x100, 0x400


class Expected(NamedTuple):
    """What an array has to be like, and where its address goes.

    Attributes:
        dtype, shape, strides: the array's.
        cell: address of the int64 that gets the array's address.
        needs_alignment: whether kernels work on the array itself.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    cell: int
    needs_alignment: bool

    @property
    def reach(self) -> tuple[int, int]:
        """The bytes from the array's address to its first and behind its last byte; both 0 without elements."""
        if 0 in self.shape:
            return 0, 0
        spans = [(size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True)]
        return sum(span for span in spans if span < 0), sum(span for span in spans if span > 0) + self.dtype.itemsize


# Columns of a guard's table, one row for each parameter and its gradient.
PARAM_CELL, PARAM_LOW, PARAM_HIGH, PARAM_ALIGNED, GRAD_CELL, GRAD_LOW, GRAD_HIGH, GRAD_ALIGNED, MAY_BE_SAME = range(9)
COLUMNS = 9


class Guard:
    """What `accept` holds new arrays against.

    Args:
        params, grads: what the parameters and their gradients are like.
        zeroing: whether gradients are written to.
    """

    def __init__(self, params: Sequence[Expected], grads: Sequence[Expected], zeroing: bool) -> None:
        rows = [
            (p.cell, *p.reach, p.needs_alignment, g.cell, *g.reach, g.needs_alignment,
             (p.dtype, p.strides) == (g.dtype, g.strides))
            for p, g in zip(params, grads, strict=True)
        ]  # fmt: skip
        count = len(rows)
        table = np.array(rows, np.int64).reshape(count, COLUMNS)
        extents = np.zeros((2 * count, 2), np.int64)
        likes = tuple(map(_alike, params)), tuple(map(_alike, grads))
        self._kept = table, extents, likes
        # One address: every argument of a compiled function costs 0.1 us, an array more.
        # And no constants: they would go into the cache, and addresses are others in the next process.
        addresses = id(np.ndarray), id(likes[0]), id(likes[1]), table.ctypes.data, extents.ctypes.data
        self._words = np.array([*addresses, count, zeroing], np.int64)
        self._address = int(self._words.ctypes.data)

    def accept(self, params: tuple[Any, ...], grads: tuple[Any, ...]) -> bool:
        """Whether the arrays are as expected and share no memory; if so, write their addresses into the cells.

        Both tuples have to be as long as those that the guard was made for.
        """
        accepted: bool = accept_arrays(id(params), id(grads), self._address)
        return accepted


def compile_guard() -> None:
    """Have the guard's function ready."""
    have_ready(accept_arrays, (types.int64, types.int64, types.int64), "the check of the arrays")


def _alike(expected: Expected) -> Array:
    """An array with such a header. Nobody may look at its elements: there is memory for one alone."""
    one = np.zeros(1, expected.dtype)
    return as_strided(one, expected.shape, expected.strides)


@register_jitable
def _same_dtype_and_layout(array: Any, like: Any) -> Any:
    dtype, expected, dimensions = load_word(array + DTYPE), load_word(like + DTYPE), load_word(like + NDIM) & INT
    if dtype != expected and (  # an unpickled array has a dtype object of its own
        load_word(dtype + SCALAR_TYPE) != load_word(expected + SCALAR_TYPE)
        or (load_word(dtype + CHARACTERS) ^ load_word(expected + CHARACTERS)) & THREE_BYTES
    ):
        return False
    if load_word(array + NDIM) & INT != dimensions:
        return False
    shape, like_shape = load_word(array + SHAPE), load_word(like + SHAPE)
    strides, like_strides = load_word(array + STRIDES), load_word(like + STRIDES)
    for i in range(0, dimensions * WORD, WORD):
        size = load_word(shape + i)
        if size != load_word(like_shape + i) or (size > 1 and load_word(strides + i) != load_word(like_strides + i)):
            return False
    return True


@register_jitable
def _sort(extents: Any, count: Any) -> None:
    """Sort pairs of words by the first one (Shell 1959)."""
    gap = count // 2
    while gap > 0:
        for i in range(gap, count):
            start, end = load_word(extents + i * 2 * WORD), load_word(extents + i * 2 * WORD + WORD)
            j = i
            while j >= gap and load_word(extents + (j - gap) * 2 * WORD) > start:
                store_word(extents + j * 2 * WORD, load_word(extents + (j - gap) * 2 * WORD))
                store_word(extents + j * 2 * WORD + WORD, load_word(extents + (j - gap) * 2 * WORD + WORD))
                j -= gap
            store_word(extents + j * 2 * WORD, start)
            store_word(extents + j * 2 * WORD + WORD, end)
        gap //= 2


@register_jitable
def _overlaps(extents: Any, count: Any, start: Any, end: Any) -> Any:
    """Whether sorted extents that are apart have one that overlaps from `start` to `end`."""
    before, after = 0, count
    while before < after:  # of those that begin before the end, only the last can
        middle = (before + after) // 2
        if load_word(extents + middle * 2 * WORD) < end:
            before = middle + 1
        else:
            after = middle
    return before > 0 and load_word(extents + (before * 2 - 1) * WORD) > start


@register_jitable
def _apart(params: Any, grads: Any, table: Any, extents: Any, count: Any, zeroing: Any) -> Any:
    """Whether no parameter shares memory with another array. A gradient that is its parameter itself is allowed.

    If gradients are set to zero, no array may share memory with any other.
    """
    found = 0
    for i in range(count):
        row = table + i * COLUMNS * WORD
        for column in range(PARAM_LOW, GRAD_LOW + 1, GRAD_LOW - PARAM_LOW):
            is_param = column == PARAM_LOW
            if is_param or zeroing:
                array = load_word((params if is_param else grads) + ITEMS + i * WORD)
                low, high = load_word(row + column * WORD), load_word(row + (column + 1) * WORD)
                if high > low:
                    store_word(extents + found * 2 * WORD, load_word(array + DATA) + low)
                    store_word(extents + found * 2 * WORD + WORD, load_word(array + DATA) + high)
                    found += 1
    _sort(extents, found)
    for i in range(1, found):
        if load_word(extents + (i * 2 - 1) * WORD) > load_word(extents + i * 2 * WORD):
            return False
    if zeroing:
        return True
    for i in range(count):
        row = table + i * COLUMNS * WORD
        param, grad = (
            load_word(load_word(params + ITEMS + i * WORD) + DATA),
            load_word(load_word(grads + ITEMS + i * WORD) + DATA),
        )
        low, high = load_word(row + GRAD_LOW * WORD), load_word(row + GRAD_HIGH * WORD)
        is_same = param == grad and load_word(row + MAY_BE_SAME * WORD)
        if high > low and not is_same and _overlaps(extents, found, grad + low, grad + high):
            return False
    return True


def _accept(params: int, grads: int, known: int) -> bool:
    ndarray, like_params, like_grads = load_word(known), load_word(known + WORD), load_word(known + 2 * WORD)
    table, extents = load_word(known + 3 * WORD), load_word(known + 4 * WORD)
    count, zeroing = load_word(known + 5 * WORD), load_word(known + 6 * WORD)
    is_new = False
    for i in range(count):
        item, row = ITEMS + i * WORD, table + i * COLUMNS * WORD
        p, g = load_word(params + item), load_word(grads + item)
        if load_word(p + TYPE) != ndarray or load_word(g + TYPE) != ndarray:
            return False
        if not _same_dtype_and_layout(p, load_word(like_params + item)):
            return False
        if not _same_dtype_and_layout(g, load_word(like_grads + item)):
            return False
        param_flags, grad_flags = load_word(p + FLAGS), load_word(g + FLAGS)
        if not param_flags & WRITEABLE or (zeroing and not grad_flags & WRITEABLE):
            return False
        if load_word(row + PARAM_ALIGNED * WORD) and not param_flags & ALIGNED:
            return False
        if load_word(row + GRAD_ALIGNED * WORD) and not grad_flags & ALIGNED:
            return False
        if load_word(p + DATA) != load_word(load_word(row + PARAM_CELL * WORD)):
            is_new = True
        if load_word(g + DATA) != load_word(load_word(row + GRAD_CELL * WORD)):
            is_new = True
    if is_new:
        if not _apart(params, grads, table, extents, count, zeroing):
            return False
        for i in range(count):
            item, row = ITEMS + i * WORD, table + i * COLUMNS * WORD
            store_word(load_word(row + PARAM_CELL * WORD), load_word(load_word(params + item) + DATA))
            store_word(load_word(row + GRAD_CELL * WORD), load_word(load_word(grads + item) + DATA))
    return True


name_apart(_accept, f"{fingerprint(memory, jit):x}")
accept_arrays = compiled(_accept, nogil=False)  # it reads Python's objects
