"""Loads from and stores to a GPU's memory by address, in compiled code; and their stand-ins in Numba's simulator."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import register_jitable

from fastoptim.kernels.cuda.driver import numba_cuda
from fastoptim.kernels.storage import Storage
from fastoptim.kernels.table import GRAD, PARAM
from fastoptim.kernels.unroll import unrolled

Array = np.ndarray[Any, Any]

cuda = numba_cuda()  # if it is missing, the error here says what to install
SIMULATED = bool(cuda.config.ENABLE_CUDASIM)
VECTOR = 16  # bytes: the widest access of a thread
INT64 = np.dtype(np.int64)
I32 = ir.IntType(32)


def device_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that asks which thread it is, or synchronizes threads, for kernels of other modules, too."""
    return cuda.jit(function, device=True) if SIMULATED else register_jitable(function)


def word_loader(storages: Sequence[Storage], width: int) -> Callable[..., Any]:
    """`load(addresses, i) -> ` elements `i` to `i + width - 1`, each a tuple with a word of every operand.

    `addresses` is a tuple with the address of every operand's element 0. Loads are aligned to `width` elements.

    This is an intrinsic because numba-cuda offers no 128-bit access, and NVVM does not join narrower ones while arrays
    may overlap.
    """
    if SIMULATED:
        return lambda addresses, i: list(zip(*_simulated_arrays(addresses, i, storages, width), strict=True))
    operands, element = len(storages), words_type(storages)

    @cuda.extending.intrinsic
    def load(typing_context: Any, addresses: Any, i: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            vectors = []
            for operand, storage in enumerate(storages):
                pointer = _pointer(context, builder, values, operand, storage, width)
                vector = builder.load(pointer, align=_align(storage, width))
                vectors.append(_unpacked(builder, vector, storage, width))
            tuples = [context.make_tuple(builder, element, lane) for lane in zip(*vectors, strict=True)]
            return context.make_tuple(builder, signature.return_type, tuples)

        return types.UniTuple(element, width)(types.UniTuple(types.int64, operands), types.int64), generate

    return load


def word_storer(
    storages: Sequence[Storage], width: int, written: Sequence[int], zero_grads: bool
) -> Callable[..., Any]:
    """`store(addresses, i, words) -> None`, the reverse of `word_loader`.

    Each element of `words` has a word of every operand that is written. The gradient is left alone or set to zero.
    """
    if not written and not zero_grads:
        return register_jitable(lambda addresses, i, words: None)
    if SIMULATED:

        def simulated_store(addresses: Any, i: int, words: list[Any]) -> None:
            arrays = _simulated_arrays(addresses, i, storages, width)
            for operand, numbers in zip(written, zip(*words, strict=True), strict=True):
                arrays[operand][:] = numbers
            if zero_grads:
                arrays[GRAD][:] = 0

        return simulated_store
    operands = len(storages)
    new = types.UniTuple(words_type([storages[column] for column in written]), width)

    @cuda.extending.intrinsic
    def store(typing_context: Any, addresses: Any, i: Any, words: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            for column, operand in enumerate(written):
                storage = storages[operand]
                pointer = _pointer(context, builder, values, operand, storage, width)
                own = [builder.extract_value(values[2], (lane, column)) for lane in range(width)]
                vector = _packed(builder, own, storage, pointer.type.pointee)
                builder.store(vector, pointer, align=_align(storage, width))
            if zero_grads:
                pointer = _pointer(context, builder, values, GRAD, storages[GRAD], width)
                builder.store(pointer.type.pointee(None), pointer, align=_align(storages[GRAD], width))
            return context.get_dummy_value()

        return types.void(types.UniTuple(types.int64, operands), types.int64, new), generate

    return store


def words_type(storages: Sequence[Storage]) -> Any:
    """The type of a tuple with a word of each operand."""
    return types.BaseTuple.from_types([_number(storage.word) for storage in storages])


def vector_width(storages: Sequence[Storage]) -> int:
    """How many elements a thread loads at once: `VECTOR` bytes where they lie in memory as they are computed with.

    More of narrower ones would not become one access: the compiler makes two vectors of eight words of 16 bits.
    """
    return VECTOR // storages[PARAM].computed.itemsize


def alignment(storages: Sequence[Storage], width: int) -> Callable[..., Any]:
    """`(addresses, i) -> ` whether vectors of all operands that begin at element `i` are aligned."""
    rests = (
        f"((addresses[{column}] + i * {storage.itemsize}) & {_align(storage, width) - 1})"
        for column, storage in enumerate(storages)
    )
    content = width, *(storage.itemsize for storage in storages)
    every = unrolled("misaligned", "addresses, i", [" | ".join(rests)], *content)
    return register_jitable(lambda addresses, i: every(addresses, i)[0] == 0)


def reader(dtype: np.dtype[Any], count: int) -> Callable[..., Any]:
    """`(address) -> ` a tuple of the `count` numbers there."""
    if SIMULATED:
        return lambda address: tuple(simulated_array(address, dtype, count))
    element = _number(dtype)

    @cuda.extending.intrinsic
    def read(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            pointer = builder.inttoptr(values[0], context.get_value_type(element).as_pointer(addrspace=1))
            places = [builder.gep(pointer, [ir.IntType(32)(i)]) for i in range(count)]
            numbers = [builder.load(place, align=dtype.itemsize) for place in places]
            return context.make_tuple(builder, signature.return_type, numbers)

        return types.UniTuple(element, count)(types.int64), generate

    return read


def writer(dtype: np.dtype[Any]) -> Callable[..., Any]:
    """`(address, number) -> None`, storing the number there."""
    if SIMULATED:

        def simulated_write(address: int, number: Any) -> None:
            simulated_array(address, dtype, 1)[0] = number

        return simulated_write
    element = _number(dtype)

    @cuda.extending.intrinsic
    def write(typing_context: Any, address: Any, number: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            pointer = builder.inttoptr(values[0], context.get_value_type(element).as_pointer(addrspace=1))
            builder.store(values[1], pointer, align=dtype.itemsize)
            return context.get_dummy_value()

        return types.void(types.int64, element), generate

    return write


def simulated_array(address: int, dtype: np.dtype[Any], count: int, align: int | None = None) -> Array:
    """The host's memory at an address: the simulator works on that."""
    assert address % (align or dtype.itemsize) == 0, "misaligned access"
    memory: Any = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(int(address))
    return np.ndarray(count, dtype, memory)


def _simulated_arrays(addresses: Any, i: int, storages: Sequence[Storage], width: int) -> list[Array]:
    return [
        simulated_array(address + i * storage.itemsize, storage.word, width, _align(storage, width))
        for address, storage in zip(addresses, storages, strict=True)
    ]


def _number(dtype: np.dtype[Any]) -> Any:
    return getattr(types, dtype.name)


def _align(storage: Storage, width: int) -> int:
    return storage.itemsize * width


def _is_packed(storage: Storage, width: int) -> bool:
    """Whether a vector is accessed as one integer: of narrow words, the compiler would make several accesses."""
    return storage.itemsize < 4 and 1 < width <= 8 // storage.itemsize


def _unpacked(builder: Any, vector: Any, storage: Storage, width: int) -> list[Any]:
    """The words of a vector."""
    if width == 1:
        return [vector]
    if not _is_packed(storage, width):
        return [builder.extract_element(vector, I32(lane)) for lane in range(width)]
    bits = 8 * storage.itemsize
    return [builder.trunc(builder.lshr(vector, vector.type(lane * bits)), ir.IntType(bits)) for lane in range(width)]


def _packed(builder: Any, words: Sequence[Any], storage: Storage, kind: Any) -> Any:
    """The reverse: a vector of a type of LLVM."""
    if len(words) == 1:
        return words[0]
    if not _is_packed(storage, len(words)):
        vector = kind(ir.Undefined)
        for lane, word in enumerate(words):
            vector = builder.insert_element(vector, word, I32(lane))
        return vector
    vector = kind(0)
    for lane, word in enumerate(words):
        part = builder.shl(builder.zext(word, kind), kind(lane * 8 * storage.itemsize))
        vector = builder.or_(vector, part)
    return vector


def _pointer(context: Any, builder: Any, values: Any, operand: int, storage: Storage, width: int) -> Any:
    """A pointer to an operand's elements; `values` begins with all addresses and the number of the first element."""
    word = context.get_value_type(_number(storage.word))
    if _is_packed(storage, width):
        elements = ir.IntType(8 * storage.itemsize * width)
    else:
        elements = word if width == 1 else ir.VectorType(word, width)
    byte = builder.mul(values[1], values[1].type(storage.itemsize))
    address = builder.add(builder.extract_value(values[0], operand), byte)
    return builder.inttoptr(address, elements.as_pointer(addrspace=1))
