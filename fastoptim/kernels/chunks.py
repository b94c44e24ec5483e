"""How an element's numbers are stored: where that is at random, in chunks of elements that have keys of their own."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastoptim.kernels.fuse import SCALARS, Fused
from fastoptim.kernels.halves import random_bits
from fastoptim.kernels.jit import jitable
from fastoptim.kernels.memory import WORD, word_at
from fastoptim.kernels.random import CHUNK, key_of_array, key_of_chunk, store_dithered
from fastoptim.kernels.storage import Storage
from fastoptim.kernels.table import GRAD, PARAM, PerArray
from fastoptim.kernels.unroll import store

KEY_SCALARS = SCALARS["stochastic"]


def storing(
    storages: Sequence[Storage], written: Sequence[int], fused: Fused, values: Sequence[Callable[..., Any]] = ()
) -> Callable[..., Any]:
    """`(arrays, i, numbers, key, first)`: store an element's numbers to the operands that are written.

    Args:
        storages: of all operands.
        written: the columns of those that are written. The last one is the copy, if there is one.
        fused: the options.
        values: what stores further numbers, in arrays behind the operands.
    """
    own = random_numbers(storages, fused)
    numbers = [own.get(column, -1) if storages[column].dither else -1 for column in written]
    stores = [
        storages[x].store_dithered if n >= 0 else storages[x].store for x, n in zip(written, numbers, strict=True)
    ]
    every: Any = (*stores, *values)
    if all(number < 0 for number in numbers):
        store_all = store(every)

        @jitable("plain", store_all.__name__)
        def store_plainly(arrays: Any, i: Any, numbers: Any, key: Any, first: Any) -> None:
            store_all(arrays, i, numbers)

        return store_plainly
    store_random = store_dithered(every, (*numbers, *(-1,) * len(values)))

    @jitable("random", store_random.__name__)
    def store_at_random(arrays: Any, i: Any, values: Any, key: Any, first: Any) -> None:
        store_random(arrays, i, values, random_bits(i, first, key))

    return store_at_random


def random_numbers(storages: Sequence[Storage], fused: Fused) -> dict[int, int]:
    """The columns that are rounded at random, each with the number of those before it, for `bits_of`.

    They are those of the whole step, whatever one of its stages writes, so that two operands never share bits. Copies
    are rounded to the nearest, and so is the parameter where its rest is kept. Gradients are never written.
    """
    if not fused.stochastic:
        return {}
    apart = {GRAD, *[PARAM] * fused.compensation, *[len(storages) - 1] * fused.copy}
    own = (column for column, x in enumerate(storages) if column not in apart and (x.dither or x.codes))
    return {column: number for number, column in enumerate(own)}


def chunk_finder(storages: Sequence[Storage], per_array: PerArray, scalars: Sequence[str]) -> Callable[..., Any]:
    """`(row, start, numbers) -> ` the key of the chunk that element `start` of a row is in, and its place there.

    Both are 0 where nothing is random.

    Args:
        storages: of the operands.
        per_array: what the table has for each array.
        scalars: the names of all numbers of an element.
    """
    if not per_array.is_keyed:
        return jitable("nothing")(lambda row, start, numbers: (0, 0))
    at, first = (len(storages) + per_array.key_column) * WORD, scalars.index(KEY_SCALARS[0])
    second, third, fourth = first + 1, first + 2, first + 3

    @jitable(at, first)
    def chunk_at(row: Any, start: Any, numbers: Any) -> Any:
        key = key_of_array(numbers[first], numbers[second], numbers[third], numbers[fourth], word_at(row + at))
        return key_of_chunk(key, start // CHUNK), np.int32(start % CHUNK)

    return chunk_at
