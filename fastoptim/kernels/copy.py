"""Copies between arrays of different layout and dtype, in tiles that fit the cache, on as many threads as pay.

An array whose layout or dtype the passes cannot read is copied to dense memory first. Element by element, such a copy
takes longer than the update: a cache line that is read for one element is gone before the next one is needed.

A copy is a grid of tiles. A tile extends along two axes: the **column** axis, along which the target's elements are
closest together, and the **row** axis, mostly the one along which the source's are. All tiles cover one element of
every other axis. The threads share the tiles, which are counted in the order of the target's memory.
"""

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, register_jitable

from fastoptim.kernels import jit, memory, storage
from fastoptim.kernels.jit import jitable
from fastoptim.kernels.launch import Launch, Pass
from fastoptim.kernels.memory import WORD, array_at, word_at
from fastoptim.kernels.rule import fingerprint
from fastoptim.kernels.storage import COMPUTED, is_stored, storage_of

DType = np.dtype[Any]

# Ways to copy a tile. RUNS: both arrays are contiguous along the columns. BLOCKS: the target is contiguous along the
# columns and the source along the rows, so that squares of elements are transposed in registers. STRIDED: all others.
RUNS, BLOCKS, STRIDED = range(3)
SHORTEST_RUN = 16  # elements: entering the loop over a shorter run takes longer than the loop
WIDTH = 8  # elements of a side of the squares that are transposed in registers
SMALLEST_TILE = 64  # elements: finding a tile takes as long as copying some tens of elements
SIDES = 32, 64, 128, 256  # elements of a tile's side, the largest that leaves `SHARED` tiles for the threads
SHARED = 32

# The table of a copy: words of its head, then some words for each axis. The columns are the last axis.
SOURCE, TARGET, SOURCE_OFFSET, TARGET_OFFSET, WAY, AXES, ROW_AXIS = range(7)
HEAD = 7 * WORD
SIZE, TILE, TILES, SOURCE_STRIDE, TARGET_STRIDE = range(5)
AXIS = 5 * WORD


