"""The pass over blocks for CUDA: a block of threads takes one block of elements, and adds in the order of the CPU."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import register_jitable

from fastoptim.kernels.blocks import PART, BlockKernels
from fastoptim.kernels.cuda.compile import Source
from fastoptim.kernels.cuda.memory import INT64, SIMULATED, cuda, element_loader, element_storer, reader, writer
from fastoptim.kernels.cuda.reduce import add_pairwise
from fastoptim.kernels.cuda.rows import FLOAT64, array_numbers, row_finder, step_numbers
from fastoptim.kernels.cuda.simulated import simulated
from fastoptim.kernels.memory import WORD
from fastoptim.kernels.reduce import BLOCK, LANES
from fastoptim.kernels.storage import as_it_is
from fastoptim.kernels.table import BLOCKS, END, SCALAR_ROW, SUMS, columns
from fastoptim.kernels.unroll import select

ADDED = "ld", "st", "mov", "selp", "cvt", "add"  # what is done with float64 to add values of float32


def build_blocks(
    kernels: BlockKernels, dtype: np.dtype[Any], operands: int, has_clip_norm: bool, on_device: bool
) -> Source:
    """The kernel of a function's pass over blocks.

    Args:
        kernels: for the CPU: the function, and what it needs.
        dtype: of the operands.
        operands: how many a row of the table has.
        has_clip_norm: whether the last of the step's numbers is clip_coef, which is on the device.
        on_device: read the other numbers from the device's memory, too. Otherwise they are arguments.
    """
    storages, values = (as_it_is(dtype),) * operands, kernels.values
    size = max(values, 1) * LANES  # a pass may sum nothing
    row_bytes = columns(operands, kernels.per_array) * WORD
    end, blocks_end, sums_at, scalar_row = (row_bytes + x * WORD for x in (END, BLOCKS, SUMS, SCALAR_ROW))
    row_of, word, addresses_at = row_finder(row_bytes, BLOCKS), reader(INT64, 1), reader(INT64, operands)
    with_own_numbers = array_numbers(kernels.per_array, operands, dtype)
    rows_of, numbers_of, kind = step_numbers(dtype, len(kernels.scalars), has_clip_norm, on_device)
    written = len(kernels.written)
    new, summed = select(tuple(range(written))), select(tuple(range(written, written + values)))
    load, store = element_loader(storages, 1), element_storer(storages, 1, kernels.written, kernels.zero_grads)
    element = simulated(kernels.element) if SIMULATED else kernels.element
    zeros, added = (0.0,) * values, added_to(values, FLOAT64)
    zeros_of_parts, added_to_parts = (dtype.type(0),) * values, added_to(values, dtype)
    write_lanes, write = lanes_writer(values), writer(FLOAT64)

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
            lane = cuda.threadIdx.x
            while lane < LANES:
                sums = zeros
                place = lane
                while place < PART:
                    of_parts = zeros_of_parts
                    i = first + place
                    while i < behind:
                        updated = element(*load(addresses, i)[0], *numbers)
                        store(addresses, i, (new(updated),))
                        of_parts = added_to_parts(of_parts, summed(updated))
                        i += PART
                    sums = added(sums, of_parts)
                    place += LANES
                write_lanes(lanes, lane, sums)
                lane += cuda.blockDim.x
            add_pairwise(lanes, values)
            value = cuda.threadIdx.x
            while value < values:
                write(word(at + sums_at)[0] + ((block - begin) * values + value) * WORD, lanes[value * LANES])
                value += cuda.blockDim.x
            cuda.syncthreads()  # the next block's numbers are written over these
            block += cuda.gridDim.x

    update_blocks.__qualname__ = f"{kernels.rule.__name__}_{dtype.name}"  # profilers show this name
    return Source(update_blocks, (*(types.int64,) * 4, kind), float64=ADDED)


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
