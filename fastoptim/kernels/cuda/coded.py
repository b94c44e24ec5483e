"""The update of a block of codes by a team of threads, which has all its new numbers in registers.

The block's scale follows from the largest of them, so that none can be encoded before all are known.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from fastoptim.kernels.codes import CODED, larger_size, scale_and_factor, scale_of
from fastoptim.kernels.cuda.memory import SIMULATED, cuda, device_function, vector_width, word_storer, writer
from fastoptim.kernels.cuda.numbers import (
    element_loader,
    for_kernels,
    narrowed_lanes,
    scales_reader,
    updated_lanes,
)
from fastoptim.kernels.storage import F4, Codes, Storage
from fastoptim.kernels.unroll import unrolled

Function = Callable[..., Any]
TEAM = 1 if SIMULATED else 32  # threads: a warp, whose threads can look into each other's registers
OWN = CODED // TEAM  # elements of a block that a thread has
ALL_THREADS = 0xFFFFFFFF


class CodedUpdate(NamedTuple):
    """How a team updates a block of codes.

    Attributes:
        update: `(addresses, start, size, numbers, key, offset) -> ` what the element function returned of each lane.
            The block has `size` elements from `start` on. With random numbers, `key` is that of the block's chunk, and
            `offset` what leads from an element's number to its place there. All threads of a team have to call it.
        places: where in the block the lanes of a team's first thread are.
        step: how far those of the next thread are from these.
    """

    update: Function
    places: tuple[int, ...]
    step: int


def coded_update(
    storages: Sequence[Storage],
    element: Function,
    written: Sequence[int],
    own_bits: Mapping[int, int],
    zero_grads: bool,
    are_aligned: Function,
) -> CodedUpdate:
    """The update of a block.

    Args:
        storages: of the operands.
        element: the function of one element. It returns the new numbers, and perhaps others behind them.
        written: the columns that the new numbers are written to.
        own_bits: see `narrowing`.
        zero_grads: whether gradients are set to zero.
        are_aligned: `(addresses, i) -> ` whether vectors of all operands that begin at element `i` are aligned.
    """
    width = vector_width(storages)
    places = tuple(i // width * TEAM * width + i % width for i in range(OWN))
    scales_at, update_lanes = scales_reader(storages), updated_lanes(element, OWN)
    load_all = _in_vectors(element_loader(storages, width), places[::width])
    load_each = _one_by_one(element_loader(storages, 1), places)
    largest_of, write_scales = _largest(storages, written, places), _scales_writer(storages, written, bool(own_bits))
    narrow = narrowed_lanes(storages, written, own_bits, places)
    store_all = _stored_in_vectors(word_storer(storages, width, written, zero_grads), places[::width], width)
    store_each = _stored_one_by_one(word_storer(storages, 1, written, zero_grads), places)

    @device_function
    def update_block(addresses: Any, start: Any, size: Any, numbers: Any, key: Any, offset: Any) -> Any:
        thread = cuda.threadIdx.x % TEAM
        first, behind = start + thread * width, start + size
        scales = scales_at(addresses, start)
        in_vectors = size == CODED and are_aligned(addresses, start)
        lanes = load_all(addresses, first, scales) if in_vectors else load_each(addresses, first, scales, behind - 1)
        updated = update_lanes(lanes, numbers)
        largest = largest_of(updated, first, behind)
        _wait_for_team()  # all of them have read the scales that are written now
        factors = write_scales(addresses, start, thread, largest)
        words = narrow(updated, first + offset, key, factors)
        if in_vectors:
            store_all(addresses, first, words)
        else:
            store_each(addresses, first, words, behind)
        return updated

    return CodedUpdate(update_block, places, width)


def _in_vectors(load: Function, starts: Sequence[int]) -> Function:
    """`(addresses, first, scales) -> ` the lanes of vectors that begin so far behind `first`."""
    calls = " + ".join(f"load(addresses, first + {start}, scales)" for start in starts)
    lanes = unrolled("loaded", "addresses, first, scales", [calls], len(starts), load=load)
    return register_jitable(lambda addresses, first, scales: lanes(addresses, first, scales)[0])


def _stored_in_vectors(store: Function, starts: Sequence[int], width: int) -> Function:
    """`(addresses, first, words)`, the reverse."""
    calls = (f"store(addresses, first + {x}, words[{i * width}:{(i + 1) * width}])" for i, x in enumerate(starts))
    return unrolled("stored", "addresses, first, words", calls, width, len(starts), store=store)


def _one_by_one(load: Function, places: Sequence[int]) -> Function:
    """`(addresses, first, scales, last) -> ` lanes that are so far behind `first`; the last one in place of others."""
    calls = (f"load(addresses, min(first + {place}, last), scales)[0]" for place in places)
    return unrolled("loaded", "addresses, first, scales, last", calls, len(places), load=load)


def _stored_one_by_one(store: Function, places: Sequence[int]) -> Function:
    """`(addresses, first, words, behind)`: store the lanes in front of `behind`."""

    @register_jitable
    def store_lane(addresses: Any, i: Any, words: Any, behind: Any) -> None:
        if i < behind:
            store(addresses, i, (words,))

    calls = (f"store(addresses, first + {place}, words[{i}], behind)" for i, place in enumerate(places))
    return unrolled("stored", "addresses, first, words, behind", calls, len(places), store=store_lane)


def fma_count(storages: Sequence[Storage], written: Sequence[int]) -> int:
    """How many fused multiply-adds decode and encode the lanes of a thread: in vectors, and one by one."""
    return OWN * (2 * sum(x.codes is not None for x in storages) + len(_coded(storages, written)))


def _coded(storages: Sequence[Storage], written: Sequence[int]) -> list[tuple[int, int, Codes]]:
    """The operands with codes that are written: place among what is written, column, codes."""
    every = ((place, column, storages[column].codes) for place, column in enumerate(written))
    return [(place, column, codes) for place, column, codes in every if codes is not None]


def _largest(storages: Sequence[Storage], written: Sequence[int], places: Sequence[int]) -> Function:
    """`(lanes, first, behind) -> ` the bits of a block's largest sizes, of operands with codes, for all threads.

    Lanes that are not in front of `behind` do not count.
    """
    found = _coded(storages, written)
    names, count = [codes.name for _, _, codes in found], len(found)
    sizes = {f"size{i}": codes.size for i, (_, _, codes) in enumerate(found)}
    larger = (f"larger_size(bits[{i}], size{i}(lane[{place}]))" for i, (place, _, _) in enumerate(found))
    with_lane = for_kernels(unrolled("larger", "bits, lane", larger, *names, larger_size=larger_size, **sizes))
    of_lanes = _largest_of_lanes(with_lane, places, (np.int32(0),) * count)
    of_team = unrolled("largest", "bits", (f"of_team(bits[{i}])" for i in range(count)), count, of_team=_of_team)
    return register_jitable(lambda lanes, first, behind: of_team(of_lanes(lanes, first, behind)))


def _largest_of_lanes(with_lane: Function, places: Sequence[int], zeros: tuple[Any, ...]) -> Function:
    if not places:
        return register_jitable(lambda lanes, first, behind: zeros)
    before, last, place = _largest_of_lanes(with_lane, places[:-1], zeros), len(places) - 1, places[-1]

    @register_jitable
    def largest(lanes: Any, first: Any, behind: Any) -> Any:
        bits = before(lanes, first, behind)
        return with_lane(bits, lanes[last]) if first + place < behind else bits

    return largest


@device_function
def _of_team(bits: Any) -> Any:
    """The largest integer of all threads in a team."""
    distance = TEAM >> 1
    while distance > 0:
        bits = max(bits, cuda.shfl_xor_sync(ALL_THREADS, bits, distance))
        distance >>= 1
    return bits


@device_function
def _wait_for_team() -> None:
    if not SIMULATED:
        cuda.syncwarp()


def _scales_writer(storages: Sequence[Storage], written: Sequence[int], is_random: bool) -> Function:
    """`(addresses, start, thread, bits) -> ` factors: the team's first thread writes the scales, see `_largest`."""
    found = _coded(storages, written)
    writers = {f"write{i}": _scale_writer(codes.limit(is_random)) for i, (_, _, codes) in enumerate(found)}
    calls = (f"write{i}(addresses[{column}], start, thread, bits[{i}])" for i, (_, column, _) in enumerate(found))
    content = *(column for _, column, _ in found), *(codes.name for _, _, codes in found), is_random
    return unrolled("factors", "addresses, start, thread, bits", calls, *content, **writers)


def _scale_writer(top: Any) -> Function:
    write, computed = writer(F4), for_kernels(scale_and_factor)

    @register_jitable
    def write_scale(address: Any, start: Any, thread: Any, bits: Any) -> Any:
        scale, factor = computed(bits, top)
        if thread == 0:
            write(scale_of(address, start), scale)
        return factor

    return write_scale
