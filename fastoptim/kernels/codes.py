"""State in 8 bits: blocks of elements share a scale, and each element is a small float of its own, its code.

A code is the upper bits of a number between `LEAST` and 2, so that shifts and one subtraction decode it: no table is
looked up, and loops vectorise. A slot of signed numbers has a sign, 4 bits of exponent and 3 of mantissa. Of numbers
that are never negative, the root is coded, with 4 bits of each: so v of Adam has the range of its root.

A pass decodes as it loads. What it stores goes to scratch memory, from where a block is encoded when it is done: its
scale follows from the largest of its new numbers.
"""

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, register_jitable

from fastoptim.kernels.halves import F32, I32, SIGN
from fastoptim.kernels.memory import array_at
from fastoptim.kernels.storage import F4, Codes, Storage

I8 = ir.IntType(8)
BYTES = np.dtype(np.uint8)
CODED = 256  # elements of a block that share a scale
FEWEST = 4096  # elements of a parameter whose state has codes: less would save little, and lose as much
LEAST = 2.0**-15  # what is added to a number before its upper bits are taken, so that zero has the code 0
LOWEST = int(np.float32(LEAST).view(np.int32))  # its bits
OF_SIGNED, OF_ROOTS = 20, 19  # bits of a float32 behind those of a code
LARGEST = {OF_SIGNED: 127, OF_ROOTS: 255}  # codes without their sign
NORMAL, INFINITE = np.float32(2.0**-126), np.float32(np.inf)
ZERO, NAN = np.float32(0), np.float32(np.nan)


def top_of(behind: int) -> Any:
    """The number of the largest code, before it is scaled, as float32."""
    return np.int32((LARGEST[behind] << behind) + LOWEST).view(np.float32) - np.float32(LEAST)


TOP_OF_SIGNED, TOP_OF_ROOTS = top_of(OF_SIGNED), top_of(OF_ROOTS)


def _size(builder: Any, code: Any, scale: Any, behind: int) -> Any:
    """The number of a code without sign."""
    word = builder.add(builder.shl(code, I32(behind)), I32(LOWEST))
    return builder.fmul(builder.fsub(builder.bitcast(word, F32), F32(LEAST)), scale)


def decoded_signed(builder: Any, code: Any, scale: Any) -> Any:
    """The number of a code with a sign."""
    wide = builder.zext(code, I32)
    size = _size(builder, builder.and_(wide, I32(127)), scale, OF_SIGNED)
    sign = builder.shl(builder.and_(wide, I32(128)), I32(24))
    return builder.bitcast(builder.or_(builder.bitcast(size, I32), sign), F32)


def decoded_root(builder: Any, code: Any, scale: Any) -> Any:
    """The number whose root a code is of."""
    root = _size(builder, builder.zext(code, I32), scale, OF_ROOTS)
    return builder.fmul(root, root)


def _code(builder: Any, size: Any, factor: Any, random: Any, behind: int) -> Any:
    """The code of a positive number, of which the factor makes at most that of the largest code."""
    word = builder.bitcast(builder.fadd(builder.fmul(size, factor), F32(LEAST)), I32)
    top = I32((LARGEST[behind] << behind) + LOWEST)
    word = builder.select(builder.icmp_unsigned("<", word, top), word, top)
    word = builder.add(word, builder.lshr(random, I32(32 - behind)))
    return builder.lshr(builder.sub(word, I32(LOWEST)), I32(behind))


def encoded_signed(builder: Any, number: Any, factor: Any, random: Any) -> Any:
    """The code of a number: of the two around it, one by random bits, the nearer the likelier."""
    word = builder.bitcast(number, I32)
    size = builder.bitcast(builder.and_(word, I32(~SIGN)), F32)
    code = _code(builder, size, factor, random, OF_SIGNED)
    return builder.trunc(builder.or_(code, builder.lshr(builder.and_(word, I32(SIGN)), I32(24))), I8)


def encoded_root(builder: Any, root: Any, factor: Any, random: Any) -> Any:
    """The code of a root. Only zero has the code 0, as steps divide by such roots."""
    code = _code(builder, root, factor, random, OF_ROOTS)
    least = builder.lshr(builder.add(builder.bitcast(root, I32), I32(2**31 - 1)), I32(31))  # 1 for all but zero
    return builder.trunc(builder.select(builder.icmp_unsigned(">", code, least), code, least), I8)


