"""The order of rows: sorted by a radix sort, and which of them there are."""

from typing import Any

import numpy as np
from numba.extending import register_jitable

FEW, DIGIT, LARGE_DIGIT = 4096, 8, 11  # rows; bits of a digit for up to so many rows, and for more


@register_jitable
def sort_by_index(indices: Any, rows: Any, order: Any, spare: Any) -> Any:
    """Fill `order` with the places of the indices in ascending order, equal ones in the order in which they appear.

    It is a radix sort, digit after digit from the lowest one.

    Returns:
        Whether all indices are in `[0, rows)`. If not, `order` means nothing.
    """
    is_sorted, before = True, -1
    for i in range(indices.size):
        index = indices[i]
        if index < 0 or index >= rows:
            return False
        is_sorted = is_sorted and index >= before
        before = index
        order[i] = i
    if is_sorted:
        return True
    digit = DIGIT if indices.size <= FEW else LARGE_DIGIT
    counts = np.empty(1 << digit, np.int64)
    shift, mask, source, target = 0, (1 << digit) - 1, order, spare
    while (rows - 1) >> shift > 0:
        counts[:] = 0
        for i in range(indices.size):
            counts[(indices[i] >> shift) & mask] += 1
        place = 0
        for value in range(counts.size):
            here = counts[value]
            counts[value] = place
            place += here
        for i in range(indices.size):
            value = (indices[source[i]] >> shift) & mask
            target[counts[value]] = source[i]
            counts[value] += 1
        source, target = target, source
        shift += digit
    if (shift // digit) % 2 == 1:  # the last target was the spare array
        order[:] = spare
    return True


@register_jitable
def find_unique(indices: Any, order: Any, starts: Any) -> Any:
    """Fill `starts` with where in `order` each row's places begin, and behind the last one. Return the rows' number."""
    unique, before = 0, -1
    for i in range(order.size):
        index = indices[order[i]]
        if index != before:
            starts[unique] = i
            unique += 1
            before = index
    starts[unique] = order.size
    return unique
