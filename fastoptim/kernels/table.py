"""The table that one kernel call works on: where each segment's operands are, and which scalars hold there.

It is an int64 array with one row for each **segment**, a run of contiguous elements. A row has one address for each
operand, in the order of the rule's arguments: parameter, gradient, slots, and behind them the average where there is
one. Then come the row of scalars that holds for the segment, and the number of elements in this row and all rows before
it. As the table holds addresses, one call updates any number of separately allocated arrays, on the host or on a GPU.
"""

PARAM, GRAD = 0, 1
SCALAR_ROW, END = -2, -1


def columns(operands: int) -> int:
    """How many columns a table for so many operands has."""
    return operands + 2
