"""What is made of LLVM's instructions, in NumPy, for Numba's simulator: the same bits, one number at a time."""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from fastoptim.kernels import codes, halves, memory
from fastoptim.kernels.codes import LOWEST, OF_ROOTS, OF_SIGNED, Coding
from fastoptim.kernels.halves import BELOW_HALF, DROPPED, FACTORS, QUIET_NAN, SMALLEST_NORMAL

F4, U2, U4 = np.float32, np.uint16, np.uint32
WORD, SIZE = 2**32 - 1, 2**31 - 1


def _bits(number: Any) -> int:
    return int(F4(number).view(U4))


def _number(bits: int) -> Any:
    return U4(bits & WORD).view(F4)


def _narrow_to_bfloat16(value: Any) -> Any:
    bits = _bits(value)
    return U2(QUIET_NAN >> 16 if np.isnan(value) else bits + BELOW_HALF + (bits >> 16 & 1) >> 16 & 0xFFFF)


def _dither_to_bfloat16(value: Any, random: Any) -> Any:
    return U2(QUIET_NAN >> 16 if np.isnan(value) else _bits(value) + (int(random) >> 16) >> 16 & 0xFFFF)


def _widen_bfloat16(bits: Any) -> Any:
    return _number(int(bits) << 16)


def _narrow_to_float16(value: Any) -> Any:
    return np.float16(value).view(U2)


def _dither_to_float16(value: Any, random: Any) -> Any:
    size, sign, noise = _bits(value) & SIZE, _bits(value) & ~SIZE, int(random) >> 32 - DROPPED
    if np.isnan(value):
        return _narrow_to_float16(value)
    if size < SMALLEST_NORMAL:
        rounded = int(_number(size) * F4(2.0**24) + F4(noise) * F4(2.0**-DROPPED))
    else:
        rounded = int(_narrow_to_float16(_number(size + noise & -(2**DROPPED))))
    return U2(rounded | sign >> 16)


def _widen_float16(bits: Any) -> Any:
    return F4(U2(bits).view(np.float16))


def _random_bits(i: Any, before: Any, key: Any) -> int:
    first, second = int(key) & WORD, int(key) >> 32
    x = (int(i) + int(before) & WORD) ^ first
    x = ((x ^ x >> 16) * FACTORS[0] + second) & WORD
    x = (x ^ x >> 15) * FACTORS[1] & WORD
    return x ^ x >> 16


def _turned(random: Any) -> int:
    return int(random) << 16 & WORD | int(random) >> 16


def _size(code: int, scale: Any, coding: Coding) -> Any:
    """A product and a sum with one rounding: float64 has room for all digits of the product."""
    number = _number((code << coding.behind) + LOWEST)
    return F4(float(number) * float(scale) + float(scale * F4(-coding.shift)))


def _decode_signed(code: Any, scale: Any) -> Any:
    size = _size(int(code) & 127, scale, OF_SIGNED)
    return _number(_bits(size) | (int(code) & 128) << 24)


def _decode_root(code: Any, scale: Any) -> Any:
    size = _size(int(code), scale, OF_ROOTS)
    return size * size


def _code(size: Any, factor: Any, random: Any, coding: Coding) -> int:
    word = max(_bits(F4(float(size) * float(factor) + coding.shift)), LOWEST)
    return word + (int(random) >> 32 - coding.behind) >> coding.behind


def _encode_signed(value: Any, factor: Any, random: Any) -> Any:
    code = _code(_number(_bits(value) & SIZE), factor, random, OF_SIGNED) & 127
    return np.uint8(code | _bits(value) >> 24 & 128)


def _encode_root(size: Any, factor: Any, random: Any) -> Any:
    return np.uint8(_code(size, factor, random, OF_ROOTS) & 255)


def _word_at(address: Any) -> Any:
    return np.int64(ctypes.c_int64.from_address(int(address)).value)


STAND_INS: dict[Any, Callable[..., Any]] = {
    halves.widen_bfloat16: _widen_bfloat16,
    halves.narrow_to_bfloat16: _narrow_to_bfloat16,
    halves.dither_to_bfloat16: _dither_to_bfloat16,
    halves.rest_of_bfloat16: lambda x: _narrow_to_bfloat16(x - _widen_bfloat16(_narrow_to_bfloat16(x))),
    halves.widen_float16: _widen_float16,
    halves.narrow_to_float16: _narrow_to_float16,
    halves.dither_to_float16: _dither_to_float16,
    halves.rest_of_float16: lambda x: _narrow_to_float16(x - _widen_float16(_narrow_to_float16(x))),
    halves.random_bits: _random_bits,
    halves.multiplied: lambda random, factor: int(random) * int(factor) & WORD,
    halves.turned: _turned,
    codes.larger_size: lambda bits, value: max(int(bits), _bits(value) & SIZE),
    codes.as_number: lambda bits: _number(int(bits)),
    codes.decode_signed: _decode_signed,
    codes.decode_root: _decode_root,
    codes.encode_signed: _encode_signed,
    codes.encode_root: _encode_root,
    memory.word_at: _word_at,
}
