"""How an operand lies in memory, and how a kernel reads and writes its elements."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from fastoptim.kernels.halves import (
    dither_bfloat16,
    dither_float16,
    keep_rest_of_bfloat16,
    keep_rest_of_float16,
    load_bfloat16,
    load_float16,
    store_bfloat16,
    store_float16,
)

DType = np.dtype[Any]
F4, F8, BITS = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.uint16)


@register_jitable
def _load(array: Any, i: Any) -> Any:
    return array[i]


@register_jitable
def _store(array: Any, i: Any, value: Any) -> None:
    array[i] = value


class Codes(NamedTuple):
    """How the new numbers of a block become codes, see `kernels/codes.py`.

    Attributes:
        name: of the code.
        limit: `(is_random) -> ` what the largest number of a block becomes, before it is a code.
        encode: `(operand, i, factor, random)` writes a number's code to place `i`, rounded by 32 random bits.
    """

    name: str
    limit: Callable[[bool], Any]
    encode: Callable[..., Any]


class Storage(NamedTuple):
    """What a parameter, a gradient or a slot of state is in memory.

    Attributes:
        dtype: of the elements in memory.
        word: the dtype that kernels take the memory for: the same, or integers with the bits.
        computed: the dtype of computation, float32 or float64.
        load: `(array, i) -> ` element `i` of a 1-D array of words, in the dtype of computation. Where there are codes,
            here and below, it is an operand of codes, see `kernels/codes.py`.
        store: `(array, i, value)` writes an element of the dtype of computation to place `i`, rounded to the nearest.
        dither: `(array, i, value, random)` rounds it up or down instead, by 32 random bits; None where nothing is lost.
        keep_rest: `(array, i, value)` writes what such an element loses.
        codes: of elements that are stored in blocks, after all of a block are known; None for others.
    """

    dtype: DType
    word: DType
    computed: DType
    load: Callable[..., Any] = _load
    store: Callable[..., Any] = _store
    dither: Callable[..., Any] | None = None
    keep_rest: Callable[..., Any] | None = None
    codes: Codes | None = None

    @property
    def name(self) -> str:
        """What tells it from others."""
        return str(self.dtype.char) if self.codes is None else self.codes.name

    @property
    def of_rests(self) -> "Storage":
        """The storage of what elements lose here."""
        assert self.keep_rest is not None
        return self._replace(store=self.keep_rest, dither=None, keep_rest=None)

    @property
    def itemsize(self) -> int:
        """Bytes of an element in memory."""
        return self.dtype.itemsize


def as_it_is(dtype: DType) -> Storage:
    """Elements that are loaded and stored as they are."""
    return Storage(dtype, dtype, dtype)


FLOAT32, FLOAT64 = as_it_is(F4), as_it_is(F8)
_HALF = np.dtype(np.float16)
FLOAT16 = Storage(_HALF, BITS, F4, load_float16, store_float16, dither_float16, keep_rest_of_float16)
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
        how = load_bfloat16, store_bfloat16, dither_bfloat16, keep_rest_of_bfloat16
        _STORAGES[dtype] = Storage(dtype, BITS, F4, *how)
    return _STORAGES[dtype]


def computed_in(dtype: Any) -> DType:
    """The dtype in which parameters of a dtype are updated: float64 for float64, and float32 for all others."""
    return storage_of(dtype).computed
