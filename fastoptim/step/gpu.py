"""Arrays on a GPU, bound to the kernels: where each address goes, and the launches that update them."""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import ref

import numpy as np

from fastoptim.arrays.gpu import GPU, gpu_info
from fastoptim.arrays.info import on_gpu
from fastoptim.arrays.overlap import check_apart
from fastoptim.kernels import Kernels
from fastoptim.kernels.cuda.arrays import pointer
from fastoptim.kernels.cuda.launch import DeviceScalars, GpuGroup, Launch, stream_address
from fastoptim.kernels.cuda.memory import INT64, cuda
from fastoptim.kernels.cuda.reduce import DeviceNorm
from fastoptim.kernels.cuda.words import write_words
from fastoptim.kernels.measures import Statistics
from fastoptim.kernels.stages import Elementwise, Measured
from fastoptim.kernels.table import END, GRAD, PARAM, SCALAR_ROW, columns
from fastoptim.step.array_sums import ArraySums, StatisticsOf
from fastoptim.step.bound import Arrays
from fastoptim.step.counter import StepCounter
from fastoptim.step.packer import Packer
from fastoptim.step.segments import Segment, norm_order, storage_groups


class GpuEngine:
    """Runs a step on a GPU. Nothing in it waits for the GPU.

    Args:
        segments: what the kernels get.
        stages: of a step, with the options.
        row_count: rows of scalars.
        needs_norm: whether the norm of the gradients has to be known.
        counter: of a capturable optimizer, which also has the numbers of all steps; None for any other.
    """

    memory = GPU
    is_simple = False
    clips_itself = True

    def __init__(
        self,
        segments: Sequence[Segment],
        stages: Sequence[Any],
        row_count: int,
        needs_norm: bool,
        counter: StepCounter | None,
    ) -> None:
        last: Elementwise | Measured = stages[-1]
        fused, count, per_array = last.kernels.fused, len(segments), last.per_array
        self.counter = counter
        self._zero_grads = fused.zero_grads
        self._params, self._grads = [each.param for each in segments], [each.grad for each in segments]
        self._references: list[Callable[[], Any]] = [_nothing] * (2 * count)  # to arrays with these addresses
        infos = [*self._params, *self._grads]
        self._device = next((info.device or 0 for info in infos if info.size), 0)
        self._stream = next((info.stream for info in infos if info.stream), 0)
        self._rows = [0] * count
        self._segments = np.zeros((count, columns(last.kernels.on_gpu.operands, per_array)), np.int64)
        needs_table = count > 1 or (count == 1 and per_array.is_summed)
        self._table = cuda.to_device(self._segments) if needs_table else None
        self._written_on: int | None = None  # the stream in whose order the device's table is that of the host
        self._parts = norm_order(segments)
        sizes = [(size, segments[i].dtype) for i, _, size in self._parts]
        self._norm = DeviceNorm(sizes, self._device) if needs_norm else None
        self._packers: list[Packer] = []
        self._tables: list[tuple[Any, Any]] = []  # where the scalars of several rows are, there and here
        groups, first = [], 0
        for _, members in storage_groups(segments):
            elements = 0
            for row, i in enumerate(members, first):
                each = segments[i]
                elements += each.own.size
                self._rows[i] = row
                addresses = each.param.address, each.grad.address, *each.state, *each.numbers
                self._segments[row, : len(addresses)] = addresses
                self._segments[row, SCALAR_ROW], self._segments[row, END] = each.row, elements
            rows = slice(first, first + len(members))
            groups.append(self._group(last.kernels, rows, row_count, segments[members[0]].dtype))
            first += len(members)
        self._statistics = StatisticsOf(segments, last.names) if isinstance(last, Measured) else None
        order = 0
        if per_array.is_summed and count:
            self._sums = ArraySums(self._segments, groups, per_array, max(stage.values for stage in stages), GPU)
            self._order = cuda.to_device(self._sums.order_words(segments, pointer(self._table)))
            groups, order = self._sums.groups, pointer(self._order)
        self._launches: list[Launch] = [x for stage in stages for x in stage.launches_on_gpu(groups, order)]

    def _group(self, kernels: Kernels, rows: slice, row_count: int, dtype: np.dtype[Any]) -> GpuGroup:
        """What the launches over all segments of a dtype take."""
        has_clip_norm = kernels.fused.clip_norm
        count = kernels.scalar_count - has_clip_norm  # what depends on the norm is on the device already
        if self.counter is not None:
            scalars: Any = self.counter.scalars(dtype)
        else:
            words = np.zeros(-(-row_count * count * dtype.itemsize // INT64.itemsize), INT64)
            self._packers.append(Packer(words.view(dtype)[: row_count * count]))
            scalars = self._packers[-1].scalars
            if row_count > 1:
                there = cuda.to_device(words)
                self._tables.append((there, words))
                scalars = DeviceScalars(pointer(there), dtype)
        table = 0 if self._table is None else pointer(self._table) + rows.start * self._segments.strides[0]
        clip_coef = self._norm.clip_coef(dtype) if self._norm is not None and has_clip_norm else 0
        return GpuGroup(self._segments[rows], scalars, table, self._device, clip_coef)

    def accept(self, params: Arrays, grads: Arrays) -> bool:
        """Whether these arrays are like those that the step was bound for; if so, take their addresses."""
        before, found = [*self._params, *self._grads], []
        for array, info, reference in zip((*params, *grads), before, self._references, strict=True):
            if array is not None and reference() is array and pointer(array) == info.address:
                found.append(info)
                continue
            if not on_gpu(array):
                return False
            try:
                new = gpu_info(array, "")
            except TypeError:
                return False
            if (new.dtype, new.shape, new.is_aligned) != (info.dtype, info.shape, True):
                return False
            if new.size and new.device != self._device:
                return False
            found.append(new)
        count = len(params)
        if found != before:
            written = found if self._zero_grads else found[:count]
            if not all(info.is_writeable for info in written):
                return False
            try:
                check_apart(range(count), found[:count], found[count:], self._zero_grads)
            except ValueError:
                return False
            for i, row in enumerate(self._rows):
                self._segments[row, PARAM], self._segments[row, GRAD] = found[i].address, found[count + i].address
            self._written_on = None
        self._params, self._grads = found[:count], found[count:]
        self._references = [_reference(array) for array in (*params, *grads)]
        return True

    def takes_shadow(self, shadow: Arrays, params: Arrays, grads: Arrays) -> bool:
        """There is none on a GPU."""
        raise NotImplementedError

    def plain_calls(self) -> tuple[Callable[..., None], Callable[[], None]]:
        """There are none: every step needs a stream."""
        raise NotImplementedError

    def statistics(self) -> dict[Any, Statistics]:
        """What was measured in the last run, by name: this waits for the GPU."""
        if self._statistics is None or not self._segments.size:
            return {}
        return self._statistics.by_name(self._sums)

    def check_stream(self, stream: Any) -> None:
        """Refuse what is no stream.

        Raises:
            TypeError
        """
        stream_address(stream)

    def set_scalars(self, numbers: Sequence[float]) -> None:
        """Take a step's numbers, those of each kind behind those of the one before, rounded to each dtype.

        Raises:
            WrongScalarsError: there are too few or many, one is no number, or a dtype cannot hold one.
        """
        for packer in self._packers:
            packer.pack(numbers)

    def measure(self, params: Arrays, grads: Arrays, limit: float | None, divisor: float, stream: Any) -> DeviceNorm:
        """Have the norm made of all gradients together, divided by `divisor`, and what they are multiplied by."""
        assert self._norm is not None
        addresses = [self._grads[i].address + byte for i, byte, _ in self._parts]
        address = self._stream if stream is None else stream_address(stream)
        self._norm.launch(addresses, limit or 0.0, divisor, address)
        return self._norm

    def run(self, params: Arrays = (), grads: Arrays = (), stream: Any = None) -> None:
        """Update all parameters and state in place, on a stream."""
        address = self._stream if stream is None else stream_address(stream)
        # A captured write has not happened yet, and one on another stream perhaps not.
        if self._table is not None and (self.counter is not None or self._written_on != address):
            write_words(pointer(self._table), self._segments, self._device, address)
            self._written_on = address
        for there, words in self._tables:
            write_words(pointer(there), words, self._device, address)
        for launch in self._launches:
            launch(address)
        if self.counter is not None:
            self.counter.advance(address)


def _nothing() -> None:
    return None


def _reference(array: Any) -> Callable[[], Any]:
    """A weak one: no array is kept alive from one update to the next."""
    try:
        return ref(array)
    except TypeError:
        return _nothing
