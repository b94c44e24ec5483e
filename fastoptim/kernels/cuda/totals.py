"""What is computed of sums over arrays, for CUDA. A block of threads adds those of an array, in the CPU's order."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import types
from numba.extending import register_jitable

from fastoptim.kernels.cuda.blocks import added_to, lanes_reader, lanes_writer
from fastoptim.kernels.cuda.compile import Source
from fastoptim.kernels.cuda.memory import INT64, cuda, reader, writer
from fastoptim.kernels.cuda.numbers import for_kernels
from fastoptim.kernels.cuda.reduce import add_pairwise
from fastoptim.kernels.cuda.rows import FLOAT64, array_slots, rounded, step_numbers
from fastoptim.kernels.memory import WORD
from fastoptim.kernels.reduce import LANES
from fastoptim.kernels.table import BLOCKS, END, NUMBERS, SCALAR_ROW, SUMS, columns
from fastoptim.kernels.totals import TotalsKernels


def build_totals(kernels: TotalsKernels, dtype: np.dtype[Any], has_clip_norm: bool, on_device: bool) -> Source:
    """The kernel that follows a pass over blocks.

    It adds the sums of each array's blocks, and computes the functions of them. Where these are about all arrays
    together, it writes the array's sums over those of its first block instead.

    Args:
        kernels: for the CPU: the functions, and what they take.
        dtype: in which the arrays are updated.
        has_clip_norm: whether the last of the step's numbers is clip_coef, which is on the device.
        on_device: read the other numbers from the device's memory, too. Otherwise they are arguments.
    """
    values, over_all = len(kernels.sums), kernels.over_all
    row_bytes, lane_count = columns(kernels.operands, kernels.per_array) * WORD, values * LANES
    end, blocks_end, sums_at = (row_bytes + x * WORD for x in (END, BLOCKS, SUMS))
    word, read, write = reader(INT64, 1), reader(FLOAT64, values), writer(FLOAT64)
    zeros, added, write_lanes, lanes_at = (
        (0.0,) * values,
        added_to(values, FLOAT64),
        lanes_writer(values),
        lanes_reader(values),
    )
    kind, compute = _computing(kernels, dtype, has_clip_norm, on_device)
    store = _storing(kernels, row_bytes)

    def add_blocks(table: Any, rows: Any, clip_coef: Any, scalars: Any) -> None:
        lanes = cuda.shared.array(lane_count, types.float64)
        row = cuda.blockIdx.x
        while row < rows:
            at = table + row * row_bytes
            begin = word(at - row_bytes + blocks_end)[0] if row > 0 else 0
            element = word(at - row_bytes + end)[0] if row > 0 else 0
            blocks, size = word(at + blocks_end)[0] - begin, word(at + end)[0] - element
            lane, first = cuda.threadIdx.x, word(at + sums_at)[0]
            while lane < LANES:
                sums = zeros
                i = lane
                while i < blocks:
                    sums = added(sums, read(first + i * values * WORD))
                    i += LANES
                write_lanes(lanes, lane, sums)
                lane += cuda.blockDim.x
            add_pairwise(lanes, values)
            if over_all:
                value = cuda.threadIdx.x
                while blocks > 0 and value < values:
                    write(first + value * WORD, lanes[value * LANES])
                    value += cuda.blockDim.x
            elif cuda.threadIdx.x == 0:
                store(at, compute(at, lanes_at(lanes, 0), size, clip_coef, scalars))
            cuda.syncthreads()  # the next array's sums are written over these
            row += cuda.gridDim.x

    add_blocks.__qualname__ = f"{_names(kernels)}_{dtype.name}"  # profilers show this name
    return Source(add_blocks, (*(types.int64,) * 3, kind), float64=None)


def build_common(kernels: TotalsKernels, dtype: np.dtype[Any], has_clip_norm: bool, on_device: bool) -> Source:
    """The kernel of one block of threads that adds the sums of all arrays, and gives all of them what it computes.

    See `build_totals`. The order of the arrays is that of `ArraySums.order_words`.
    """
    values, row_bytes = len(kernels.sums), columns(kernels.operands, kernels.per_array) * WORD
    lane_count, sums_at = values * LANES, row_bytes + SUMS * WORD
    word, read, entry = reader(INT64, 1), reader(FLOAT64, values), reader(INT64, 2)
    zeros, added, write_lanes, lanes_at = (
        (0.0,) * values,
        added_to(values, FLOAT64),
        lanes_writer(values),
        lanes_reader(values),
    )
    kind, compute = _computing(kernels, dtype, has_clip_norm, on_device)
    store = _storing(kernels, row_bytes)

    def add_arrays(order: Any, size: Any, clip_coef: Any, scalars: Any) -> None:
        lanes = cuda.shared.array(lane_count, types.float64)
        arrays, sums, first = word(order)[0], zeros, 0
        while first < arrays:
            count = min(arrays - first, LANES)
            lane = cuda.threadIdx.x
            while lane < count:
                row, blocks = entry(order + (1 + 3 * (first + lane)) * WORD)
                write_lanes(lanes, lane, read(word(row + sums_at)[0]) if blocks > 0 else zeros)
                lane += cuda.blockDim.x
            cuda.syncthreads()
            for i in range(count):  # each thread by itself: all need the sums
                sums = added(sums, lanes_at(lanes, i))
            cuda.syncthreads()
            first += LANES
        found = compute(word(order + WORD)[0], sums, size, clip_coef, scalars)
        cuda.syncthreads()  # all have read the state's numbers
        i = cuda.threadIdx.x
        while i < arrays:
            store(word(order + (1 + 3 * i) * WORD)[0], found)
            i += cuda.blockDim.x

    add_arrays.__qualname__ = f"{_names(kernels)}_{dtype.name}"
    return Source(add_arrays, (*(types.int64,) * 3, kind), float64=None)


def _names(kernels: TotalsKernels) -> str:
    return "_".join(function.__name__ for function in kernels.functions)


def _computing(
    kernels: TotalsKernels, dtype: np.dtype[Any], has_clip_norm: bool, on_device: bool
) -> tuple[Any, Callable[..., Any]]:
    """The type of the argument `scalars`, and `(row, sums, size, clip_coef, scalars) -> ` what the functions return."""
    given, count = len(kernels.per_array.given), len(kernels.scalars)
    row_bytes = columns(kernels.operands, kernels.per_array) * WORD
    numbers_at, scalar_row = row_bytes + NUMBERS * WORD, row_bytes + SCALAR_ROW * WORD
    word, all_given = reader(INT64, 1), reader(FLOAT64, given)
    slots_of = array_slots(len(kernels.per_array.slots), kernels.operands * WORD)
    rows_of, numbers_of, kind = step_numbers(dtype, count, has_clip_norm, on_device)
    as_floats, results = rounded(count, FLOAT64), for_kernels(kernels.results())

    @register_jitable
    def compute(row: Any, sums: Any, size: Any, clip_coef: Any, scalars: Any) -> Any:
        of_the_step = as_floats(numbers_of(rows_of(scalars), word(row + scalar_row)[0], clip_coef))
        known = sums + (float(size),) + all_given(word(row + numbers_at)[0]) + slots_of(row)
        return results(known + of_the_step)

    return kind, compute


def _storing(kernels: TotalsKernels, row_bytes: int) -> Callable[..., Any]:
    """`(row, results)`: write each result to what is given to an array, and to its slot of the array if it has one."""
    return _stores(kernels.targets, len(kernels.known_names), row_bytes + NUMBERS * WORD, kernels.operands * WORD)


def _stores(targets: Sequence[tuple[int, int]], known: int, numbers_at: int, slots_at: int) -> Callable[..., Any]:
    if not targets:
        return register_jitable(lambda row, results: None)
    before, (index, slot) = _stores(targets[:-1], known, numbers_at, slots_at), targets[-1]
    last, place, address, is_slot = known + len(targets) - 1, index * WORD, slots_at + slot * WORD, slot >= 0
    word, write = reader(INT64, 1), writer(FLOAT64)

    @register_jitable
    def store_results(row: Any, results: Any) -> None:
        before(row, results)
        write(word(row + numbers_at)[0] + place, results[last])
        if is_slot:
            write(word(row + address)[0], results[last])

    return store_results
