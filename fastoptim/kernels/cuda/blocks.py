"""The pass over blocks for CUDA: a block of threads takes one block of elements, and adds in the order of the CPU."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import types
from numba.extending import register_jitable

from fastoptim.kernels.blocks import PART, BlockKernels
from fastoptim.kernels.chunks import chunk_finder, random_numbers
from fastoptim.kernels.codes import CODED
from fastoptim.kernels.cuda.coded import TEAM, coded_update, fma_count
from fastoptim.kernels.cuda.compile import Source
from fastoptim.kernels.cuda.memory import (
    INT64,
    SIMULATED,
    alignment,
    cuda,
    device_function,
    reader,
    vector_width,
    writer,
)
from fastoptim.kernels.cuda.numbers import element_loader, element_storer, for_kernels
from fastoptim.kernels.cuda.reduce import add_pairwise
from fastoptim.kernels.cuda.rows import FLOAT64, array_numbers, row_finder, step_numbers
from fastoptim.kernels.memory import WORD
from fastoptim.kernels.reduce import BLOCK, LANES
from fastoptim.kernels.storage import Storage
from fastoptim.kernels.table import BLOCKS, END, PARAM, SCALAR_ROW, SUMS, columns
from fastoptim.kernels.unroll import select, unrolled

ADDED = "ld", "st", "mov", "selp", "cvt", "add"  # what is done with float64 to add values of float32


def build_blocks(kernels: BlockKernels, storages: tuple[Storage, ...], has_clip_norm: bool, on_device: bool) -> Source:
    """The kernel of a function's pass over blocks.

    Args:
        kernels: for the CPU: the function, and what it needs.
        storages: of the operands.
        has_clip_norm: whether the last of the step's numbers is clip_coef, which is on the device.
        on_device: read the other numbers from the device's memory, too. Otherwise they are arguments.
    """
    operands, dtype, values, per_array = len(storages), storages[PARAM].computed, kernels.values, kernels.per_array
    size = max(values, 1) * LANES  # a pass may sum nothing
    row_bytes = columns(operands, per_array) * WORD
    end, blocks_end, sums_at, scalar_row = (row_bytes + x * WORD for x in (END, BLOCKS, SUMS, SCALAR_ROW))
    row_of, word, addresses_at = row_finder(row_bytes, BLOCKS), reader(INT64, 1), reader(INT64, operands)
    with_own_numbers = array_numbers(per_array, operands, dtype)
    rows_of, numbers_of, kind = step_numbers(dtype, len(kernels.scalars), has_clip_norm, on_device)
    chunk_at = for_kernels(chunk_finder(storages, per_array, kernels.names))
    has_codes = any(storage.codes for storage in storages)
    sum_lanes, write = (_sums_of_codes if has_codes else _sums_one_by_one)(kernels, storages), writer(FLOAT64)

    def update_blocks(table: Any, rows: Any, blocks: Any, clip_coef: Any, scalars: Any) -> None:
        lanes = cuda.shared.array(size, types.float64)
        step_rows = rows_of(scalars)
        block = cuda.blockIdx.x
        while block < blocks:
            row = row_of(table, rows, block)
            at = table + row * row_bytes
            begin = word(at - row_bytes + blocks_end)[0] if row > 0 else 0
            before = word(at - row_bytes + end)[0] if row > 0 else 0
            addresses = addresses_at(at)
            numbers = with_own_numbers(at, numbers_of(step_rows, word(at + scalar_row)[0], clip_coef))
            first = (block - begin) * BLOCK
            behind = min(first + BLOCK, word(at + end)[0] - before)
            key, place = chunk_at(at, first, numbers)
            sum_lanes(lanes, addresses, first, behind, numbers, key, place - first)
            add_pairwise(lanes, values)
            value = cuda.threadIdx.x
            while value < values:
                write(word(at + sums_at)[0] + ((block - begin) * values + value) * WORD, lanes[value * LANES])
                value += cuda.blockDim.x
            cuda.syncthreads()  # the next block's numbers are written over these
            block += cuda.gridDim.x

    update_blocks.__qualname__ = f"{kernels.rule.__name__}_{dtype.name}"  # profilers show this name
    return Source(update_blocks, (*(types.int64,) * 4, kind), float64=ADDED, fma=fma_count(storages, kernels.written))


def _sums_one_by_one(kernels: BlockKernels, storages: tuple[Storage, ...]) -> Callable[..., Any]:
    """`(lanes, addresses, first, behind, numbers, key, offset)`: update the elements of a block, and sum their values.

    The sums are added where the elements stand in the same place of a part, in the order of the CPU. For `key` and
    `offset` see `CodedUpdate`.
    """
    written, values, dtype = len(kernels.written), kernels.values, storages[PARAM].computed
    new, summed = select(tuple(range(written))), select(tuple(range(written, written + values)))
    own_bits, element = random_numbers(storages, kernels.fused), for_kernels(kernels.element)
    load = element_loader(storages, 1)
    store = element_storer(storages, 1, kernels.written, own_bits, kernels.zero_grads)
    zeros, added = (0.0,) * values, added_to(values, FLOAT64)
    zeros_of_parts, added_to_parts = (dtype.type(0),) * values, added_to(values, dtype)
    write_lanes = lanes_writer(values)

    @device_function
    def sum_lanes(lanes: Any, addresses: Any, first: Any, behind: Any, numbers: Any, key: Any, offset: Any) -> None:
        lane = cuda.threadIdx.x
        while lane < LANES:
            sums = zeros
            place = lane
            while place < PART:
                of_parts = zeros_of_parts
                i = first + place
                while i < behind:
                    updated = element(*load(addresses, i, ())[0], *numbers)
                    store(addresses, i, (new(updated),), key, offset)
                    of_parts = added_to_parts(of_parts, summed(updated))
                    i += PART
                sums = added(sums, of_parts)
                place += LANES
            write_lanes(lanes, lane, sums)
            lane += cuda.blockDim.x

    return sum_lanes


def _sums_of_codes(kernels: BlockKernels, storages: tuple[Storage, ...]) -> Callable[..., Any]:
    """The same for operands of which some have codes: a team of threads updates what shares a scale, and sums it.

    A part has `PART // CODED` such pieces. Each team takes the same ones of all parts. Their sums are added in order.
    """
    written, values, dtype = len(kernels.written), kernels.values, storages[PARAM].computed
    own_bits, element = random_numbers(storages, kernels.fused), for_kernels(kernels.element)
    # Then the elements of two threads are never dealt out to the same sum.
    assert SIMULATED or TEAM * vector_width(storages) == LANES
    are_aligned, pieces = alignment(storages, vector_width(storages)), PART // CODED
    update, places, step = coded_update(storages, element, kernels.written, own_bits, kernels.zero_grads, are_aligned)
    summed, write_lanes = select(tuple(range(written, written + values))), lanes_writer(values)
    zeros, zeros_of_lanes = (0.0,) * values, ((dtype.type(0),) * values,) * len(places)
    added_to_lanes = _added_in_front(summed, added_to(values, dtype), places)
    add_lanes = _lanes_adder(values, places)

    @device_function
    def sum_lanes(lanes: Any, addresses: Any, first: Any, behind: Any, numbers: Any, key: Any, offset: Any) -> None:
        lane, team, teams = cuda.threadIdx.x, cuda.threadIdx.x // TEAM, cuda.blockDim.x // TEAM
        while lane < LANES:
            write_lanes(lanes, lane, zeros)
            lane += cuda.blockDim.x
        piece, own = team, cuda.threadIdx.x % TEAM * step
        while piece - team < pieces:
            of_lanes, start = zeros_of_lanes, first + piece * CODED
            while piece < pieces and start < behind:
                updated = update(addresses, start, min(CODED, behind - start), numbers, key, offset)
                of_lanes = added_to_lanes(of_lanes, updated, start + own, behind)
                start += PART
            for turn in range(teams):
                cuda.syncthreads()
                if turn == team:
                    add_lanes(lanes, of_lanes, own)
            piece += teams

    return sum_lanes


def _added_in_front(summed: Callable[..., Any], added: Callable[..., Any], places: Sequence[int]) -> Callable[..., Any]:
    """`(sums, updated, first, behind) -> ` the sums of each lane with its values, for lanes in front of `behind`."""

    @register_jitable
    def add(sums: Any, updated: Any, i: Any, behind: Any) -> Any:
        return added(sums, summed(updated)) if i < behind else sums

    calls = (f"add(sums[{i}], updated[{i}], first + {place}, behind)" for i, place in enumerate(places))
    return unrolled("added", "sums, updated, first, behind", calls, len(places), add=add)


def _lanes_adder(values: int, places: Sequence[int]) -> Callable[..., Any]:
    """`(lanes, sums, own)`: add the sums of a thread's lanes to those to which elements in their places are dealt."""
    calls = [
        f"add(lanes, {value * LANES} + (own + {place}) % {LANES}, sums[{i}][{value}])"
        for i, place in enumerate(places)
        for value in range(values)
    ]
    return unrolled("lanes", "lanes, sums, own", calls, values, len(places), add=_add)


