"""Memory by its address, from compiled code: how one kernel call reaches any number of arrays."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic, register_jitable

from fastoptim.kernels.storage import Storage
from fastoptim.kernels.unroll import unrolled

WORD = 8  # bytes of an int64
WORDS = np.empty(0, np.int64)


@intrinsic
def _pointer(typing_context: Any, address: Any, like: Any) -> Any:
    """The int64 `address` as a pointer to elements of the dtype of the array `like`."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(types.int64, like), generate


@register_jitable
def array_at(address: Any, like: Any, size: Any) -> Any:
    """The 1-D array of `size` elements, of the dtype of `like`, that begins at `address`. Nothing is checked."""
    return carray(_pointer(address, like), (size,))


@intrinsic
def load_word(typing_context: Any, address: Any) -> Any:
    """The int64 at an address."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        return builder.load(builder.inttoptr(values[0], ir.IntType(64).as_pointer()))

    return types.int64(types.int64), generate


@intrinsic
def store_word(typing_context: Any, address: Any, value: Any) -> Any:
    """Write the int64 at an address."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        builder.store(values[1], builder.inttoptr(values[0], ir.IntType(64).as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


# For closures, which need a function around the intrinsic: numba pickles an intrinsic that a closure refers to under
# another name each time, so that the closure would never be found in the cache.


@register_jitable
def word_at(address: Any) -> Any:
    """The int64 at an address."""
    return load_word(address)


@cache
def operands_at(storages: tuple[Storage, ...]) -> Callable[..., Any]:
    """`(row, start, size) -> ` a tuple of the operands' arrays of `size` elements, from element `start` on.

    `row` is the address of a row of a table; its first words are the operands' addresses.
    """
    like = {f"like{i}": np.empty(0, storage.word) for i, storage in enumerate(storages)}
    elements = [
        f"array_at(word_at(row + {i * WORD}) + start * {storage.itemsize}, like{i}, size)"
        for i, storage in enumerate(storages)
    ]
    codes = (storage.dtype.char for storage in storages)
    return unrolled("operands", "row, start, size", elements, *codes, array_at=array_at, word_at=word_at, **like)
