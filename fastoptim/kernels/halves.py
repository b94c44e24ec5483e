"""Numbers of 16 bits: how bfloat16 and float16 become float32, and float32 is rounded to them.

Numba's targets have no arithmetic of these. Their bits are in integers, and converted by LLVM's instructions, which
vectorise; integer code in Python would widen to 64 bits and not.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, register_jitable

I16, I32, I64, F32, HALF = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.HalfType()
SIGN, QUIET_NAN, BELOW_HALF = -(2**31), 0x7FC00000, 0x7FFF
DROPPED, SMALLEST_NORMAL = 13, 0x38800000  # bits of float32 that float16 lacks; the bits of 2**-14
FACTORS = 0x7FEB352D, 0x846CA68B


def widened_bfloat16(builder: Any, bits: Any) -> Any:
    """The float32 that 16 bits are the upper half of."""
    return builder.bitcast(builder.shl(builder.zext(bits, I32), I32(16)), F32)


def rounded_to_bfloat16(builder: Any, number: Any) -> Any:
    """The bits of the nearest bfloat16, the even one of two. Every nan becomes the same one."""
    word = builder.bitcast(number, I32)
    is_odd = builder.and_(builder.lshr(word, I32(16)), I32(1))
    rounded = builder.add(word, builder.add(is_odd, I32(BELOW_HALF)))
    chosen = builder.select(builder.fcmp_unordered("uno", number, number), I32(QUIET_NAN), rounded)
    return builder.trunc(builder.lshr(chosen, I32(16)), I16)


def widened_float16(builder: Any, bits: Any) -> Any:
    """The float32 of the same value."""
    return builder.fpext(builder.bitcast(bits, HALF), F32)


def rounded_to_float16(builder: Any, number: Any) -> Any:
    """The bits of the nearest float16, the even one of two."""
    return builder.bitcast(builder.fptrunc(number, HALF), I16)


def dithered_bfloat16(builder: Any, number: Any, random: Any) -> Any:
    """The bits of one of the two bfloat16 around a number, the nearer the likelier, for 16 random bits at the top."""
    word = builder.bitcast(number, I32)
    dithered = builder.add(word, builder.lshr(random, I32(16)))
    chosen = builder.select(builder.fcmp_unordered("uno", number, number), I32(QUIET_NAN), dithered)
    return builder.trunc(builder.lshr(chosen, I32(16)), I16)


def dithered_float16(builder: Any, number: Any, random: Any) -> Any:
    """The bits of one of the two float16 around a number, for `DROPPED` random bits at the top."""
    word, noise = builder.bitcast(number, I32), builder.lshr(random, I32(32 - DROPPED))
    sign, size = builder.and_(word, I32(SIGN)), builder.and_(word, I32(~SIGN))
    kept = builder.and_(builder.add(size, noise), I32(-(2**DROPPED)))
    rounded = builder.zext(builder.bitcast(builder.fptrunc(builder.bitcast(kept, F32), HALF), I16), I32)
    # Below the smallest normal number, steps are of one length: the number of steps is the bits.
    steps = builder.fmul(builder.bitcast(size, F32), F32(2.0**24))
    part = builder.fmul(builder.sitofp(noise, F32), F32(2.0**-DROPPED))
    few = builder.fptosi(builder.fadd(steps, part), I32)
    is_small = builder.icmp_signed("<", size, I32(SMALLEST_NORMAL))
    both = builder.or_(builder.select(is_small, few, rounded), builder.lshr(sign, I32(16)))
    is_nan = builder.fcmp_unordered("uno", number, number)
    return builder.select(is_nan, rounded_to_float16(builder, number), builder.trunc(both, I16))


def hashed(builder: Any, i: Any, before: Any, key: Any) -> Any:
    """32 random bits for an element with so many before it, of which 32 bits count, and a key of 64 bits.

    The multipliers and shifts are those of Wellons 2018, https://nullprogram.com/blog/2018/07/31/, with one half of
    the key before the first multiplication and the other one behind it.
    """
    first, second = builder.trunc(key, I32), builder.trunc(builder.lshr(key, I64(32)), I32)
    place = builder.add(builder.trunc(i, I32), before)
    x = builder.xor(place, first)
    x = builder.mul(builder.xor(x, builder.lshr(x, I32(16))), I32(FACTORS[0]))
    x = builder.add(x, second)
    x = builder.mul(builder.xor(x, builder.lshr(x, I32(15))), I32(FACTORS[1]))
    return builder.xor(x, builder.lshr(x, I32(16)))


def turned_word(builder: Any, word: Any) -> Any:
    """The lower 16 bits above the upper ones."""
    return builder.or_(builder.shl(word, I32(16)), builder.lshr(word, I32(16)))


def generated(generate: Callable[..., Any], result: Any, *arguments: Any) -> Any:
    """A function for compiled code, of these types, from what generates LLVM's code for it."""

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return generate(builder, *values)

    typed = result(*arguments), lower
    forms = (  # numba counts the arguments
        lambda typing_context, x: typed,
        lambda typing_context, x, y: typed,
        lambda typing_context, x, y, z: typed,
    )
    return intrinsic(forms[len(arguments) - 1])