@register_jitable
def _add(lanes: Any, i: Any, value: Any) -> None:
    lanes[i] += value


def added_to(count: int, dtype: np.dtype[Any]) -> Callable[..., Any]:
    """`(sums, values) -> ` each of `count` sums, which are of a dtype, with a value more."""
    if count == 0:
        return register_jitable(lambda sums, values: ())
    before, last, number = added_to(count - 1, dtype), count - 1, dtype.type  # a value may be a bool
    return register_jitable(lambda sums, values: before(sums, values) + (sums[last] + number(values[last]),))


def lanes_writer(count: int) -> Callable[..., Any]:
    """`(lanes, lane, sums)`: write `count` sums to a lane of each."""
    if count == 0:
        return register_jitable(lambda lanes, lane, sums: None)
    before, last, first = lanes_writer(count - 1), count - 1, (count - 1) * LANES

    @register_jitable
    def write_lanes(lanes: Any, lane: Any, sums: Any) -> None:
        before(lanes, lane, sums)
        lanes[first + lane] = sums[last]

    return write_lanes


def lanes_reader(count: int) -> Callable[..., Any]:
    """`(lanes, lane) -> ` that lane of each of `count` sums."""
    if count == 0:
        return register_jitable(lambda lanes, lane: ())
    before, first = lanes_reader(count - 1), (count - 1) * LANES
    return register_jitable(lambda lanes, lane: before(lanes, lane) + (lanes[first + lane],))
