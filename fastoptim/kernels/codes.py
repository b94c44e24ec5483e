"""State in 8 bits: blocks of elements share a scale, and each element is a small float of its own, its code.

A code is the upper bits of a number between `LEAST` and 2, so that a shift and one multiplication with an addition
decode it: no table is looked up, and loops vectorise. A slot of signed numbers has a sign, 4 bits of exponent and 3 of
mantissa. Of numbers that are never negative, the root is coded, with 4 bits of each: so v of Adam has the range of its
root.

A pass decodes as it loads. What it stores goes to scratch memory, from where a block is encoded when it is done: its
scale follows from the largest of its new numbers.
"""

from math import sqrt
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import register_jitable

from fastoptim.kernels.halves import F32, I32, SIGN, generated
from fastoptim.kernels.memory import array_at
from fastoptim.kernels.storage import F4, Codes, Storage, same

I8 = ir.IntType(8)
BYTES = np.dtype(np.uint8)
CODED = 256  # elements of a block that share a scale
FEWEST = 4096  # elements of a parameter whose state has codes: less would save little, and lose as much
LEAST = 2.0**-15  # the number that code 0 is the upper bits of
LOWEST = int(np.float32(LEAST).view(np.int32))  # its bits
NORMAL, INFINITE = np.float32(2.0**-126), np.float32(np.inf)
ZERO, NAN = np.float32(0), np.float32(np.nan)


class Coding(NamedTuple):
    """How numbers without a sign become codes, after they are scaled.

    Attributes:
        behind: bits of a float32 behind those of a code.
        largest: the largest code.
        shift: what is added to a number before its upper bits are taken. A signed zero is exact. A root of zero is read
            as a quarter of the smallest step, because steps divide by roots: no positive number becomes zero.
    """

    behind: int
    largest: int
    shift: float

    @property
    def top(self) -> int:
        """The bits of which the largest code is the upper ones."""
        return (self.largest << self.behind) + LOWEST

    def limit(self, is_random: bool) -> Any:
        """The number that becomes the largest code, as float32. At random, rounded products may not come above it."""
        exact = np.int32(self.top).view(np.float32) - np.float32(self.shift)
        return exact * np.float32(1 - 2.0**-22) if is_random else exact


OF_SIGNED, OF_ROOTS = Coding(20, 127, LEAST), Coding(19, 255, LEAST * (1 - 2.0**-6))


def _size(builder: Any, code: Any, scale: Any, coding: Coding) -> Any:
    """The number of a code without sign."""
    number = builder.bitcast(builder.or_(builder.shl(code, I32(coding.behind)), I32(LOWEST)), F32)
    return builder.fma(number, scale, builder.fmul(scale, F32(-coding.shift)))


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


def _rounded(builder: Any, size: Any, factor: Any, random: Any, coding: Coding) -> Any:
    """The bits of a number without sign, of which its code is the upper ones: one of two, by the bits behind them."""
    word = builder.bitcast(builder.fma(size, factor, F32(coding.shift)), I32)
    if coding.shift < LEAST:
        word = builder.select(builder.icmp_signed(">", word, I32(LOWEST)), word, I32(LOWEST))
    return builder.lshr(builder.add(word, builder.lshr(random, I32(32 - coding.behind))), I32(coding.behind))


def encoded_signed(builder: Any, number: Any, factor: Any, random: Any) -> Any:
    """The code of a number: of the two around it, one by random bits, the nearer the likelier."""
    word = builder.bitcast(number, I32)
    size = builder.bitcast(builder.and_(word, I32(~SIGN)), F32)
    code = builder.and_(_rounded(builder, size, factor, random, OF_SIGNED), I32(127))
    return builder.trunc(builder.or_(code, builder.and_(builder.lshr(word, I32(24)), I32(128))), I8)


def encoded_root(builder: Any, root: Any, factor: Any, random: Any) -> Any:
    """The code of a root."""
    return builder.trunc(_rounded(builder, root, factor, random, OF_ROOTS), I8)


