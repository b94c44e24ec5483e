"""A GPU's memory by its address, from compiled code, and what stands for it in numba's simulator."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from fastoptim.kernels import cuda_code
from fastoptim.kernels.cpu import Array
from fastoptim.kernels.extras import NOTHING, Extras

cuda = cuda_code.numba_cuda()  # a RuntimeError that says what to install, before anything else can go wrong
SIMULATED = bool(cuda.config.ENABLE_CUDASIM)
VECTOR = 16  # bytes that a thread loads and stores at once: the widest there is
INT64 = np.dtype(np.int64)


def elements(
    slots: int, dtype: np.dtype[Any], width: int, extras: Extras = NOTHING
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`load(param, grad, state, slot_bytes, average)`, the lanes of `width` elements, and
    `store(param, grad, state, slot_bytes, average, updated)`.

    Intrinsics, as there is no other way to 128-bit accesses: contiguous ones are not joined where arrays might overlap.
    """
    if SIMULATED:
        return _simulated_elements(slots, dtype, width, extras)
    element, align = getattr(types, dtype.name), dtype.itemsize * width
    behind = slots + extras.average
    old, new = types.UniTuple(element, 2 + behind), types.UniTuple(element, 1 + behind)

    def pointers(context: Any, builder: Any, first: Sequence[Any], state: Any, slot_bytes: Any, average: Any) -> Any:
        number = context.get_value_type(element)
        whole = number if width == 1 else ir.VectorType(number, width)
        rows = [builder.add(state, builder.mul(slot_bytes, slot_bytes.type(row))) for row in range(slots)]
        addresses = (*first, *rows, *[average] * extras.average)
        return [builder.inttoptr(address, whole.as_pointer(addrspace=1)) for address in addresses]

    @cuda.extending.intrinsic
    def load(typing_context: Any, param: Any, grad: Any, state: Any, slot_bytes: Any, average: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            wholes = [builder.load(x, align=align) for x in pointers(context, builder, values[:2], *values[2:])]
            lanes = [
                wholes if width == 1 else [builder.extract_element(x, ir.IntType(32)(lane)) for x in wholes]
                for lane in range(width)
            ]
            tuples = [context.make_tuple(builder, old, lane) for lane in lanes]
            return context.make_tuple(builder, signature.return_type, tuples)

        return types.UniTuple(old, width)(*(types.int64,) * 5), generate

    @cuda.extending.intrinsic
    def store(
        typing_context: Any, param: Any, grad: Any, state: Any, slot_bytes: Any, average: Any, updated: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            gradient, *others = pointers(context, builder, (values[1], values[0]), *values[2:5])
            for row, pointer in enumerate(others):
                numbers = [builder.extract_value(values[5], (lane, row)) for lane in range(width)]
                whole = numbers[0] if width == 1 else pointer.type.pointee(ir.Undefined)
                for lane, number in enumerate(numbers if width > 1 else []):
                    whole = builder.insert_element(whole, number, ir.IntType(32)(lane))
                builder.store(whole, pointer, align=align)
            if extras.zero:
                builder.store(gradient.type.pointee(None), gradient, align=align)
            return context.get_dummy_value()

        return types.void(*(types.int64,) * 5, types.UniTuple(new, width)), generate

    return load, store


def numbers_at(dtype: np.dtype[Any], count: int) -> Callable[..., Any]:
    """`(address) -> ` a tuple of the `count` numbers there."""
    if SIMULATED:
        return lambda address: tuple(simulated_array(address, dtype, count))
    element = getattr(types, dtype.name)

    @cuda.extending.intrinsic
    def read(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            pointer = builder.inttoptr(values[0], context.get_value_type(element).as_pointer(addrspace=1))
            places = [builder.gep(pointer, [ir.IntType(32)(i)]) for i in range(count)]
            numbers = [builder.load(place, align=dtype.itemsize) for place in places]
            return context.make_tuple(builder, signature.return_type, numbers)

        return types.UniTuple(element, count)(types.int64), generate

    return read


def simulated_array(address: int, dtype: np.dtype[Any], count: int) -> Array:
    """The host's memory at an address, which is what the simulator works on."""
    assert address % (dtype.itemsize if count != VECTOR // dtype.itemsize else VECTOR) == 0, "misaligned access"
    return np.ctypeslib.as_array((ctypes.c_uint8 * (count * dtype.itemsize)).from_address(int(address))).view(dtype)


def _simulated_elements(
    slots: int, dtype: np.dtype[Any], width: int, extras: Extras
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def arrays(first: Sequence[int], state: int, slot_bytes: int, average: int) -> list[Array]:
        rows = (*first, *(state + row * slot_bytes for row in range(slots)), *[average] * extras.average)
        return [simulated_array(row, dtype, width) for row in rows]

    def load(param: int, grad: int, state: int, slot_bytes: int, average: int) -> list[tuple[Any, ...]]:
        return list(zip(*arrays((param, grad), state, slot_bytes, average), strict=True))

    def store(param: int, grad: int, state: int, slot_bytes: int, average: int, updated: list[Any]) -> None:
        rows = arrays((param,), state, slot_bytes, average)
        for row, numbers in zip(rows, zip(*updated, strict=True), strict=True):
            row[:] = numbers
        if extras.zero:
            simulated_array(grad, dtype, width)[:] = 0

    return load, store
