"""How the slots of the state lie in memory: as float32 or float64, in 16 bits, or as codes of 8."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from fastoptim.kernels.codes import BYTES, FEWEST, ROOTS, SIGNED, room_for
from fastoptim.kernels.storage import F4, Storage, storage_of

DType = np.dtype[Any]
CODE_LINE = 64  # codes in a cache line


class StateFormat(NamedTuple):
    """What slots of parameters that are updated in float32 are stored as. Those of others have their dtype.

    Attributes:
        dtype: of their elements; None for float32, `BYTES` for codes.
        nonnegative: names of slots whose numbers are never negative: their roots are coded.
        of_parameters: names of slots that hold parameters. Codes are too coarse for them: they are float32 instead.
    """

    dtype: DType | None = None
    nonnegative: frozenset[str] = frozenset()
    of_parameters: frozenset[str] = frozenset()

    @property
    def is_coded(self) -> bool:
        """Whether there may be codes."""
        return self.dtype is not None and self.dtype == BYTES

    def has_codes(self, computed: DType, size: int) -> bool:
        """Whether the state of a parameter of so many elements has codes."""
        return self.is_coded and computed == F4 and size >= FEWEST

    def storage(self, slot: str, computed: DType, has_codes: bool) -> Storage:
        """How a slot of parameters that are updated in a dtype lies in memory."""
        if has_codes and slot not in self.of_parameters:
            return ROOTS if slot in self.nonnegative else SIGNED
        is_other = self.dtype is not None and not self.is_coded and computed == F4
        return storage_of(self.dtype if is_other else computed)

    def next_offset(self, end: int, computed: DType, has_codes: bool, size: int, alignment: int) -> int:
        """Where the next parameter's elements begin in a row.

        Args:
            end: where those of the one before end.
            computed: the dtype in which it is updated.
            has_codes: whether its state has codes. Then its scales stand before them.
            size: how many elements it has.
            alignment: bytes, of elements that are no codes.
        """
        if has_codes:
            end, step = end + room_for(size), CODE_LINE
        else:
            step = max(1, alignment // self.storage("", computed, has_codes=False).itemsize)
        return end + -end % step

    def nbytes(self, slots: Iterable[str], computed: DType, size: int) -> int:
        """How many bytes the slots of a parameter take."""
        has_codes = self.has_codes(computed, size)
        elements = size + room_for(size) * has_codes  # all slots have the place of the scales
        return sum(elements * self.storage(slot, computed, has_codes).itemsize for slot in slots)
