"""Memory by its address, from compiled code: how one kernel call reaches any number of arrays."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic, register_jitable

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


@intrinsic
def _prefetch(typing_context: Any, address: Any) -> Any:
    """Have the processor bring a cache line into its second cache. There need not be any memory at the address."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        types_ = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], types_)
        read, second_cache, data = flag(0), flag(2), flag(1)
        builder.call(function, [builder.inttoptr(values[0], byte), read, second_cache, data])
        return context.get_dummy_value()

    return types.void(types.int64), generate


# For closures, which need a function around the intrinsic: numba pickles an intrinsic that a closure refers to under
# another name each time, so that the closure would never be found in the cache.


@register_jitable
def prefetch(address: Any, size: Any) -> None:
    """Have the processor bring so many bytes into its second cache."""
    for line in range(0, size, 64):
        _prefetch(address + line)


@register_jitable
def word_at(address: Any) -> Any:
    """The int64 at an address."""
    return load_word(address)
