"""Gradients of some rows: the order of the rows, the sum of each one's gradients, and a table with segments of rows.

A row that occurs several times has the sum of its gradients, which are added in the order in which they appear. Rows
are updated each by itself, so that the bits depend on nothing but the gradients.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import types

from fastoptim.kernels import halves, jit, memory, row_order, storage
from fastoptim.kernels.guard import DATA, SHAPE
from fastoptim.kernels.jit import compiled, jitable, name_apart
from fastoptim.kernels.launch import Pass
from fastoptim.kernels.memory import WORD, WORDS, array_at, prefetch, store_word, word_at
from fastoptim.kernels.row_order import find_unique, sort_by_index
from fastoptim.kernels.rule import fingerprint
from fastoptim.kernels.storage import Storage
from fastoptim.kernels.table import END, GRAD, SCALAR_ROW

# Where everything is: what comes with a call, then what stays, then what is found.
FIELDS = (
    "indices", "count", "values", "rows", "row_size", "template", "operands", "columns", "itemsizes", "steps", "now",
    "table", "order", "spare", "starts", "sums", "summed", "unique", "segments", "sum_count",
)  # fmt: skip
ROW_WORDS = np.dtype([(name, np.int64) for name in FIELDS])
(
    INDICES, COUNT, VALUES, ROWS, ROW_SIZE, TEMPLATE, OPERANDS, COLUMNS, ITEMSIZES, STEPS, NOW,
    TABLE, ORDER, SPARE, STARTS, SUMS, SUMMED, UNIQUE, SEGMENTS, SUM_COUNT,
) = range(len(FIELDS))  # fmt: skip
STEP = np.int32  # of the dtype of a row's count of steps
LIKE_STEPS = np.empty(0, STEP)


def _prepare(words: int, indices_of: int, values_of: int, needs_one: int) -> bool:
    """Find the rows of a gradient, and fill the table with segments of them.

    Args:
        words: the address of those of `FIELDS`.
        indices_of: the address of the header of the indices, an array of NumPy.
        values_of: that of the values.
        needs_one: whether the gradients of all rows have to lie one behind another.

    Returns:
        Whether all indices are in range. If not, nothing but scratch memory was written.
    """
    count, values = word_at(word_at(indices_of + SHAPE)), word_at(values_of + DATA)
    store_word(words + COUNT * WORD, count)
    store_word(words + INDICES * WORD, word_at(indices_of + DATA))
    store_word(words + VALUES * WORD, values)
    rows, row_size = word_at(words + ROWS * WORD), word_at(words + ROW_SIZE * WORD)
    indices = array_at(word_at(words + INDICES * WORD), WORDS, count)
    order = array_at(word_at(words + ORDER * WORD), WORDS, count)
    starts = array_at(word_at(words + STARTS * WORD), WORDS, count + 1)
    for i in range(count):  # they are brought while the rows are sorted
        prefetch(word_at(words + STEPS * WORD) + indices[i] * LIKE_STEPS.itemsize, 1)
    if not sort_by_index(indices, rows, order, array_at(word_at(words + SPARE * WORD), WORDS, count)):
        return False
    unique = find_unique(indices, order, starts)
    operands, columns = word_at(words + OPERANDS * WORD), word_at(words + COLUMNS * WORD)
    itemsizes = array_at(word_at(words + ITEMSIZES * WORD), WORDS, operands)
    template = array_at(word_at(words + TEMPLATE * WORD), WORDS, columns)
    table = array_at(word_at(words + TABLE * WORD), WORDS, count * columns)
    summed = array_at(word_at(words + SUMMED * WORD), WORDS, count)
    steps, now = array_at(word_at(words + STEPS * WORD), LIKE_STEPS, rows), word_at(words + NOW * WORD)
    sums = word_at(words + SUMS * WORD)
    grad_bytes, end, segments, sum_count, before, next_grad = row_size * itemsizes[GRAD], 0, 0, 0, -2, 0
    at = -columns
    for i in range(unique):
        place = order[starts[i]]
        row = indices[place]
        if needs_one or starts[i + 1] - starts[i] > 1:
            grad = sums + i * grad_bytes
            summed[sum_count] = i
            sum_count += 1
        else:
            grad = values + place * grad_bytes
        scalar_row = steps[row] if now < 0 else now - steps[row]
        end += row_size
        if row != before + 1 or grad != next_grad or table[at + columns + SCALAR_ROW] != scalar_row:
            at += columns
            segments += 1
            for column in range(operands):
                table[at + column] = template[column] + row * row_size * itemsizes[column]
            table[at + GRAD] = grad
            table[at + columns + SCALAR_ROW] = scalar_row
        table[at + columns + END] = end
        before, next_grad = row, grad + grad_bytes
    store_word(words + UNIQUE * WORD, unique)
    store_word(words + SEGMENTS * WORD, segments)
    store_word(words + SUM_COUNT * WORD, sum_count)
    return True


_FINGERPRINT = f"{fingerprint(memory, row_order, storage, halves, jit):x}"
name_apart(_prepare, _FINGERPRINT)
prepare_rows = compiled(_prepare, "the order of rows", nogil=False)  # it reads Python's objects
PREPARE = (types.int64,) * 4  # the types of its arguments


@cache
def sum_pass(own: Storage) -> Pass:
    """The pass that sums the gradients of rows, which lie in memory in a way, in the dtype of computation.

    Its work are the rows that `_prepare` has found to need it; its table are the words.
    """
    load, like, itemsize = own.load, np.empty(0, own.word), own.itemsize
    like_sum, sum_itemsize = np.empty(0, own.computed), own.computed.itemsize
    identity = own.name, _FINGERPRINT

    @jitable(*identity)
    def widen(source: Any, target: Any) -> None:
        for i in range(target.size):
            target[i] = load(source, i)

    @jitable(*identity)
    def add(source: Any, target: Any) -> None:
        for i in range(target.size):
            target[i] += load(source, i)

    def sum_rows(words: Any, scalars: Any, start: Any, stop: Any) -> None:
        count, row_size = word_at(words + COUNT * WORD), word_at(words + ROW_SIZE * WORD)
        order = array_at(word_at(words + ORDER * WORD), WORDS, count)
        starts = array_at(word_at(words + STARTS * WORD), WORDS, count + 1)
        summed = array_at(word_at(words + SUMMED * WORD), WORDS, count)
        values, sums = word_at(words + VALUES * WORD), word_at(words + SUMS * WORD)
        for i in range(start, stop):
            row = summed[i]
            target = array_at(sums + row * row_size * sum_itemsize, like_sum, row_size)
            first = starts[row]
            widen(array_at(values + order[first] * row_size * itemsize, like, row_size), target)
            for place in range(first + 1, starts[row + 1]):
                add(array_at(values + order[place] * row_size * itemsize, like, row_size), target)

    return Pass(sum_rows, *identity, what="sums of rows")


def _have_one_row(words: Any, scalars: Any, start: Any, stop: Any) -> None:
    """Let all segments have the first row of scalars."""
    columns, segments = word_at(words + COLUMNS * WORD), word_at(words + SEGMENTS * WORD)
    table = array_at(word_at(words + TABLE * WORD), WORDS, segments * columns)
    for i in range(segments):
        table[(i + 1) * columns + SCALAR_ROW] = 0


def _set_steps(words: Any, scalars: Any, start: Any, stop: Any) -> None:
    """Count a step of the rows: one more; or the one behind `NOW`, plus `scalars`, which then is no address."""
    count, rows = word_at(words + COUNT * WORD), word_at(words + ROWS * WORD)
    indices = array_at(word_at(words + INDICES * WORD), WORDS, count)
    order = array_at(word_at(words + ORDER * WORD), WORDS, count)
    starts = array_at(word_at(words + STARTS * WORD), WORDS, count + 1)
    steps, now = array_at(word_at(words + STEPS * WORD), LIKE_STEPS, rows), word_at(words + NOW * WORD)
    for i in range(word_at(words + UNIQUE * WORD)):
        row = indices[order[starts[i]]]
        steps[row] = steps[row] + 1 if now < 0 else now + scalars


count_pass = Pass(_set_steps, _FINGERPRINT, what="the steps of rows")
one_row_pass = Pass(_have_one_row, _FINGERPRINT, what="the numbers of rows")