@intrinsic
def _transposed(
    typing_context: Any, source: Any, source_stride: Any, target: Any, target_stride: Any, source_like: Any, like: Any
) -> Any:
    """See `_transpose_square`."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        word, place, half = ir.IntType(64), ir.IntType(32), WIDTH // 2
        read, write = (ir.VectorType(context.get_value_type(array.dtype), WIDTH) for array in (source_like, like))

        def line(address: Any, stride: Any, number: int, vector: ir.VectorType) -> Any:
            offset = builder.mul(stride, ir.Constant(word, number))
            return builder.inttoptr(builder.add(address, offset), vector.as_pointer())

        def alternating(first: int) -> ir.Constant:
            # elements of two vectors in turn, from element `first` of each
            order = [first + i // 2 + i % 2 * WIDTH for i in range(WIDTH)]
            return ir.Constant(ir.VectorType(place, WIDTH), order)

        lines = []
        for number in range(WIDTH):
            loaded = builder.load(line(values[0], values[1], number, read))
            loaded.align = source_like.dtype.bitwidth // 8
            if source_like.dtype.bitwidth > like.dtype.bitwidth:
                loaded = builder.fptrunc(loaded, write)
            elif source_like.dtype.bitwidth < like.dtype.bitwidth:
                loaded = builder.fpext(loaded, write)
            lines.append(loaded)
        # Line i of the first half and line i of the second become lines 2 i and 2 i + 1, element by element in turn:
        # this rotates the bits of an element's place in the square, and log2(WIDTH) rotations transpose it.
        for _ in range(int(math.log2(WIDTH))):
            pairs = list(zip(lines[:half], lines[half:], strict=True))
            lines = [builder.shuffle_vector(*pair, alternating(first)) for pair in pairs for first in (0, half)]
        for number, each in enumerate(lines):
            stored = builder.store(each, line(values[2], values[3], number, write))
            stored.align = like.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 4, source_like, like), generate


@register_jitable
def _transpose_square(
    source: Any, source_stride: Any, target: Any, target_stride: Any, source_like: Any, like: Any
) -> None:
    """Transpose a square of `WIDTH` x `WIDTH` elements, from one address to another.

    The strides are the bytes from one contiguous line to the next. The dtypes are those of the arrays `source_like` and
    `like`.

    Passes call this function, not the intrinsic: numba's cache would see another intrinsic in each process.
    """
    _transposed(source, source_stride, target, target_stride, source_like, like)


@cache
def _pass_for(source_dtype: DType, target_dtype: DType) -> Pass:
    """The pass that copies the tiles `start` to `stop` of a copy between arrays of these dtypes."""
    identity = source_dtype.name, target_dtype.name, f"{fingerprint(memory, storage, jit):x}"
    source_like, like = np.empty(0, source_dtype), np.empty(0, target_dtype)
    source_item, item = source_dtype.itemsize, target_dtype.itemsize

    # Functions of their own: written inline in the pass, these loops do not vectorise.
    @jitable(*identity)
    def copy_run(source: Any, target: Any, count: Any) -> None:
        read, write = array_at(source, source_like, count), array_at(target, like, count)
        for i in range(count):
            write[i] = read[i]

    @jitable(*identity)
    def copy_strided(source: Any, source_stride: Any, target: Any, target_stride: Any, count: Any) -> None:
        for _ in range(count):
            array_at(target, like, 1)[0] = array_at(source, source_like, 1)[0]
            source += source_stride
            target += target_stride

    @jitable(*identity)
    def copy_blocks(source: Any, source_stride: Any, target: Any, target_stride: Any, rows: Any, columns: Any) -> None:
        """`source_stride` leads to the next column, `target_stride` to the next row."""
        whole_rows, whole_columns = rows - rows % WIDTH, columns - columns % WIDTH
        for row in range(0, whole_rows, WIDTH):
            here, there = source + row * source_item, target + row * target_stride
            for column in range(0, whole_columns, WIDTH):
                corner, to = here + column * source_stride, there + column * item
                _transpose_square(corner, source_stride, to, target_stride, source_like, like)
        for column in range(whole_columns, columns):
            here, there = source + column * source_stride, target + column * item
            copy_strided(here, source_item, there, target_stride, whole_rows)
        for row in range(whole_rows, rows):
            copy_strided(source + row * source_item, source_stride, target + row * target_stride, item, columns)

    def copy_tiles(table: Any, scalars: Any, start: Any, stop: Any) -> None:
        source_start = word_at(word_at(table + SOURCE * WORD)) + word_at(table + SOURCE_OFFSET * WORD)
        target_start = word_at(word_at(table + TARGET * WORD)) + word_at(table + TARGET_OFFSET * WORD)
        way, axes = word_at(table + WAY * WORD), word_at(table + AXES * WORD)
        column_axis = table + HEAD + (axes - 1) * AXIS
        row_axis = table + HEAD + word_at(table + ROW_AXIS * WORD) * AXIS
        source_row, target_row = word_at(row_axis + SOURCE_STRIDE * WORD), word_at(row_axis + TARGET_STRIDE * WORD)
        source_column = word_at(column_axis + SOURCE_STRIDE * WORD)
        target_column = word_at(column_axis + TARGET_STRIDE * WORD)
        for tile in range(start, stop):
            source, target, rows, columns, rest = source_start, target_start, 1, 1, tile
            axis = column_axis
            for _ in range(axes):
                tiles, side = word_at(axis + TILES * WORD), word_at(axis + TILE * WORD)
                first = rest % tiles * side
                rest //= tiles
                source += first * word_at(axis + SOURCE_STRIDE * WORD)
                target += first * word_at(axis + TARGET_STRIDE * WORD)
                size = min(side, word_at(axis + SIZE * WORD) - first)
                if axis == column_axis:
                    columns = size
                if axis == row_axis:
                    rows = size
                axis -= AXIS
            if way == BLOCKS:
                copy_blocks(source, source_column, target, target_row, rows, columns)
            elif way == RUNS:
                for _ in range(rows):
                    copy_run(source, target, columns)
                    source += source_row
                    target += target_row
            elif columns >= rows:  # the inner loop should be the longer one
                for _ in range(rows):
                    copy_strided(source, source_column, target, target_column, columns)
                    source += source_row
                    target += target_row
            else:
                for _ in range(columns):
                    copy_strided(source, source_row, target, target_row, rows)
                    source += source_column
                    target += target_column

    return Pass(copy_tiles, *identity, what="copies of gradients in another layout or dtype")


class Side(NamedTuple):
    """One of the two arrays of a copy.

    Attributes:
        dtype: of its elements.
        strides: in bytes, one for each axis, of any sign.
        cell: address of the int64 that has the array's address. The array's elements are aligned.
    """

    dtype: DType
    strides: tuple[int, ...]
    cell: int


class _Axis(NamedTuple):
    size: int
    source_stride: int
    target_stride: int


def can_copy(a: DType, b: DType) -> bool:
    """Whether there is a pass for these dtypes."""
    return (a == b and is_stored(a)) or (a in COMPUTED and b in COMPUTED)


class Copy:
    """A copy between two arrays of one shape, made ready. The arrays' addresses are read when it runs.

    Args:
        shape: of both arrays.
        source: what is read. Strides may be 0, as those of a broadcast array.
        target: what is written. No two of its elements overlap.
    """

    def __init__(self, shape: tuple[int, ...], source: Side, target: Side) -> None:
        self.elements = math.prod(shape)
        self._pass = _pass_for(storage_of(source.dtype).word, storage_of(target.dtype).word)
        # Axes of negative strides are walked through backwards, from their last elements on.
        source_offset, target_offset, axes = 0, 0, list[_Axis]()
        for size, source_stride, target_stride in zip(shape, source.strides, target.strides, strict=True):
            if size == 1:
                continue
            if target_stride < 0:
                source_offset += (size - 1) * source_stride
                target_offset += (size - 1) * target_stride
                source_stride, target_stride = -source_stride, -target_stride
            axes.append(_Axis(size, source_stride, target_stride))
        axes = _merged(axes) if self.elements else []
        while len(axes) < 2:
            axes.insert(0, _Axis(1, source.dtype.itemsize, target.dtype.itemsize))
        way, row = _way(axes, source.dtype.itemsize, target.dtype.itemsize)
        self._way, tiles = way, _tiles(axes, way, row, self.elements)
        self._work = math.prod(-(-axis.size // tile) for axis, tile in zip(axes, tiles, strict=True))
        words = [source.cell, target.cell, source_offset, target_offset, way, len(axes), row]
        for axis, tile in zip(axes, tiles, strict=True):
            words += [axis.size, tile, -(-axis.size // tile), axis.source_stride, axis.target_stride]
        self._table = np.array(words, np.int64)

    def launch(self) -> Launch:
        """The call that makes the copy, compiled. It is valid as long as this object is."""
        work = self._work if self.elements else 0
        return Launch(self._pass.address, self._table.ctypes.data, 0, work, 1, self.elements, self._way)


def _merged(axes: list[_Axis]) -> list[_Axis]:
    """The axes in the order of the target's memory. Axes that both arrays pass through as if they were one are one."""
    merged = list[_Axis]()
    for axis in sorted(axes, key=lambda axis: (axis.target_stride, abs(axis.source_stride)), reverse=True):
        size, source_stride, target_stride = axis
        outer = merged[-1] if merged else None
        if outer and outer[1:] == (size * source_stride, size * target_stride):
            merged[-1] = _Axis(outer.size * size, source_stride, target_stride)
        else:
            merged.append(axis)
    return merged


