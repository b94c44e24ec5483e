"""The random numbers of stochastic rounding: a hash of seed, step, name and element, which no order of work changes.

A key of 64 bits is made of the seed and the step, on the host; then, in a kernel, of that and of the name; then of that
and of a chunk of elements. Each element's bits are a hash of the last key and of its place in the chunk.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba.extending import register_jitable

from fastoptim.kernels.halves import multiplied, turned
from fastoptim.kernels.unroll import unrolled

CHUNK = 65_536  # elements: their number takes few enough bits for a key of their own
PIECES, PIECE = 4, 16  # a key is given to kernels in pieces of so many bits, which float32 holds
WORD = 2**64 - 1
STEP = 0x9E3779B97F4A7C15  # odd, so that all multiples of it differ
FACTORS = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
U = np.uint64
STEP_, FIRST, SECOND, S30, S27, S31, S16, S32, S48 = map(U, (STEP, *FACTORS, 30, 27, 31, 16, 32, 48))


def mixed(key: int) -> int:
    """Another key, all of whose bits depend on all bits of this one (Steele, Lea & Flood 2014, "SplitMix")."""
    key = (key ^ (key >> 30)) * FACTORS[0] & WORD
    key = (key ^ (key >> 27)) * FACTORS[1] & WORD
    return key ^ (key >> 31)


def pieces_of_step(seed: int, t: int) -> list[float]:
    """The key of a step, in pieces."""
    key = mixed((mixed(seed) + t * STEP) & WORD)
    return [float(key >> PIECE * i & 2**PIECE - 1) for i in range(PIECES)]


def key_of_name(name: Any) -> int:
    """The key of a name as an int64."""
    digest = hashlib.blake2b(f"{type(name).__name__} {name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


@register_jitable
def _mixed(key: Any) -> Any:
    """`mixed` in compiled code."""
    key = (key ^ (key >> S30)) * FIRST
    key = (key ^ (key >> S27)) * SECOND
    return key ^ (key >> S31)


@register_jitable
def key_of_array(first: Any, second: Any, third: Any, fourth: Any, name: Any) -> Any:
    """The key of an array, of the pieces of the step's and the name's."""
    step = U(first) | U(second) << S16 | U(third) << S32 | U(fourth) << S48
    return _mixed(step ^ U(name))


@register_jitable
def key_of_chunk(key: Any, chunk: Any) -> Any:
    """The key of a chunk of an array."""
    return _mixed(key + U(chunk) * STEP_)


BITS = {"multiplied": multiplied, "turned": turned}  # what `bits_of` names
OF_PAIRS = 0x9E3779B1  # an odd number, whose powers tell the bits of pairs of operands apart


def bits_of(number: int) -> str:
    """An expression for the random bits of an operand with so many before it, made of those of the element, `random`.

    Rounding looks at the upper bits first. So two operands share one word, from either end.
    """
    word = f"multiplied(random, {pow(OF_PAIRS, number // 2, 2**32)})"
    return f"turned({word})" if number % 2 else word


@cache
def store_dithered(stores: tuple[Callable[..., Any], ...], numbers: tuple[int, ...]) -> Callable[..., Any]:
    """`(arrays, i, values, random)`, doing `stores[0](arrays[0], i, values[0])` and so on.

    Those with a number of 0 or more also take bits that are made of `random` for this number.
    """
    names = {f"own{i}": store for i, store in enumerate(stores)}
    elements = []
    for i, number in enumerate(numbers):
        bits = f", {bits_of(number)}" if number >= 0 else ""
        elements.append(f"own{i}(arrays[{i}], i, values[{i}]{bits})")
    content = *(store.__name__ for store in stores), *numbers
    return unrolled("store", "arrays, i, values, random", elements, *content, **BITS, **names)
