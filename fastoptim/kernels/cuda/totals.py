"""What is computed of an array's sums, for CUDA: a block of threads takes one array, and adds in the order of the CPU."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import types
from numba.extending import register_jitable

from fastoptim.kernels.cuda.blocks import added_to, lanes_writer
from fastoptim.kernels.cuda.memory import INT64, SIMULATED, cuda, reader, writer
from fastoptim.kernels.cuda.reduce import add_pairwise
from fastoptim.kernels.cuda.rows import FLOAT64, rounded, step_numbers
from fastoptim.kernels.cuda.simulated import simulated
from fastoptim.kernels.memory import WORD
from fastoptim.kernels.reduce import LANES
from fastoptim.kernels.storage import Storage
from fastoptim.kernels.table import BLOCKS, END, NUMBERS, SCALAR_ROW, SUMS, columns
from fastoptim.kernels.totals import TotalsKernels


def build_totals(
    kernels: TotalsKernels, own: Storage, has_clip_norm: bool, on_device: bool
) -> tuple[Callable[..., None], tuple[Any, ...]]:
    """The kernel that adds the sums of each array's blocks and computes functions of them, and its arguments' types.

    Args:
        kernels: for the CPU: the functions, and what they take.
        own: how the arrays lie in memory.
        has_clip_norm: whether the last of the step's numbers is clip_coef, which is on the device.
        on_device: read the other numbers from the device's memory, too. Otherwise they are arguments.
    """
    dtype, values, given = own.dtype, len(kernels.sums), len(kernels.per_array.given)
    lane_count = values * LANES
    row_bytes, count = columns(kernels.operands, kernels.per_array) * WORD, len(kernels.scalars)
    end, blocks_end, sums_at, numbers_at, scalar_row = (
        row_bytes + x * WORD for x in (END, BLOCKS, SUMS, NUMBERS, SCALAR_ROW)
    )
    word, all_sums, all_given = reader(INT64, 1), reader(FLOAT64, values), reader(FLOAT64, given)
    zeros, added, write_lanes, totals_of = (0.0,) * values, added_to(values), lanes_writer(values), _totals(values)
    slots_of = _slots(len(kernels.per_array.slots), kernels.operands * WORD, dtype)
    rows_of, numbers_of, kind = step_numbers(dtype, count, has_clip_norm, on_device)
    as_floats, results = _as_floats(count), kernels.results()
    results = simulated(results) if SIMULATED else results
    store_results = _stores(kernels.targets, len(kernels.known_names), kernels.operands * WORD, given, dtype)

    def compute_numbers(table: Any, rows: Any, clip_coef: Any, scalars: Any) -> None:
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
                    sums = added(sums, all_sums(first + i * values * WORD))
                    i += LANES
                write_lanes(lanes, lane, sums)
                lane += cuda.blockDim.x
            add_pairwise(lanes, values)
            if cuda.threadIdx.x == 0:
                numbers = word(at + numbers_at)[0]
                of_the_step = as_floats(numbers_of(rows_of(scalars), word(at + scalar_row)[0], clip_coef))
                known = totals_of(lanes) + (float(size),) + slots_of(at) + all_given(numbers)
                store_results(at, numbers, results(known + of_the_step))
            cuda.syncthreads()  # the next array's sums are written over these
            row += cuda.gridDim.x

    names = "_".join(function.__name__ for function in kernels.functions)
    compute_numbers.__qualname__ = f"{names}_{dtype.name}"  # profilers show this name
    return compute_numbers, (*(types.int64,) * 3, kind)


def _totals(count: int) -> Callable[..., Any]:
    """`(lanes) -> ` the first lane of each of `count` sums."""
    if count == 0:
        return register_jitable(lambda lanes: ())
    before, first = _totals(count - 1), (count - 1) * LANES
    return register_jitable(lambda lanes: before(lanes) + (lanes[first],))


def _as_floats(count: int) -> Callable[..., Any]:
    """`(numbers) -> ` the same as float64."""
    if count == 0:
        return register_jitable(lambda numbers: ())
    before, last, number = _as_floats(count - 1), count - 1, np.float64
    return register_jitable(lambda numbers: before(numbers) + (number(numbers[last]),))


def _slots(count: int, at: int, dtype: np.dtype[Any]) -> Callable[..., Any]:
    """`(row) -> ` the state's numbers of an array, as float64."""
    if count == 0:
        return register_jitable(lambda row: ())
    before, word, read = _slots(count - 1, at, dtype), reader(INT64, 1), reader(dtype, 1)
    address, number = at + (count - 1) * WORD, np.float64
    return register_jitable(lambda row: before(row) + (number(read(word(row + address)[0])[0]),))


def _stores(
    targets: Sequence[tuple[int, int]], known: int, slots_at: int, given: int, dtype: np.dtype[Any]
) -> Callable[..., Any]:
    """`(row, numbers, results)`: write each result to what is given, and to its slot of the array if it has one.

    Args:
        targets: of the results, see `TotalsKernels`.
        known: how many numbers are in front of the results.
        slots_at: bytes from the beginning of a row to the addresses of the slots.
        given: how many numbers an array has.
        dtype: of the array.
    """
    if not targets:
        return register_jitable(lambda row, numbers, results: None)
    before, (index, slot) = _stores(targets[:-1], known, slots_at, given, dtype), targets[-1]
    last, address, is_slot = known + len(targets) - 1, slots_at + slot * WORD, slot >= 0
    word, write, write_own, in_own_dtype = reader(INT64, 1), writer(FLOAT64), writer(dtype), dtype.type
    wide, narrow, is_narrow = index * WORD, rounded(given, dtype) + index * dtype.itemsize, dtype != FLOAT64

    @register_jitable
    def store_results(row: Any, numbers: Any, results: Any) -> None:
        before(row, numbers, results)
        write(numbers + wide, results[last])
        if is_narrow:
            write_own(numbers + narrow, in_own_dtype(results[last]))
        if is_slot:
            write_own(word(row + address)[0], in_own_dtype(results[last]))

    return store_results
