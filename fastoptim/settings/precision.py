"""Options about numbers of less bits: which dtype they mean."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastoptim.kernels.codes import BYTES
from fastoptim.kernels.storage import bfloat16
from fastoptim.settings.fields import Choice, Field

EIGHT_BITS = "8bit"


class StateDtype(Choice):
    """The dtype of the state, in words."""

    def check(self, value: Any, fields: Any) -> str | None:
        word = super().check(value, fields)
        dtype_of(word)
        return word


class Seed(Field):
    """An integer that random numbers depend on."""

    def check(self, value: Any, fields: Any) -> int:
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or not 0 <= value < 2**64:
            raise self.refusal("an integer in [0, 2**64)", value)
        return int(value)


def dtype_of(word: str | None) -> np.dtype[Any] | None:
    """The dtype that a word means, `BYTES` for codes of 8 bits.

    Raises:
        RuntimeError: it is bfloat16, and the package ml_dtypes is not installed.
    """
    if word is None:
        return None
    return bfloat16() if word == "bfloat16" else BYTES if word == EIGHT_BITS else np.dtype(word)


def rounding(default: None) -> Choice:
    """The option `rounding`."""
    return Choice((default, "nearest", "stochastic", "kahan"))


def is_stochastic(values: Mapping[str, Any]) -> bool:
    """Whether anything is rounded at random: codes are, unless somebody says otherwise.

    A code has 3 or 4 bits. To the nearest, a moment would stop to move as soon as its steps are less than half a code.
    """
    rounding, is_coded = values["rounding"], bool(values["state_dtype"] == EIGHT_BITS)
    return rounding == "stochastic" or (is_coded and rounding != "nearest")


def state_dtype(default: None) -> StateDtype:
    """The option `state_dtype`."""
    return StateDtype((default, "bfloat16", "float16", EIGHT_BITS))


def master(default: None) -> Choice:
    """The option `master`."""
    return Choice((default, "float32"))
