"""The loops for CUDA, written once for all rules.

A kernel works on the same segments as the CPU's. Blocks of threads take tiles of elements, counted through all
segments, so that one large array among many small ones keeps the whole GPU busy.
"""

from collections.abc import Callable, Sequence
from typing import Any

from numba import types
from numba.extending import register_jitable

from fastoptim.kernels.chunks import chunk_finder, random_numbers
from fastoptim.kernels.codes import CODED
from fastoptim.kernels.cuda.coded import TEAM, coded_update
from fastoptim.kernels.cuda.memory import INT64, alignment, cuda, reader, vector_width
from fastoptim.kernels.cuda.numbers import element_loader, element_storer, for_kernels, updated_lanes
from fastoptim.kernels.cuda.rows import array_numbers, row_finder, step_numbers
from fastoptim.kernels.fuse import Fused, around, signature, typed, typed_alone
from fastoptim.kernels.memory import WORD
from fastoptim.kernels.pieces import border_of_block, same_place
from fastoptim.kernels.random import CHUNK
from fastoptim.kernels.rule import Rule, arguments
from fastoptim.kernels.storage import Storage
from fastoptim.kernels.table import END, NO_SUMS, PARAM, PerArray, columns
from fastoptim.kernels.traffic import written_by


def build(
    rule: Rule,
    slots: int,
    fused: Fused,
    storages: tuple[Storage, ...],
    many: bool,
    on_device: bool,
    per_array: PerArray = NO_SUMS,
    writes_state: bool = True,
) -> tuple[Callable[..., None], tuple[Any, ...]]:
    """The kernel of a rule as a Python function, and the numba types of its arguments, which `Launch` passes.

    Args:
        rule: of one element.
        slots: how many the rule has.
        fused: the options around the rule.
        storages: of every operand. The elements of computation have the parameter's dtype of computation.
        many: take a table of segments. The kernel for one segment has no loop over rows, and needs fewer registers.
            There is none where the table has something for each array.
        on_device: read the scalars from the device's memory. Otherwise they are arguments.
        per_array: what the table has for each array. Its numbers are the rule's first scalars.
        writes_state: whether the rule returns the state, or `p` alone.
    """
    operands, dtype, names = len(storages), storages[PARAM].computed, signature(rule, slots, fused).scalars
    rows_of, numbers_of, kind = step_numbers(dtype, len(names) - per_array.number_count, fused.clip_norm, on_device)
    count, as_tuple = len(arguments(rule)) - 2 - slots, typed if writes_state else typed_alone
    written = written_by(rule, slots, fused, writes_state)
    whole = register_jitable(around(rule, count, slots, fused, as_tuple, rescale=per_array.number_count - 1))
    update_run, border = _run(storages, for_kernels(written.alone(whole)), written.changed, fused)
    update_pieces = in_chunks(update_run, storages, per_array, names)
    row_bytes = columns(operands, per_array) * WORD
    addresses_at, scalar_row_and_end = reader(INT64, operands), reader(INT64, 2)
    end_bytes = row_bytes + (END - 1) * WORD  # the row of scalars is in front of END
    row_of, with_own_numbers = row_finder(row_bytes, END), array_numbers(per_array, operands, dtype)

    def update_segment(addresses: Any, scalar_row: Any, size: Any, tile: Any, clip_coef: Any, scalars: Any) -> None:
        numbers = numbers_of(rows_of(scalars), scalar_row, clip_coef)
        start = cuda.blockIdx.x * tile
        while start < size:
            first, behind = border(start, size), border(min(start + tile, size), size)
            update_run(addresses, first, behind - first, numbers, 0, 0)
            start += cuda.gridDim.x * tile

    def update_segments(table: Any, rows: Any, size: Any, tile: Any, clip_coef: Any, scalars: Any) -> None:
        step_rows = rows_of(scalars)
        numbers = numbers_of(step_rows, 0, clip_coef)
        start = cuda.blockIdx.x * tile
        while start < size:
            stop = min(start + tile, size)
            row = row_of(table, rows, start)
            while start < stop:
                at = table + row * row_bytes
                begin = scalar_row_and_end(at - row_bytes + end_bytes)[1] if row > 0 else 0
                addresses = addresses_at(at)
                scalar_row, end = scalar_row_and_end(at + end_bytes)
                until = min(end, stop)
                if start < until:
                    if on_device:
                        numbers = numbers_of(step_rows, scalar_row, clip_coef)
                    first, behind = border(start - begin, end - begin), border(until - begin, end - begin)
                    update_pieces(at, addresses, first, behind, with_own_numbers(at, numbers))
                    start = until
                row += 1
            start += (cuda.gridDim.x - 1) * tile

    many = many or per_array.columns > 0
    function = update_segments if many else update_segment
    function.__qualname__ = f"{rule.__name__}_{dtype.name}"  # profilers show this name
    where = (types.int64,) * 2 if many else (types.UniTuple(types.int64, operands), types.int64)
    return function, (*where, *(types.int64,) * 3, kind)