def _decoding(generate: Callable[..., Any]) -> Any:
    @intrinsic
    def decode(typing_context: Any, code: Any, scale: Any) -> Any:
        def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return generate(builder, *values)

        return types.float32(types.uint8, types.float32), lower

    return decode


def _encoding(generate: Callable[..., Any]) -> Any:
    @intrinsic
    def encode(typing_context: Any, number: Any, factor: Any, random: Any) -> Any:
        def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return generate(builder, *values)

        return types.uint8(types.float32, types.float32, types.uint32), lower

    return encode


@intrinsic
def _larger(typing_context: Any, bits: Any, number: Any) -> Any:
    """The larger of a size and a number, without its sign, as the bits of float32, which are ordered as integers are.

    The maximum of floats does not vectorise, because of nan.
    """

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        size = builder.and_(builder.bitcast(values[1], I32), I32(~SIGN))
        return builder.select(builder.icmp_signed(">", size, values[0]), size, values[0])

    return types.int32(types.int32, types.float32), lower


@intrinsic
def _as_number(typing_context: Any, bits: Any) -> Any:
    """The float32 of these bits."""

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], F32)

    return types.float32(types.int32), lower


LIKE_CODES, LIKE_NUMBERS = np.empty(0, BYTES), np.empty(0, F4)


def room_for(size: int) -> int:
    """The bytes in front of so many codes, for their scales."""
    return -(-size // CODED) * F4.itemsize


@register_jitable
def scale_of(address: Any, start: Any) -> Any:
    """Where the scale of a block is whose first element is `start`: before the codes, the first one last."""
    return address - (start // CODED + 1) * 4


_decode_signed, _decode_root = _decoding(decoded_signed), _decoding(decoded_root)
_encode_signed, _encode_root = _encoding(encoded_signed), _encoding(encoded_root)

# In a pass, an operand of codes is a tuple: the codes, their scale, and scratch memory for the new numbers.


@register_jitable
def _load_signed(operand: Any, i: Any) -> Any:
    return _decode_signed(operand[0][i], operand[1])


@register_jitable
def _load_root(operand: Any, i: Any) -> Any:
    return _decode_root(operand[0][i], operand[1])


@register_jitable
def _store_signed(operand: Any, i: Any, value: Any) -> None:
    operand[2][i] = value


@register_jitable
def _store_root(operand: Any, i: Any, value: Any) -> None:
    operand[2][i] = sqrt(value)  # which the rule may need, too


@register_jitable
def _factor(address: Any, start: Any, size: Any, room: Any, top: Any) -> Any:
    """Write the scale of the new numbers in scratch memory. Return what they are multiplied by to be codes.

    It takes addresses, as arrays would be counted where they go into a function that is not inlined.
    """
    numbers, bits = array_at(room, LIKE_NUMBERS, size), np.int32(0)
    for i in range(size):
        bits = _larger(bits, numbers[i])
    largest, scales = _as_number(bits), array_at(scale_of(address, start), LIKE_NUMBERS, 1)
    if NORMAL <= largest < INFINITE:
        scales[0] = largest / top
        return top / largest
    scales[0] = ZERO if largest < NORMAL else NAN  # a number that is not finite takes the whole block with it
    for i in range(size):
        numbers[i] = ZERO
    return ZERO


@register_jitable
def _factor_of_signed(address: Any, start: Any, size: Any, room: Any) -> Any:
    return _factor(address, start, size, room, TOP_OF_SIGNED)


@register_jitable
def _factor_of_roots(address: Any, start: Any, size: Any, room: Any) -> Any:
    return _factor(address, start, size, room, TOP_OF_ROOTS)


@register_jitable
def _encode_to_signed(operand: Any, i: Any, factor: Any, random: Any) -> None:
    operand[0][i] = _encode_signed(operand[2][i], factor, random)


@register_jitable
def _encode_to_root(operand: Any, i: Any, factor: Any, random: Any) -> None:
    operand[0][i] = _encode_root(operand[2][i], factor, random)


SIGNED = Storage(
    BYTES, BYTES, F4, _load_signed, _store_signed, codes=Codes("signed", _factor_of_signed, _encode_to_signed)
)
ROOTS = Storage(BYTES, BYTES, F4, _load_root, _store_root, codes=Codes("roots", _factor_of_roots, _encode_to_root))
