"""Checks dicts of arrays in one compiled call, by reading the headers of the NumPy arrays in memory.

In Python, one look at an array's dtype, shape, strides and address costs about half a microsecond: more than updating
it when it is small. CPython's `id` is an object's address, and the structs read here are what every compiled extension
has built in, part of the C ABIs of CPython (`PyTupleObject.ob_item`) and NumPy (`PyArrayObject_fields`,
`PyArray_Descr`). `Known.accept` says yes only to what it knows to be good; all else is looked at again in Python, where
errors are raised.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba.extending import register_jitable
from numpy.lib.array_utils import byte_bounds

from fastoptim.kernels import jit, memory
from fastoptim.kernels.jit import compiled, name_apart
from fastoptim.kernels.memory import array_at
from fastoptim.kernels.rule import fingerprint

Array = np.ndarray[Any, Any]

WORD = 8
HEAD = object.__basicsize__  # the reference count, then the type
ITEMS = tuple.__basicsize__  # offset of a tuple's first item
TYPE = HEAD - WORD
DATA, NDIM, SHAPE, STRIDES, DTYPE, FLAGS = (HEAD + WORD * field for field in (0, 1, 2, 3, 5, 6))
SCALAR_TYPE, CHARACTERS = HEAD, HEAD + WORD  # of a dtype: np.float32 or so; then kind, type and byte order, a byte each
THREE_BYTES, INT = 0xFF_FFFF, 0xFFFF_FFFF
ALIGNED, WRITEABLE = 0x100, 0x400
WORDS = np.empty(0, np.int64)


@register_jitable
def _word(address: Any) -> Any:
    return array_at(address, WORDS, 1)[0]


@register_jitable
def _same_dtype_and_layout(array: Any, like: Any) -> Any:
    dtype, expected, dimensions = _word(array + DTYPE), _word(like + DTYPE), _word(like + NDIM) & INT
    if dtype != expected and (  # an unpickled array has a dtype object of its own
        _word(dtype + SCALAR_TYPE) != _word(expected + SCALAR_TYPE)
        or (_word(dtype + CHARACTERS) ^ _word(expected + CHARACTERS)) & THREE_BYTES
    ):
        return False
    if _word(array + NDIM) & INT != dimensions:
        return False
    shapes, strides = (_word(array + SHAPE), _word(like + SHAPE)), (_word(array + STRIDES), _word(like + STRIDES))
    for i in range(0, dimensions * WORD, WORD):
        size = _word(shapes[0] + i)
        if size != _word(shapes[1] + i) or (size > 1 and _word(strides[0] + i) != _word(strides[1] + i)):
            return False
    return True


class Known:
    """What `accept` holds new arrays against: parameters that were checked in Python, each aligned and dense.

    Args:
        params: the parameters; no two overlap.
        rows: each one's row in the spans table.
        column: address of the gradients' column in that table's first row, and the bytes from row to row.
        zeroing: whether gradients are written to: then only those are good that are where they were before.
    """

    def __init__(self, params: tuple[Array, ...], rows: Sequence[int], column: tuple[int, int], zeroing: bool) -> None:
        extents = np.array(sorted(byte_bounds(param) for param in params if param.size), np.int64)
        # What the parameters looked like: nobody else has these views, so that their headers stay as they are.
        views = tuple(param.view(np.ndarray) for param in params)
        places = np.array(
            [(column[0] + row * column[1], p.nbytes) for row, p in zip(rows, params, strict=True)], np.int64
        )
        self._kept = params, views, places, extents
        # One array, because each argument of a compiled function costs 0.1 us. And no constants: they would go into
        # the cache, and addresses are others in the next process.
        addresses = id(np.ndarray), id(params), id(views), places.ctypes.data, extents.ctypes.data
        self._words = np.array([*addresses, len(params), len(extents), zeroing], np.int64)

    def accept(self, params: tuple[Any, ...], grads: tuple[Any, ...]) -> bool:
        """Whether nothing has changed that matters; if so, write the gradients' addresses into the spans table."""
        accepted: bool = _accept(id(params), id(grads), self._words)
        return accepted


def _accept(params: int, grads: int, known: Any) -> bool:
    ndarray, bound, views, places, extents, count, extent_count, zeroing = known
    for i in range(count):
        item = ITEMS + i * WORD
        p, g, view = _word(params + item), _word(grads + item), _word(views + item)
        own = _word(view + DATA)
        if p != _word(bound + item) or _word(p + DATA) != own or not _word(p + FLAGS) & WRITEABLE:
            return False
        if _word(g + TYPE) != ndarray or not _word(g + FLAGS) & ALIGNED:
            return False
        if not (_same_dtype_and_layout(p, view) and _same_dtype_and_layout(g, view)):
            return False
        place = places + i * 2 * WORD
        start = _word(g + DATA)
        if zeroing and (start != _word(_word(place)) or not _word(g + FLAGS) & WRITEABLE):
            return False
        if start != own:
            # Of the parameters that begin before the gradient's end, only the last can overlap it.
            end = start + _word(place + WORD)
            before, after = 0, extent_count
            while before < after:
                middle = (before + after) // 2
                if _word(extents + middle * 2 * WORD) < end:
                    before = middle + 1
                else:
                    after = middle
            if before > 0 and _word(extents + (before * 2 - 1) * WORD) > start:
                return False
        array_at(_word(place), WORDS, 1)[0] = start
    return True


name_apart(_accept, f"{fingerprint(memory, jit):x}")
_accept = compiled(_accept, nogil=False)  # it reads Python's objects
