"""The loops for CUDA, written once for all rules.

A kernel works on the same segments as the CPU's. Blocks of threads take tiles of elements, counted through all
segments, so that one large array among many small ones keeps the whole GPU busy.
"""

from collections.abc import Callable
from typing import Any

from numba import types
from numba.extending import register_jitable

from fastoptim.kernels.cuda.memory import INT64, SIMULATED, VECTOR, cuda, element_loader, element_storer, reader
from fastoptim.kernels.cuda.rows import array_numbers, row_finder, step_numbers
from fastoptim.kernels.cuda.simulated import simulated
from fastoptim.kernels.fuse import Fused, around, signature, typed, typed_alone
from fastoptim.kernels.memory import WORD
from fastoptim.kernels.rule import Rule, arguments
from fastoptim.kernels.storage import Storage
from fastoptim.kernels.table import END, GRAD, NO_SUMS, PARAM, PerArray, columns
from fastoptim.kernels.traffic import Used, used_by
from fastoptim.kernels.unroll import select


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
        storages: of every operand. The elements of computation have the parameter's dtype.
        many: take a table of segments. The kernel for one segment has no loop over rows, and needs fewer registers.
            There is none where the table has numbers for each array.
        on_device: read the scalars from the device's memory. Otherwise they are arguments.
        per_array: what the table has for each array. Its numbers are the rule's first scalars.
        writes_state: whether the rule returns the state, or `p` alone.

    Raises:
        ValueError: if the operands' dtypes differ.
    """
    operands, dtype = len(storages), storages[PARAM].dtype
    if set(storages) != {storages[PARAM]}:
        found = ", ".join(storage.dtype.name for storage in storages)
        raise ValueError(f"storages: expected the parameter's dtype for every operand, got {found}")
    has_own_numbers = per_array.number_count > 0
    count = len(signature(rule, slots, fused).scalars) - per_array.number_count
    rows_of, numbers_of, kind = step_numbers(dtype, count, fused.clip_norm, on_device)
    shift = dtype.itemsize.bit_length() - 1
    width = VECTOR // dtype.itemsize
    width_shift = width.bit_length() - 1
    load_one, load_vector = element_loader(storages, 1), element_loader(storages, width)
    element, written = _element(rule, slots, fused, writes_state, per_array)
    store_one, store_vector = (element_storer(storages, count, written, fused.zero_grads) for count in (1, width))
    updated_one, updated_vector = _unrolled(element, 1), _unrolled(element, width)
    differing_bits = _differing_bits(operands)
    row_bytes = columns(operands, per_array) * WORD
    addresses_at, scalar_row_and_end = reader(INT64, operands), reader(INT64, 2)
    end_bytes = row_bytes + (END - 1) * WORD  # the row of scalars is in front of END
    row_of, with_own_numbers = row_finder(row_bytes, END), array_numbers(per_array, operands, dtype)

    @register_jitable
    def update_run(addresses: Any, first: Any, size: Any, scalars: Any) -> None:
        """A block updates `size` elements of a segment from `first` on.

        It uses vectors where these are aligned in all operands; it updates the elements before and after one by one.
        """
        head = size
        if not differing_bits(addresses) & (VECTOR - 1):
            head = min(size, -((addresses[PARAM] >> shift) + first) & (width - 1))
        vector_elements = (size - head) >> width_shift << width_shift
        i = first + head + cuda.threadIdx.x * width
        end = first + head + vector_elements
        while i < end:
            store_vector(addresses, i, updated_vector(load_vector(addresses, i), scalars))
            i += cuda.blockDim.x * width
        single = cuda.threadIdx.x
        while single < size - vector_elements:
            i = first + (single if single < head else single + vector_elements)
            store_one(addresses, i, updated_one(load_one(addresses, i), scalars))
            single += cuda.blockDim.x

    def update_segment(addresses: Any, scalar_row: Any, size: Any, tile: Any, clip_coef: Any, scalars: Any) -> None:
        numbers = numbers_of(rows_of(scalars), scalar_row, clip_coef)
        start = cuda.blockIdx.x * tile
        while start < size:
            update_run(addresses, start, min(tile, size - start), numbers)
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
                    if has_own_numbers:
                        update_run(addresses, start - begin, until - start, with_own_numbers(at, numbers))
                    else:
                        update_run(addresses, start - begin, until - start, numbers)
                    start = until
                row += 1
            start += (cuda.gridDim.x - 1) * tile

    many = many or per_array.is_summed
    function = update_segments if many else update_segment
    function.__qualname__ = f"{rule.__name__}_{dtype.name}"  # profilers show this name
    where = (types.int64,) * 2 if many else (types.UniTuple(types.int64, operands), types.int64)
    return function, (*where, *(types.int64,) * 3, kind)


def _differing_bits(count: int) -> Callable[..., Any]:
    """`(addresses) -> ` the bits in which one of `count` addresses differs from the first."""
    if count == 1:
        return register_jitable(lambda addresses: 0)
    before, last = _differing_bits(count - 1), count - 1
    return register_jitable(lambda addresses: before(addresses) | (addresses[0] ^ addresses[last]))


def used_of(rule: Rule, slots: int) -> Used:
    """What a rule reads of an element's operands, and which of them it may change."""
    names = arguments(rule)[: 2 + slots]
    return used_by(getattr(rule, "adapted_from", rule), names, (names[PARAM], *names[GRAD + 1 :]))


def _element(
    rule: Rule, slots: int, fused: Fused, writes_state: bool, per_array: PerArray
) -> tuple[Callable[..., Any], list[int]]:
    """The function of one element, which returns what has to be written, and the columns that this is written to."""
    count, as_tuple = len(arguments(rule)) - 2 - slots, typed if writes_state else typed_alone
    element = around(rule, count, slots, fused, as_tuple, rescale=per_array.number_count - 1)
    returned = [PARAM, *range(GRAD + 1, GRAD + 1 + slots + fused.ema)] if writes_state else [PARAM]
    names, writes = arguments(rule)[: 2 + slots], used_of(rule, slots).writes
    changed = {column for column, name in enumerate(names) if name in writes}
    changed |= {PARAM, GRAD + 1 + slots}  # the parameter and its average, which options change
    written = [column for column in returned if column in changed]
    if SIMULATED:
        element = simulated(element)
    if written == returned:
        return register_jitable(element), written
    whole, chosen = register_jitable(element), select(tuple(returned.index(column) for column in written))
    return register_jitable(lambda p, g, *numbers: chosen(whole(p, g, *numbers))), written


def _unrolled(element: Rule, count: int) -> Callable[..., Any]:
    """`(lanes, scalars) -> ` what is written of each of `count` lanes. A lane is p, g and the state of one element."""
    if SIMULATED:
        return lambda lanes, scalars: [element(*lane, *scalars) for lane in lanes]
    if count == 0:
        return register_jitable(lambda lanes, scalars: ())
    before, last = _unrolled(element, count - 1), count - 1

    @register_jitable
    def every(lanes: Any, scalars: Any) -> Any:
        return before(lanes, scalars) + (element(*lanes[last], *scalars),)

    return every