def _way(axes: list[_Axis], source_item: int, target_item: int) -> tuple[int, int]:
    """The way to copy a tile and the number of its row axis."""
    columns, before = axes[-1], range(len(axes) - 1)
    if columns[1:] == (source_item, target_item) and columns.size >= SHORTEST_RUN:
        return RUNS, len(axes) - 2
    row = min(before, key=lambda i: abs(axes[i].source_stride))
    if abs(axes[row].source_stride) >= abs(columns.source_stride):
        row = len(axes) - 2
    rows = axes[row]
    is_transposed = rows.source_stride == source_item and columns.target_stride == target_item
    if is_transposed and min(rows.size, columns.size) >= WIDTH:
        return BLOCKS, row
    if rows.size * columns.size < SMALLEST_TILE:
        row = max(before, key=lambda i: axes[i].size)
    return STRIDED, row


def _tiles(axes: list[_Axis], way: int, row: int, elements: int) -> list[int]:
    """How many elements a tile has along each axis."""
    side = max(side for side in SIDES if side == SIDES[0] or side * side * SHARED <= elements)
    rows, columns = axes[row], axes[-1]
    tiles = [1] * len(axes)
    if way == RUNS or abs(columns.source_stride) <= abs(rows.source_stride):
        side_of_columns, side_of_rows = side * side, 1  # one row after another
    else:
        side_of_columns = side_of_rows = side
    tiles[-1] = min(columns.size, max(side_of_columns, side * side // rows.size))
    tiles[row] = min(rows.size, max(side_of_rows, side * side // tiles[-1]))
    return tiles
