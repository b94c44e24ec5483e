"""The step count of a capturable optimizer, and the numbers of all its steps, in a GPU's memory."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastoptim.arrays.gpu import GPU
from fastoptim.arrays.memory import Array
from fastoptim.kernels.cuda.arrays import pointer
from fastoptim.kernels.cuda.launch import DeviceScalars
from fastoptim.kernels.cuda.memory import cuda
from fastoptim.kernels.cuda.words import advance


class StepCounter:
    """What a captured update reads.

    The rows of scalars are computed on the host, so that a replay gives the bits of a call. Scalars must become
    constant in the parameters' dtype: rows are precomputed until they stop changing, at least `SHORTEST`.

    Attributes:
        settings: the hyperparameters that the rows were computed for.
    """

    SHORTEST, LONGEST = 2**10, 2**20  # rows

    def __init__(self, made: int, device: int) -> None:
        self.settings: Any = None
        self._device = device
        self._step = cuda.to_device(np.array([made], np.int64))
        self._tables: dict[np.dtype[Any], Any] = {}

    def fill(self, settings: Any, dtypes: Iterable[np.dtype[Any]], scalars: Callable[[int], tuple[float, ...]]) -> None:
        """Have the rows of all steps there, for these settings and dtypes.

        Raises:
            ValueError: the numbers still change after `LONGEST` steps.
        """
        if self.settings == settings and self._tables.keys() >= set(dtypes):
            return
        tables = {dtype: self._rows(dtype, scalars) for dtype in {*self._tables, *dtypes}}
        for dtype, rows in tables.items():
            if dtype in self._tables and self._tables[dtype].shape == rows.shape:
                GPU.write(self._tables[dtype], rows)  # where a captured launch finds it
            else:
                self._tables[dtype] = cuda.to_device(rows)
        self.settings = settings

    def _rows(self, dtype: np.dtype[Any], scalars: Callable[[int], tuple[float, ...]]) -> Array:
        def row(t: int) -> Array:
            return np.array(scalars(t), dtype)

        count = self.SHORTEST
        while any((row(count) != row(count * later)).any() for later in (2, 4, 16)):
            count *= 2
            if count > self.LONGEST:
                raise ValueError(f"capturable: the numbers of a step still change after {self.LONGEST:,} steps")
        return np.stack([row(t + 1) for t in range(count)])

    def scalars(self, dtype: np.dtype[Any]) -> DeviceScalars:
        """Where a kernel finds them."""
        table = self._tables[dtype]
        # the table of a rule without scalars is empty, and has no address
        address = GPU.address(table) if table.size else 0
        return DeviceScalars(address, dtype, len(table), pointer(self._step))

    def advance(self, stream: int) -> None:
        """Count a step, in the order of the stream."""
        advance(pointer(self._step), self._device, stream)

    def read(self) -> int:
        """How many steps were made: waits for them."""
        return int(GPU.read(self._step)[0])
