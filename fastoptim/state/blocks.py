"""The buffers of a store."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastoptim.arrays.layout import Slice
from fastoptim.arrays.memory import HOST, Array, Memory
from fastoptim.kernels.codes import ROOTS, room_for
from fastoptim.kernels.storage import F4, Storage
from fastoptim.settings.state_format import StateFormat
from fastoptim.state.coded import Coded


class Block(NamedTuple):
    """What parameters that were first seen together share.

    Attributes:
        rows: a 1-D array for each slot.
        size: how many elements each row has, with those that stand before codes and hold their scales.
        computed: the dtype in which these parameters are updated.
        has_codes: whether their state has codes.
    """

    rows: tuple[Any, ...]
    size: int
    computed: np.dtype[Any]
    has_codes: bool


def new_block(
    format: StateFormat, slots: Sequence[str], size: int, computed: np.dtype[Any], has_codes: bool, memory: Memory
) -> Block:
    """Zeros for these slots. Those of one dtype are rows of one buffer."""
    dtypes = [format.storage(slot, computed, has_codes).dtype for slot in slots]
    buffers = {dtype: memory.zeros((dtypes.count(dtype), size), dtype) for dtype in dict.fromkeys(dtypes)}
    rows = tuple(buffers[dtype][dtypes[:i].count(dtype)] for i, dtype in enumerate(dtypes))
    return Block(rows, size, computed, has_codes)


def array_in(row: Any, own: Slice, storage: Storage, memory: Memory) -> Array | Coded:
    """A parameter's slot in a block's row. The scales of codes stand before them, the first one last."""
    array: Array = own.of(row)
    if storage.codes is None:
        return array
    scales = row[own.offset - room_for(own.size) : own.offset].view(F4)
    return Coded(array, scales[::-1] if memory is HOST else scales, storage is ROOTS, memory)
