"""Rounding to 16 bits in NumPy, to the bit: to the nearest by ml_dtypes, and at random by the hash written out."""

import ml_dtypes
import numpy as np

from fastoptim.kernels import random

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT16 = np.dtype(np.float16)
U4, U8 = np.uint32, np.uint64


def key_of_step(seed, t):
    """The key that the pieces of a step's numbers are of."""
    return sum(int(piece) << 16 * i for i, piece in enumerate(random.pieces_of_step(seed, t)))


def random_bits(seed, t, name, size, number):
    """32 bits for each element of an array, in C order, for an operand with so many before it that are rounded so."""
    key = random.mixed(key_of_step(seed, t) ^ (random.key_of_name(name) % 2**64))
    i = np.arange(size)
    keys = [random.mixed((key + chunk * 0x9E3779B97F4A7C15) % 2**64) for chunk in range(size // 65_536 + 1)]
    of_chunk = np.array(keys, U8)[i // 65_536]
    x = (i % 65_536).astype(U4) ^ (of_chunk & U8(2**32 - 1)).astype(U4)
    x = (x ^ (x >> U4(16))) * U4(0x7FEB352D) + (of_chunk >> U8(32)).astype(U4)
    x = (x ^ (x >> U4(15))) * U4(0x846CA68B)
    x = (x ^ (x >> U4(16))) * U4(pow(0x9E3779B1, number // 2, 2**32))
    return x << U4(16) | x >> U4(16) if number % 2 else x


def to_nearest(x, dtype):
    """float32 numbers, rounded."""
    with np.errstate(over="ignore"):
        return x.astype(dtype)


def at_random(x, dtype, bits):
    """float32 numbers, rounded up or down by random bits, from the definition: the part of the gap below a number."""
    x = np.ascontiguousarray(x).ravel()
    if dtype == BFLOAT16:
        return ((x.view(U4) + (bits >> U4(16))) >> U4(16)).astype(np.uint16).view(BFLOAT16)
    size, part = np.abs(x).astype(np.float64), (bits >> U4(19)) / 2.0**13
    gap = 2.0 ** (np.maximum(np.floor(np.log2(np.maximum(size, 1e-300))), -14) - 10)
    # Of a normal number, float32 has 13 bits more; below these, the sum is one of float32.
    sums = np.where(
        size < 2.0**-14, np.float32(size / gap) + np.float32(part), np.floor(size / gap * 2**13) / 2**13 + part
    )
    return np.copysign(np.floor(sums) * gap, x).astype(FLOAT16)
