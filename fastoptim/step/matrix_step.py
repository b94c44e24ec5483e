"""The step of one matrix: a function of NumPy's arrays, between two passes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastoptim.arrays.memory import Array
from fastoptim.kernels.adapt import arguments_of


class MatrixStep:
    """Calls the function of `Matrices` for one matrix.

    Args:
        function: see there.
        state: its arrays by slot, None where there is none.
        scalars: the names of a row of the step's numbers.
        master: what is updated in the parameter's place, if there is such an array.
        rest: what the parameter has lost, if that is kept.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        state: Mapping[str, Array | None],
        scalars: Sequence[str],
        master: Array | None = None,
        rest: Array | None = None,
    ) -> None:
        self._function, self._state, self._master, self._rest = function, state, master, rest
        wanted = arguments_of(function)[2:]
        self._numbers = {name: scalars.index(name) for name in wanted if name not in state}

    def run(self, param: Array, update: Array, numbers: Sequence[float]) -> None:
        """Make the update of the gradient that it is at first.

        Args:
            param: the parameter.
            update: of its shape, of the dtype of computation, C-contiguous.
            numbers: the parameter's row of the step's numbers.
        """
        if not update.size:
            return
        own = np.asarray(param if self._master is None else self._master, update.dtype)
        if self._rest is not None:
            own = own + self._rest.astype(own.dtype)
        named = {name: numbers[i] for name, i in self._numbers.items()}
        with np.errstate(all="ignore"):  # inf and nan go their way, as in a kernel
            found = self._function(own, update, **self._state, **named)
        if found is not update:
            if np.shape(found) != update.shape:
                raise ValueError(
                    f"{self._function.__name__}: expected it to return an array of the shape {update.shape}, as its "
                    f"matrix has; got {np.shape(found)}"
                )
            np.copyto(update, found, casting="same_kind")
