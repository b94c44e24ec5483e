"""How an operand lies in memory, and how its words become numbers and back."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple, cast

import numpy as np
from numba.extending import register_jitable

from fastoptim.kernels.halves import (
    dither_to_bfloat16,
    dither_to_float16,
    narrow_to_bfloat16,
    narrow_to_float16,
    rest_of_bfloat16,
    rest_of_float16,
    widen_bfloat16,
    widen_float16,
)
from fastoptim.kernels.jit import jitable

DType = np.dtype[Any]
F4, F8, BITS = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.uint16)


@register_jitable
def same(value: Any) -> Any:
    """A number as it is."""
    return value


class Codes(NamedTuple):
    """How codes become numbers, and the new numbers of a block become codes, see `kernels/codes.py`.

    Attributes:
        name: of the code.
        decode: `(code, scale) -> ` the number.
        size: `(number) -> ` what is coded of a number: itself, or its root.
        limit: `(is_random) -> ` what the largest size of a block becomes, before it is a code.
        encode: `(size, factor, random) -> ` the code of a size that is multiplied by a factor, by 32 random bits.
    """

    name: str
    decode: Callable[..., Any]
    size: Callable[..., Any]
    limit: Callable[[bool], Any]
    encode: Callable[..., Any]


class Storage(NamedTuple):
    """What a parameter, a gradient or a slot of state is in memory.

    Attributes:
        dtype: of the elements in memory.
        word: the dtype that kernels take the memory for: the same, or integers with the bits.
        computed: the dtype of computation, float32 or float64.
        widen: `(word) -> ` its number, in the dtype of computation.
        narrow: `(number) -> ` the word of a number, rounded to the nearest.
        dither: `(number, random) -> ` the word of a number that is rounded up or down instead, by 32 random bits; None
            where nothing is lost.
        rest: `(number) -> ` the word of what a number loses; None where nothing is lost.
        codes: of elements that are stored in blocks, after all of a block are known; None for others. They take the
            place of the functions above.
    """

    dtype: DType
    word: DType
    computed: DType
    widen: Callable[..., Any] = same
    narrow: Callable[..., Any] = same
    dither: Callable[..., Any] | None = None
    rest: Callable[..., Any] | None = None
    codes: Codes | None = None

    @property
    def name(self) -> str:
        """What tells it from others."""
        return str(self.dtype.char) if self.codes is None else self.codes.name

    @property
    def of_rests(self) -> "Storage":
        """The storage of what elements lose here."""
        assert self.rest is not None
        return self._replace(narrow=self.rest, dither=None, rest=None)

    @property
    def load(self) -> Callable[..., Any]:
        """`(operand, i) -> ` element `i` of an operand on the host: a 1-D array of words, or one of codes.

        An operand of codes is a tuple: the codes, their scale, and scratch memory for the new sizes.
        """
        return _loading(self.widen) if self.codes is None else _decoding(self.codes)

    @property
    def store(self) -> Callable[..., Any]:
        """`(operand, i, number)` writes a number to place `i` of an operand on the host, see `load`."""
        return _storing(self.narrow) if self.codes is None else _keeping(self.codes)

    @property
    def store_dithered(self) -> Callable[..., Any]:
        """`(operand, i, number, random)`, rounding it by 32 random bits. There are no codes."""
        assert self.dither is not None
        return _dithering(self.dither)

    @property
    def itemsize(self) -> int:
        """Bytes of an element in memory."""
        return self.dtype.itemsize


@cache
def _loading(widen: Callable[..., Any]) -> Callable[..., Any]:
    @jitable(widen.__name__)
    def load(array: Any, i: Any) -> Any:
        return widen(array[i])

    return cast(Callable[..., Any], load)


@cache
def _decoding(codes: Codes) -> Callable[..., Any]:
    decode = codes.decode

    @jitable(codes.name)
    def load(operand: Any, i: Any) -> Any:
        return decode(operand[0][i], operand[1])

    return cast(Callable[..., Any], load)


@cache
def _storing(narrow: Callable[..., Any]) -> Callable[..., Any]:
    @jitable(narrow.__name__)
    def store(array: Any, i: Any, value: Any) -> None:
        array[i] = narrow(value)

    return cast(Callable[..., Any], store)


@cache
def _keeping(codes: Codes) -> Callable[..., Any]:
    size = codes.size

    @jitable(codes.name)
    def store(operand: Any, i: Any, value: Any) -> None:
        operand[2][i] = size(value)

    return cast(Callable[..., Any], store)


@cache
def _dithering(dither: Callable[..., Any]) -> Callable[..., Any]:
    @jitable(dither.__name__)
    def store(array: Any, i: Any, value: Any, random: Any) -> None:
        array[i] = dither(value, random)

    return cast(Callable[..., Any], store)


def as_it_is(dtype: DType) -> Storage:
    """Elements that are loaded and stored as they are."""
    return Storage(dtype, dtype, dtype)


FLOAT32, FLOAT64 = as_it_is(F4), as_it_is(F8)
_HALF = np.dtype(np.float16)
FLOAT16 = Storage(_HALF, BITS, F4, widen_float16, narrow_to_float16, dither_to_float16, rest_of_float16)
_STORAGES = {storage.dtype: storage for storage in (FLOAT32, FLOAT64, FLOAT16)}
COMPUTED = F4, F8
EXPECTED = "float32, float64, float16 or bfloat16"


def is_stored(dtype: DType) -> bool:
    """Whether there is a storage for arrays of a dtype."""
    return dtype in _STORAGES or _is_bfloat16(dtype)


def _is_bfloat16(dtype: DType) -> bool:
    """Whether it is bfloat16 of the package ml_dtypes, as NumPy has none of its own."""
    return dtype.name == "bfloat16" and dtype.itemsize == BITS.itemsize and dtype.isnative


def bfloat16() -> DType:
    """The dtype of the package ml_dtypes.

    Raises:
        RuntimeError: it is not installed; it says what to install.
    """
    try:
        ml_dtypes = import_module("ml_dtypes")
    except ImportError as error:
        raise RuntimeError("bfloat16 needs the ml_dtypes package: pip install 'fastoptim[lowp]'") from error
    return np.dtype(ml_dtypes.bfloat16)


def storage_of(dtype: Any) -> Storage:
    """The storage of arrays of a dtype.

    Raises:
        TypeError: if there is none.
    """
    dtype = np.dtype(dtype)
    if dtype not in _STORAGES:
        if not _is_bfloat16(dtype):
            raise TypeError(f"dtype: expected {EXPECTED}, got {dtype}")
        how = widen_bfloat16, narrow_to_bfloat16, dither_to_bfloat16, rest_of_bfloat16
        _STORAGES[dtype] = Storage(dtype, BITS, F4, *how)
    return _STORAGES[dtype]


def computed_in(dtype: Any) -> DType:
    """The dtype in which parameters of a dtype are updated: float64 for float64, and float32 for all others."""
    return storage_of(dtype).computed