def larger(builder: Any, bits: Any, number: Any) -> Any:
    """The larger of a size and a number, without its sign, as the bits of float32, which are ordered as integers are.

    The maximum of floats does not vectorise, because of nan.
    """
    size = builder.and_(builder.bitcast(number, I32), I32(~SIGN))
    return builder.select(builder.icmp_signed(">", size, bits), size, bits)


LIKE_CODES, LIKE_NUMBERS = np.empty(0, BYTES), np.empty(0, F4)


def room_for(size: int) -> int:
    """The bytes in front of so many codes, for their scales."""
    return -(-size // CODED) * F4.itemsize


@register_jitable
def scale_of(address: Any, start: Any) -> Any:
    """Where the scale of a block is whose first element is `start`: before the codes, the first one last."""
    return address - (start // CODED + 1) * 4


_larger = generated(larger, types.int32, types.int32, types.float32)
_as_number = generated(lambda builder, bits: builder.bitcast(bits, F32), types.float32, types.int32)
_decode_signed, _decode_root = (
    generated(generate, types.float32, types.uint8, types.float32) for generate in (decoded_signed, decoded_root)
)
_encode_signed, _encode_root = (
    generated(generate, types.uint8, types.float32, types.float32, types.uint32)
    for generate in (encoded_signed, encoded_root)
)

# Functions around the intrinsics, for closures: see kernels/memory.py.


@register_jitable
def larger_size(bits: Any, value: Any) -> Any:
    """The larger of a size, as bits, and a number without its sign, as bits."""
    return _larger(bits, value)


@register_jitable
def as_number(bits: Any) -> Any:
    """The float32 of these bits."""
    return _as_number(bits)


@register_jitable
def scale_and_factor(bits: Any, top: Any) -> Any:
    """The scale of a block, of the bits of its largest size, and what its sizes are multiplied by to be codes.

    The factor is 0 where all sizes count as zero: where they are too small, or one of them is not finite, which takes
    the whole block with it. `top` is what the largest size becomes.
    """
    largest = as_number(bits)
    if NORMAL <= largest < INFINITE:
        return largest / top, top / largest
    return ZERO if largest < NORMAL else NAN, ZERO


@register_jitable
def decode_signed(code: Any, scale: Any) -> Any:
    """The number of a code with a sign."""
    return _decode_signed(code, scale)


@register_jitable
def decode_root(code: Any, scale: Any) -> Any:
    """The number whose root a code is of."""
    return _decode_root(code, scale)


@register_jitable
def root(value: Any) -> Any:
    """What is coded of a number that is never negative. The rule may need it, too."""
    return sqrt(value)


@register_jitable
def encode_signed(value: Any, factor: Any, random: Any) -> Any:
    """The code of a number."""
    return _encode_signed(value, factor, random)


@register_jitable
def encode_root(size: Any, factor: Any, random: Any) -> Any:
    """The code of a root."""
    return _encode_root(size, factor, random)


@register_jitable
def factor_of(address: Any, start: Any, size: Any, room: Any, top: Any) -> Any:
    """Write the scale of the new numbers in scratch memory. Return what they are multiplied by to be codes.

    It takes addresses, as arrays would be counted where they go into a function that is not inlined. `top` is what the
    largest number becomes.
    """
    numbers, bits = array_at(room, LIKE_NUMBERS, size), np.int32(0)
    for i in range(size):
        bits = larger_size(bits, numbers[i])
    scale, factor = scale_and_factor(bits, top)
    array_at(scale_of(address, start), LIKE_NUMBERS, 1)[0] = scale
    if factor == ZERO:
        for i in range(size):
            numbers[i] = ZERO
    return factor


SIGNED = Storage(BYTES, BYTES, F4, codes=Codes("signed", decode_signed, same, OF_SIGNED.limit, encode_signed))
ROOTS = Storage(BYTES, BYTES, F4, codes=Codes("roots", decode_root, root, OF_ROOTS.limit, encode_root))
