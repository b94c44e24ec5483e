"""How kernels find the row of a table that they work on, and the numbers that hold there."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import register_jitable

from fastoptim.kernels.cuda.memory import INT64, reader
from fastoptim.kernels.memory import WORD
from fastoptim.kernels.table import NUMBERS, PerArray, columns

FLOAT64 = np.dtype(np.float64)


def row_finder(row_bytes: int, column: int) -> Callable[..., Any]:
    """`(table, rows, number) -> ` the first row where a column is greater. It grows from row to row.

    Args:
        row_bytes: of a row of the table.
        column: counted from the end of the row.
    """
    words, at = reader(INT64, 2), row_bytes + (column - 1) * WORD  # the column is the second of them

    @register_jitable
    def row_of(table: Any, rows: Any, number: Any) -> Any:
        low, high = 0, rows - 1
        while low < high:
            middle = (low + high) >> 1
            if words(table + middle * row_bytes + at)[1] > number:
                high = middle
            else:
                low = middle + 1
        return low

    return row_of


class StepNumbers(NamedTuple):
    """How a kernel reads the numbers of a step.

    Attributes:
        rows_of: `(scalars) -> ` the rows of this step: one for each group of segments. `scalars` is the kernel's
            argument.
        numbers_of: `(rows, row, clip_coef) -> ` the numbers of one row, and behind them what is at the address
            `clip_coef`, if there is one.
        type: of `scalars`.
    """

    rows_of: Callable[..., Any]
    numbers_of: Callable[..., Any]
    type: Any


def step_numbers(dtype: np.dtype[Any], count: int, has_clip_norm: bool, on_device: bool) -> StepNumbers:
    """How a kernel reads `count` numbers of a dtype, clip_coef among them: on the device, or as arguments."""
    count -= has_clip_norm  # clip_coef is always on the device
    shift = dtype.itemsize.bit_length() - 1
    word, scalars_at, clip_coef_at = reader(INT64, 1), reader(dtype, count), reader(dtype, int(has_clip_norm))

    @register_jitable
    def rows_on_device(scalars: Any) -> Any:
        address, steps, step = scalars
        now = min(word(step)[0], steps - 1) if steps > 1 else 0
        return address + ((now * count) << shift)

    @register_jitable
    def numbers_on_device(rows: Any, row: Any, clip_coef: Any) -> Any:
        return scalars_at(rows + ((row * count) << shift)) + clip_coef_at(clip_coef)

    @register_jitable
    def numbers_given(scalars: Any, row: Any, clip_coef: Any) -> Any:
        return scalars + clip_coef_at(clip_coef)

    if on_device:
        return StepNumbers(rows_on_device, numbers_on_device, types.UniTuple(types.int64, 3))
    kind = types.UniTuple(getattr(types, dtype.name), count)
    return StepNumbers(register_jitable(lambda scalars: scalars), numbers_given, kind)


def array_numbers(per_array: PerArray, operands: int, dtype: np.dtype[Any]) -> Callable[..., Any]:
    """`(row, numbers) -> ` the numbers of an array, in its dtype: of the state, then given ones; then those numbers."""
    if not per_array.number_count:
        return register_jitable(lambda row, numbers: numbers)
    word, given = reader(INT64, 1), len(per_array.given)
    slots_of, read, cast = (
        array_slots(len(per_array.slots), operands * WORD),
        reader(FLOAT64, given),
        rounded(given, dtype),
    )
    at, cast_slots = columns(operands, per_array) * WORD + NUMBERS * WORD, rounded(len(per_array.slots), dtype)
    return register_jitable(lambda row, numbers: cast_slots(slots_of(row)) + cast(read(word(row + at)[0])) + numbers)


def array_slots(count: int, at: int) -> Callable[..., Any]:
    """`(row) -> ` the numbers of an array's state, float64, whose addresses stand `at` bytes behind its beginning."""
    if not count:
        return register_jitable(lambda row: ())
    before, word, read, address = (
        array_slots(count - 1, at),
        reader(INT64, 1),
        reader(FLOAT64, 1),
        at + (count - 1) * WORD,
    )
    return register_jitable(lambda row: before(row) + read(word(row + address)[0]))


def rounded(count: int, dtype: np.dtype[Any]) -> Callable[..., Any]:
    """`(numbers) -> ` the same in a dtype."""
    if not count:
        return register_jitable(lambda numbers: ())
    before, last, number = rounded(count - 1, dtype), count - 1, dtype.type
    return register_jitable(lambda numbers: before(numbers) + (number(numbers[last]),))
