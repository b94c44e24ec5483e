"""A parameter on a GPU with a gradient of some rows. The host puts the rows in order; the GPU sums and updates them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastoptim.arrays.gpu import gpu_info
from fastoptim.arrays.info import TensorInfo, on_gpu
from fastoptim.arrays.memory import Array
from fastoptim.arrays.rows import Rows
from fastoptim.kernels.cuda.arrays import pointer
from fastoptim.kernels.cuda.launch import DeviceScalars, GpuGroup
from fastoptim.kernels.cuda.memory import cuda
from fastoptim.kernels.cuda.row_sums import row_sums, sum_rows_of
from fastoptim.kernels.cuda.transfer import Transfer
from fastoptim.kernels.cuda.upload import Upload, sent_together, words_of
from fastoptim.kernels.storage import storage_of
from fastoptim.kernels.table import SCALAR_ROW
from fastoptim.settings.plan import Plan
from fastoptim.settings.rows import Kind, Numbers
from fastoptim.step.found_rows import FoundRows
from fastoptim.step.segments import Segment
from fastoptim.step.tables import Part, table_of


class GpuRows:
    """Updates some rows of one parameter on a GPU.

    The indices are on the host, so that one that is out of range can be refused before anything changes.

    Args:
        segment: what it is.
        part: which has it alone, and what its rows have.
        device: the number of the GPU.
        clip_coef: the address of what gradients are multiplied by, on the device; 0 where there is none.

    Attributes:
        array: a table with one row, as if all rows of the parameter had a gradient.
        members: the number of its segment.
        values: what the gradients of the last call are.
    """

    def __init__(self, segment: Segment, part: Part, device: int, clip_coef: int) -> None:
        assert part.rows is not None
        last = part.stages[-1]
        self.index, self.name, self.own = part.members[0], next(iter(segment.parts)), part.rows
        self.array, _ = table_of([segment], last)
        self.members, self.values = [*part.members], segment.grad
        self._shape, self._storages = segment.param.shape, segment.storages
        self._computed, self._device, self._clip_coef = segment.dtype, device, clip_coef
        self._kernels, self._zeroes = last.kernels.on_gpu, last.kernels.fused.zero_grads
        self._width = last.kernels.scalar_count - bool(clip_coef)
        self._places, self._table = Upload(device), Upload(device)
        self.found = FoundRows(self._shape, segment.storages, self.array[0], self.own.steps, self._new_sums)
        self._gradient: Rows | None = None
        self._is_summed = False
        no_rows = np.zeros((2, self.array.shape[1]), np.int64)
        self._kernels.prepare(self._group(no_rows, 1, 0))  # compiles it, so that no step can fail half-way

    def _new_sums(self, count: int, dtype: np.dtype[Any]) -> tuple[Any, int]:
        """Memory for sums, see `NewSums`."""
        with cuda.gpus[self._device]:
            sums = cuda.device_array(max(count, 1), dtype)
        return sums, pointer(sums)

    def _group(self, table: Array, address: int, scalars: int) -> GpuGroup:
        numbers = DeviceScalars(scalars, self._computed)
        return GpuGroup(self._storages, table, numbers, address, self._device, self._clip_coef)

    def changed(self) -> None:
        """The array has other addresses."""

    def takes(self, gradient: Any) -> bool:
        """Whether it is a gradient of this parameter, of some rows or of all. `find` is next, if so."""
        own = gradient if type(gradient) is Rows else self._of_all(gradient)
        if own is None or not on_gpu(own.values):
            return False
        values = self._info_of(own.values)
        if values is None or values.shape[1:] != self._shape[1:]:
            return False
        if not values.is_aligned or storage_of(values.dtype).computed != self._computed:
            return False
        if (values.size and values.device != self._device) or (self._zeroes and not values.is_writeable):
            return False
        row_sums(storage_of(values.dtype), self._device)
        self._gradient, self.values, self._is_summed = own, values, False
        return True

    def take(self, gradient: Any, params: Sequence[Any]) -> bool:
        """Whether it is such a gradient, with rows in range. They are found then."""
        return self.takes(gradient) and self.find()

    def find(self) -> bool:
        """Find the rows of the gradient, also where the array has changed. Return whether all are in range."""
        if self._gradient is None:
            return True
        return self.found.find(self._gradient.indices, self._gradient.indices, True, None)

    def _of_all(self, gradient: Any) -> Rows | None:
        """A gradient of all rows as one of `Rows`; None if it is no array for that."""
        info = self._info_of(gradient) if on_gpu(gradient) else None
        return None if info is None or info.shape != self._shape else Rows(np.arange(self._shape[0]), gradient)

    @staticmethod
    def _info_of(array: Any) -> TensorInfo | None:
        try:
            return gpu_info(array, "")
        except TypeError:
            return None

    def set_numbers(self, algorithm: Numbers, plan: Plan, kinds: Sequence[Kind], divisor: float) -> None:
        """Have the numbers that the rows need. For arguments see `BoundStep`.

        Raises:
            ValueError, WrongScalarsError: the numbers are wrong.
        """
        made = max(cohort.count for cohort, _ in kinds)
        if not self.own.numbers.has_next(algorithm, plan, made, divisor):
            self.own.numbers.fill(algorithm, plan, made, divisor, self.found.scalar_rows)
        # What may fail is done here, before anything changes.
        rows, width = len(self.found.table) + 1, self.array.shape[1]
        self._places.reserve(len(self.found.order) + len(self.found.starts))
        self._table.reserve(rows * width + words_of(rows * self._width * self._computed.itemsize))
        if self._zeroes and self.values.size:
            self._clear = Transfer([(self.values.address, self.values.nbytes)], None, self._device)

    def sum(self, stream: int) -> None:
        """Sum the gradients of each row, if that has not been done."""
        found = self.found
        if not self._is_summed and found.elements:
            order, starts = sent_together(self._places, [found.order, found.starts], stream)
            storage, rows = storage_of(self.values.dtype), len(found.starts) - 1
            where = self.values.address, order, starts, rows, found.row_size, found.sums_address
            sum_rows_of(storage, self._device, *where, stream)
        self._is_summed = True

    def run(self, stream: int) -> None:
        """Update the rows, and count their steps."""
        found = self.found
        self.sum(stream)
        if found.elements:
            # One more segment, without elements: there are several then, and no kernel for one is needed.
            table = np.concatenate([found.table, found.table[-1:]])
            scalars = self.own.numbers.array[table[:, SCALAR_ROW], : self._width]
            table[:, SCALAR_ROW] = np.arange(len(table))
            there, numbers = sent_together(self._table, [table, scalars], stream)
            mean_size = found.elements // len(found.table)
            self._kernels.prepare(self._group(table, there, numbers), mean_size=mean_size)(stream)
        assert self._gradient is not None
        self.own.steps[self._gradient.indices[found.order[found.starts[:-1]]]] += 1
        if self._zeroes and self.values.size:
            self._clear(stream)
        self.let_go()

    def let_go(self) -> None:
        """Keep no array of a call alive."""
        self._gradient = None
