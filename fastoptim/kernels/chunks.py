"""How a run of elements is stored and cut: at random, it is cut into chunks that have keys of their own."""

from collections.abc import Callable, Sequence
from typing import Any

from fastoptim.kernels.fuse import SCALARS, Fused
from fastoptim.kernels.halves import random_bits
from fastoptim.kernels.jit import jitable
from fastoptim.kernels.memory import WORD, operands_at, word_at
from fastoptim.kernels.random import CHUNK, key_of_array, key_of_chunk, store_dithered
from fastoptim.kernels.storage import Storage
from fastoptim.kernels.table import PerArray
from fastoptim.kernels.unroll import store

PIECES = SCALARS["stochastic"]


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
    copies, stores, columns = written[-1:] if fused.copy else (), [], []
    for column in written:
        dither = storages[column].dither if fused.stochastic and column not in copies else None
        stores.append(dither or storages[column].store)
        columns.append(column if dither else -1)
    every = *stores, *values
    if all(column < 0 for column in columns):
        store_all = store(every)

        @jitable("plain", store_all.__name__)
        def store_plainly(arrays: Any, i: Any, numbers: Any, key: Any, first: Any) -> None:
            store_all(arrays, i, numbers)

        return store_plainly
    store_random = store_dithered(every, (*columns, *(-1,) * len(values)))

    @jitable("random", store_random.__name__)
    def store_at_random(arrays: Any, i: Any, numbers: Any, key: Any, first: Any) -> None:
        store_random(arrays, i, numbers, random_bits(first + i, key))

    return store_at_random


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
    at, first = (len(storages) + per_array.key_column) * WORD, scalars.index(PIECES[0])
    second, third, fourth = first + 1, first + 2, first + 3

    @jitable(at, first)
    def chunk_at(row: Any, start: Any, numbers: Any) -> Any:
        key = key_of_array(numbers[first], numbers[second], numbers[third], numbers[fourth], word_at(row + at))
        return key_of_chunk(key, start // CHUNK), start % CHUNK

    return chunk_at


def in_chunks(
    update: Callable[..., Any], storages: tuple[Storage, ...], per_array: PerArray, scalars: Sequence[str]
) -> Callable[..., Any]:
    """`(row, start, size, numbers)`: the update of `size` elements of a table's row from `start` on.

    Args:
        update: `(arrays, numbers, key, first)`, of the operands' arrays.
        storages: of the operands.
        per_array: what the table has for each array.
        scalars: the names of all numbers of an element.
    """
    arrays_at, chunk_at = operands_at(storages), chunk_finder(storages, per_array, scalars)
    longest = CHUNK if per_array.is_keyed else 0

    @jitable(update.__name__)
    def update_run(row: Any, start: Any, size: Any, numbers: Any) -> None:
        stop = start + size
        while start < stop:
            behind = min((start // longest + 1) * longest, stop) if longest else stop
            update(arrays_at(row, start, behind - start), numbers, *chunk_at(row, start, numbers))
            start = behind

    return update_run
