"""How an operand lies in memory, and how a kernel reads and writes its elements."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable


@register_jitable
def _load(array: Any, i: Any) -> Any:
    return array[i]


@register_jitable
def _store(array: Any, i: Any, value: Any) -> None:
    array[i] = value


class Storage(NamedTuple):
    """What a parameter, a gradient or a slot of state is in memory.

    Attributes:
        dtype: of the elements in memory.
        load: `(array, i) -> ` element `i` of a 1-D array of that dtype, in the dtype of computation.
        store: `(array, i, value)` writes an element of the dtype of computation to place `i`.
    """

    dtype: np.dtype[Any]
    load: Callable[..., Any] = _load
    store: Callable[..., Any] = _store

    @property
    def itemsize(self) -> int:
        """Bytes of an element in memory."""
        return self.dtype.itemsize


FLOAT32, FLOAT64 = Storage(np.dtype(np.float32)), Storage(np.dtype(np.float64))
_STORAGES = {storage.dtype: storage for storage in (FLOAT32, FLOAT64)}
DTYPES = tuple(_STORAGES)


def storage_of(dtype: Any) -> Storage:
    """The storage of arrays of a dtype.

    Raises:
        TypeError: if there is none.
    """
    try:
        return _STORAGES[np.dtype(dtype)]
    except KeyError:
        raise TypeError(f"dtype: expected {' or '.join(map(str, DTYPES))}, got {np.dtype(dtype)}") from None
