"""A pass over a run of elements, cut into pieces: blocks of codes, and chunks that have random numbers of their own."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numba.extending import register_jitable

from fastoptim.kernels.chunks import chunk_finder, random_numbers
from fastoptim.kernels.codes import CODED
from fastoptim.kernels.encode import coded_at, encoder, free_room, new_room, place_of
from fastoptim.kernels.fuse import Fused
from fastoptim.kernels.jit import jitable
from fastoptim.kernels.memory import WORD, array_at, prefetch, word_at
from fastoptim.kernels.random import CHUNK
from fastoptim.kernels.storage import Storage
from fastoptim.kernels.table import PerArray
from fastoptim.kernels.unroll import unrolled

AHEAD = 1  # blocks: faster than 0, 2 and 3


@cache
def operands_finder(storages: tuple[Storage, ...]) -> Callable[..., Any]:
    """`(row, start, size, room) -> ` a tuple of the operands, of `size` elements from element `start` on.

    `row` is the address of a row of a table; its first words are the operands' addresses. `room` is the address of
    scratch memory for operands of codes.
    """
    like = {f"like{i}": np.empty(0, storage.word) for i, storage in enumerate(storages)}
    elements = [
        f"array_at(word_at(row + {i * WORD}) + start * {storage.itemsize}, like{i}, size)"
        if storage.codes is None
        else f"coded_at({place_of(storages, i)})"
        for i, storage in enumerate(storages)
    ]
    names, functions = (storage.name for storage in storages), {"array_at": array_at, "coded_at": coded_at}
    return unrolled("operands", "row, start, size, room", elements, *names, word_at=word_at, **functions, **like)


@cache
def prefetcher(storages: tuple[Storage, ...]) -> Callable[..., Any]:
    """`(row, start)`: have the processor bring what a later block needs, while a block is encoded.

    Encoding asks for no memory. Without this, the memory would stand still meanwhile.
    """
    places = (f"word_at(row + {i * WORD}) + (start + {AHEAD * CODED})" for i in range(len(storages)))
    calls = (
        f"prefetch({place} * {x.itemsize}, {CODED * x.itemsize})" for place, x in zip(places, storages, strict=True)
    )
    names = (storage.name for storage in storages)
    return unrolled("ahead", "row, start", calls, *names, prefetch=prefetch, word_at=word_at)


@cache
def row_prefetcher(storages: tuple[Storage, ...]) -> Callable[..., Any]:
    """`(row, size)`: have the processor bring the first `size` elements of all operands of a table's row."""
    calls = (f"prefetch(word_at(row + {i * WORD}), size * {x.itemsize})" for i, x in enumerate(storages))
    names = (storage.name for storage in storages)
    return unrolled("row_ahead", "row, size", calls, *names, prefetch=prefetch, word_at=word_at)


class Pieces:
    """How a pass goes through the elements of a table's row.

    Args:
        storages: of the operands.
        written: the columns of those that are written.
        fused: the options.
        per_array: what the table has for each array.
        scalars: the names of all numbers of an element.

    Attributes:
        longest: how many elements of an array a piece has at most, counted from the first one; 0 for any number.
        coded: how many operands have codes: for so many, `updater` needs scratch memory.
        border: `(place, size) -> ` the end of the piece that a place is in, in an array of `size` elements, or the
            place itself where pieces may begin anywhere. So threads that share an array meet at the border of a piece.
    """

    def __init__(
        self, storages: tuple[Storage, ...], written: Sequence[int], fused: Fused, per_array: PerArray,
        scalars: Sequence[str],
    ) -> None:  # fmt: skip
        self.coded = sum(storage.codes is not None for storage in storages)
        self.longest = CODED if self.coded else CHUNK if per_array.is_keyed else 0
        self.border = border_of_block if self.coded else same_place
        self._operands_at, self._chunk_at = operands_finder(storages), chunk_finder(storages, per_array, scalars)
        self._encode = encoder(storages, written, random_numbers(storages, fused))
        self._ahead = prefetcher(storages if self.coded else ())

    def updater(self, update: Callable[..., Any]) -> Callable[..., Any]:
        """`(row, start, size, sums, numbers, room)`: the update of one piece of a row.

        Args:
            update: `(operands, sums, numbers, key, first)`. With random numbers, `key` is that of the piece's chunk,
                and `first` the place of its first element there.
        """
        operands_at, chunk_at, encode, ahead = self._operands_at, self._chunk_at, self._encode, self._ahead

        @jitable(update.__name__)
        def update_piece(row: Any, start: Any, size: Any, sums: Any, numbers: Any, room: Any) -> None:
            operands = operands_at(row, start, size, room)
            key, first = chunk_at(row, start, numbers)
            update(operands, sums, numbers, key, first)
            ahead(row, start)
            encode(row, start, size, room, key, first)

        return update_piece

    def run(self, update: Callable[..., Any]) -> Callable[..., Any]:
        """`(row, start, stop, numbers)`: the update of elements of a row. For `update` see `updater`."""
        update_piece, longest, coded = self.updater(update), self.longest, self.coded

        @jitable(update.__name__)
        def update_run(row: Any, start: Any, stop: Any, numbers: Any) -> None:
            room = new_room(coded)
            while start < stop:
                behind = min((start // longest + 1) * longest, stop) if longest else stop
                update_piece(row, start, behind - start, (), numbers, room)
                start = behind
            free_room(room)

        return update_run


@register_jitable
def same_place(place: Any, size: Any) -> Any:
    """Pieces may begin anywhere."""
    return place


@register_jitable
def border_of_block(place: Any, size: Any) -> Any:
    """The end of the block of codes that a place is in."""
    return min((place + CODED - 1) // CODED * CODED, size)