def in_chunks(update_run: Rule, storages: Sequence[Storage], per_array: PerArray, scalars: Sequence[str]) -> Rule:
    """`(row, addresses, start, stop, numbers)`: the update of elements of an array, in chunks that have keys.

    Args:
        update_run: `(addresses, start, size, numbers, key, offset)`, see `_run`.
        storages: of the operands.
        per_array: what the table has for each array.
        scalars: the names of all numbers of an element.
    """
    if not per_array.is_keyed:
        return register_jitable(
            lambda row, addresses, start, stop, numbers: update_run(addresses, start, stop - start, numbers, 0, 0)
        )
    chunk_at = for_kernels(chunk_finder(storages, per_array, scalars))

    @register_jitable
    def update_chunks(row: Any, addresses: Any, start: Any, stop: Any, numbers: Any) -> None:
        while start < stop:
            behind = min((start // CHUNK + 1) * CHUNK, stop)
            key, place = chunk_at(row, start, numbers)
            update_run(addresses, start, behind - start, numbers, key, place - start)
            start = behind

    return update_chunks


def _run(storages: Sequence[Storage], element: Rule, written: Sequence[int], fused: Fused) -> tuple[Rule, Rule]:
    """How a block of threads updates elements of an array, and where it may begin and end.

    Returns:
        `(addresses, first, size, numbers, key, offset)`; for `key` and `offset` see `CodedUpdate`.
        `(place, size)`: see `Pieces.border`.
    """
    own_bits, width = random_numbers(storages, fused), vector_width(storages)
    are_aligned = alignment(storages, width)
    if any(storage.codes for storage in storages):
        update_block = coded_update(storages, element, written, own_bits, fused.zero_grads, are_aligned).update

        @register_jitable
        def update_blocks(addresses: Any, first: Any, size: Any, numbers: Any, key: Any, offset: Any) -> None:
            start, teams = first + cuda.threadIdx.x // TEAM * CODED, cuda.blockDim.x // TEAM
            while start < first + size:
                update_block(addresses, start, min(CODED, first + size - start), numbers, key, offset)
                start += teams * CODED

        return update_blocks, border_of_block
    load_one, load_vector = (element_loader(storages, count) for count in (1, width))
    store_one, store_vector = (
        element_storer(storages, count, written, own_bits, fused.zero_grads) for count in (1, width)
    )
    updated_one, updated_vector = updated_lanes(element, 1), updated_lanes(element, width)
    shift, width_shift = storages[PARAM].itemsize.bit_length() - 1, width.bit_length() - 1

    @register_jitable
    def update_elements(addresses: Any, first: Any, size: Any, numbers: Any, key: Any, offset: Any) -> None:
        """Use vectors where these are aligned in all operands; update the elements before and after one by one."""
        head = min(size, -((addresses[PARAM] >> shift) + first) & (width - 1))
        if not are_aligned(addresses, first + head):
            head = size
        vector_elements = (size - head) >> width_shift << width_shift
        i = first + head + cuda.threadIdx.x * width
        end = first + head + vector_elements
        while i < end:
            store_vector(addresses, i, updated_vector(load_vector(addresses, i, ()), numbers), key, offset)
            i += cuda.blockDim.x * width
        single = cuda.threadIdx.x
        while single < size - vector_elements:
            i = first + (single if single < head else single + vector_elements)
            store_one(addresses, i, updated_one(load_one(addresses, i, ()), numbers), key, offset)
            single += cuda.blockDim.x

    return update_elements, same_place
