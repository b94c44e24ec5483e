"""Writes a step's numbers where the kernels read them, and says what is wrong with them."""

import math
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from fastoptim.settings.rows import WrongScalarsError


class Packer:
    """Writes a step's numbers into an array of scalars, rounded to its dtype."""

    def __init__(self, scalars: Any) -> None:
        self.scalars = scalars
        # "=" refuses finite numbers that the dtype cannot hold
        pack = struct.Struct(f"={scalars.size}{scalars.dtype.char}").pack_into
        self.quick: Callable[..., None] = partial(pack, scalars, 0)  # its errors are struct's

    def pack(self, numbers: Sequence[float]) -> None:
        """Write the numbers.

        Raises:
            WrongScalarsError: there are too few or many, one is no number, or the dtype cannot hold one.
        """
        try:
            self.quick(*numbers)
        except (struct.error, TypeError, OverflowError) as error:
            raise WrongScalarsError(repr(numbers), dtype=self.scalars.dtype) from error


def fit(numbers: Any, dtype: Any) -> bool:
    """Whether all are numbers that the dtype can hold."""
    try:
        with np.errstate(over="ignore"):
            return all(math.isfinite(dtype.type(x)) or not math.isfinite(x) for x in numbers)
    except (TypeError, ValueError, OverflowError):
        return False


def words_of(scalars: Any, returned: Any, dtype: Any) -> str:
    """What is wrong with numbers of a step: one that the dtype cannot hold, or what `scalars` returned."""
    for number in scalars if isinstance(scalars, tuple | list) else ():
        if isinstance(number, int | float | np.number) and not fit((number,), dtype):
            return f"{number!r}, which {dtype} cannot hold"
    return repr(returned)