_random = generated(hashed, types.uint32, types.int64, types.int32, types.uint64)  # no loop has to count in 64 bits
_turned = generated(turned_word, types.uint32, types.uint32)
_multiplied = generated(
    lambda builder, word, factor: builder.mul(word, builder.trunc(factor, I32)), types.uint32, types.uint32, types.int64
)
_dither_to_bfloat16, _dither_to_float16 = (
    generated(generate, types.uint16, types.float32, types.uint32) for generate in (dithered_bfloat16, dithered_float16)
)
_widen_bfloat16, _widen_float16 = (
    generated(generate, types.float32, types.uint16) for generate in (widened_bfloat16, widened_float16)
)
_round_to_bfloat16, _round_to_float16 = (
    generated(generate, types.uint16, types.float32) for generate in (rounded_to_bfloat16, rounded_to_float16)
)

# Functions around the intrinsics, for closures: see kernels/memory.py.


@register_jitable
def widen_bfloat16(bits: Any) -> Any:
    """The float32 that bfloat16's bits are of."""
    return _widen_bfloat16(bits)


@register_jitable
def narrow_to_bfloat16(value: Any) -> Any:
    """The bits of a float32 rounded to the nearest bfloat16."""
    return _round_to_bfloat16(value)


@register_jitable
def dither_to_bfloat16(value: Any, random: Any) -> Any:
    """The bits of a float32 rounded up or down by random bits."""
    return _dither_to_bfloat16(value, random)


@register_jitable
def rest_of_bfloat16(value: Any) -> Any:
    """The bits of what a float32 loses when it is rounded to bfloat16, rounded, too."""
    return _round_to_bfloat16(value - _widen_bfloat16(_round_to_bfloat16(value)))


@register_jitable
def widen_float16(bits: Any) -> Any:
    """The float32 that float16's bits are of."""
    return _widen_float16(bits)


@register_jitable
def narrow_to_float16(value: Any) -> Any:
    """The bits of a float32 rounded to the nearest float16."""
    return _round_to_float16(value)


@register_jitable
def dither_to_float16(value: Any, random: Any) -> Any:
    """The bits of a float32 rounded up or down by random bits."""
    return _dither_to_float16(value, random)


@register_jitable
def rest_of_float16(value: Any) -> Any:
    """The bits of what a float32 loses when it is rounded to float16, rounded, too."""
    return _round_to_float16(value - _widen_float16(_round_to_float16(value)))


@register_jitable
def random_bits(i: Any, before: Any, key: Any) -> Any:
    """32 random bits of element `i` of those that have so many before them."""
    return _random(i, before, key)


@register_jitable
def multiplied(random: Any, factor: Any) -> Any:
    """Other bits for each odd factor."""
    return _multiplied(random, factor)


@register_jitable
def turned(random: Any) -> Any:
    """The lower 16 bits above the upper ones."""
    return _turned(random)
