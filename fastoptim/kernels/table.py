"""The table that one kernel call works on: where each segment's operands are, and which scalars hold there.

It is an int64 array with one row for each **segment**, a run of contiguous elements. A row has one address for each
operand, in the order of the rule's arguments: parameter, gradient, slots, and behind them the average where there is
one. Then come the row of scalars that holds for the segment, and the number of elements in this row and all rows before
it. As the table holds addresses, one call updates any number of separately allocated arrays, on the host or on a GPU.

Where a step sums over arrays, each segment is one array, and its row has more columns in front of the last two: the
addresses of the state's numbers of the array (float64), of the numbers that are computed of its sums (float64), of its
sums (float64, some for each block), and the number of blocks in this row and all rows before it. Where it rounds at
random, each segment is one array, too, and the key of its name stands behind the addresses of the state's numbers.
"""

from typing import NamedTuple

PARAM, GRAD = 0, 1
NUMBERS, SUMS, BLOCKS, SCALAR_ROW, END = range(-5, 0)


class PerArray(NamedTuple):
    """What a step has for each array beside its elements.

    Attributes:
        slots: names of the state's numbers, one for each array.
        given: names of the numbers that are computed of sums, for later stages.
        is_summed: whether a stage sums over arrays.
        is_keyed: whether the table has the key of its name, for random numbers.
    """

    slots: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    is_summed: bool = False
    is_keyed: bool = False

    @property
    def number_count(self) -> int:
        """How many numbers of the array a rule takes in front of the step's."""
        return len(self.slots) + len(self.given)

    @property
    def columns(self) -> int:
        """How many columns of a table it takes."""
        return (len(self.slots) + 3) * self.is_summed + self.is_keyed

    @property
    def key_column(self) -> int:
        """The place of the key behind the operands."""
        return len(self.slots)


NO_SUMS = PerArray()


def columns(operands: int, per_array: PerArray = NO_SUMS) -> int:
    """How many columns a table for so many operands has."""
    return operands + per_array.columns + 2
