"""Memory by its address, from compiled code: how one kernel call reaches any number of arrays."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic, register_jitable

from fastoptim.kernels.jit import jitable


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


def rows_at(count: int) -> Callable[..., Any]:
    """`(address, stride, like, size) -> ` a tuple of `count` arrays as of `array_at`, `stride` bytes apart."""
    if count == 0:
        return jitable(count)(lambda address, stride, like, size: ())
    before, last = rows_at(count - 1), count - 1

    @jitable(count)
    def every(address: Any, stride: Any, like: Any, size: Any) -> Any:
        return before(address, stride, like, size) + (array_at(address + last * stride, like, size),)

    return every
