"""The end of a block: its new numbers, which are in scratch memory, become codes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, register_jitable

from fastoptim.kernels.codes import CODED, LIKE_CODES, LIKE_NUMBERS, factor_of, scale_of
from fastoptim.kernels.halves import random_bits
from fastoptim.kernels.jit import jitable
from fastoptim.kernels.memory import WORD, array_at, word_at
from fastoptim.kernels.random import BITS, bits_of
from fastoptim.kernels.storage import F4, Storage
from fastoptim.kernels.unroll import unrolled

MIDDLE = np.uint32(2**31)  # the random number that rounds to the nearest
PLACE = "row, start, size, room"


@register_jitable
def coded_at(address: Any, start: Any, size: Any, room: Any) -> Any:
    """An operand of codes, from element `start` on, which is the first of a block; `room` has its scratch memory."""
    scale = array_at(scale_of(address, start), LIKE_NUMBERS, 1)[0]
    return array_at(address + start, LIKE_CODES, size), scale, array_at(room, LIKE_NUMBERS, size)


def place_of(storages: Sequence[Storage], column: int) -> str:
    """An expression for the arguments of `coded_at`, for the operand of a column, in a function of `PLACE`."""
    number = sum(storage.codes is not None for storage in storages[:column])
    return f"word_at(row + {column * WORD}), start, size, room + {number * CODED * F4.itemsize}"


@register_jitable
def _put(codes: Any, i: Any, code: Any) -> None:
    codes[i] = code


@register_jitable
def _nearest(i: Any, first: Any, key: Any) -> Any:
    return MIDDLE


def encoder(storages: Sequence[Storage], written: Sequence[int], numbers: Mapping[int, int]) -> Callable[..., Any]:
    """`(row, start, size, room, key, first)`: encode the new numbers of a block, of all operands that are written.

    Args:
        storages: of all operands.
        written: the columns of those that are written.
        numbers: what tells their random bits apart, by column, see `random_numbers`; none where codes are rounded to
            the nearest. At random, `key` is that of the block's chunk, and `first` the place of its first element
            there.
    """
    own = [(column, codes) for column in written if (codes := storages[column].codes) is not None]
    if not own:
        return jitable("nothing")(lambda row, start, size, room, key, first: None)
    places = [place_of(storages, column) for column, _ in own]
    bits = [bits_of(numbers[column]) if numbers else "random" for column, _ in own]
    content = *(column for column, _ in own), *(storage.name for storage in storages if storage.codes), *numbers
    names: dict[str, Any] = {"word_at": word_at, "coded_at": coded_at, **BITS}
    names |= {f"top{i}": codes.limit(bool(numbers)) for i, (_, codes) in enumerate(own)} | {"factor_of": factor_of}
    names |= {f"encode{i}": codes.encode for i, (_, codes) in enumerate(own)}
    each = range(len(own))
    factors_at = unrolled("factors", PLACE, (f"factor_of({places[i]}, top{i})" for i in each), *content, **names)
    operands_at = unrolled("coded", PLACE, (f"coded_at({places[i]})" for i in each), *content, **names)
    stores = (f"put(operands[{i}][0], i, encode{i}(operands[{i}][2][i], factors[{i}], {bits[i]}))" for i in each)
    encode = unrolled("encode", "operands, i, factors, random", stores, *content, put=_put, **names)
    random_at = random_bits if numbers else _nearest

    @jitable(*content)
    def encode_block(row: Any, start: Any, size: Any, room: Any, key: Any, first: Any) -> None:
        factors = factors_at(row, start, size, room)
        operands = operands_at(row, start, size, room)
        for i in range(size):
            encode(operands, i, factors, random_at(i, first, key))

    return encode_block


@intrinsic
def _allocate(typing_context: Any, size: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.ptrtoint(context.nrt.allocate(builder, values[0]), ir.IntType(64))

    return types.int64(types.int64), lower


@intrinsic
def _free(typing_context: Any, address: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        context.nrt.free(builder, builder.inttoptr(values[0], ir.IntType(8).as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64), lower


# An array of NumPy would be counted, with a locked instruction, for each function that it goes through.


@register_jitable
def new_room(count: Any) -> Any:
    """The address of scratch memory for the new numbers of a block of so many operands; 0 for none."""
    return _allocate(count * CODED * 4) if count else 0


@register_jitable
def free_room(address: Any) -> None:
    """Give it back."""
    if address:
        _free(address)
