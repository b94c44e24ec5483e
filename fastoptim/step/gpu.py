"""Arrays on a GPU, bound to the kernels: where each address goes, and the launches that update them."""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import ref

import numpy as np

from fastoptim.arrays.gpu import GPU, gpu_info
from fastoptim.arrays.info import on_gpu
from fastoptim.arrays.memory import Array
from fastoptim.arrays.overlap import check_apart
from fastoptim.kernels.cuda.arrays import pointer
from fastoptim.kernels.cuda.launch import DeviceScalars, GpuGroup, Launch, stream_address
from fastoptim.kernels.cuda.memory import INT64, cuda
from fastoptim.kernels.cuda.reduce import DeviceNorm
from fastoptim.kernels.cuda.words import write_words
from fastoptim.kernels.measures import Statistics
from fastoptim.kernels.stages import Elementwise, Measured
from fastoptim.kernels.storage import Storage
from fastoptim.kernels.table import GRAD, PARAM
from fastoptim.settings.plan import Plan
from fastoptim.settings.rows import Kind, Numbers
from fastoptim.step.array_sums import ArraySums, StatisticsOf
from fastoptim.step.bound import Arrays
from fastoptim.step.counter import StepCounter
from fastoptim.step.gpu_rows import GpuRows
from fastoptim.step.packer import Packer
from fastoptim.step.segments import Segment, norm_order
from fastoptim.step.tables import Part, table_of


class GpuTable:
    """The table of a part, in the host's memory and on the device, and the launches over it.

    Args:
        segments: all of a step.
        part: those in this table.
        group: `(storages, rows, table) -> ` what the launches take over rows whose copies are at an address.

    Attributes:
        array: the table.
        members: the number of each row's segment.
        launches: in order.
    """

    def __init__(self, segments: Sequence[Segment], part: Part, group: Callable[..., GpuGroup]) -> None:
        own = [segments[i] for i in part.members]
        last: Elementwise | Measured = part.stages[-1]
        per_array = last.per_array
        self.array, groups = table_of(own, last)
        self.members = [part.members[i] for _, rows in groups for i in rows]
        self._there = cuda.to_device(self.array) if len(own) > 1 or (own and per_array.columns) else None
        self._written_on: int | None = None  # the stream in whose order the device's table is that of the host
        first, found = 0, list[GpuGroup]()
        for storages, rows in groups:
            address = 0 if self._there is None else pointer(self._there) + first * self.array.strides[0]
            found.append(group(storages, self.array[first : first + len(rows)], address))
            first += len(rows)
        self._statistics = StatisticsOf(own, last.names) if isinstance(last, Measured) else None
        order = 0
        if per_array.is_summed and own:
            self._sums = ArraySums(self.array, found, per_array, max(stage.values for stage in part.stages), GPU)
            self._order = cuda.to_device(self._sums.order_words(own, pointer(self._there)))
            found, order = self._sums.groups, pointer(self._order)
        self.launches: list[Launch] = [x for stage in part.stages for x in stage.launches_on_gpu(found, order)]

    def changed(self) -> None:
        """The array has other addresses."""
        self._written_on = None

    def write(self, device: int, stream: int, always: bool) -> None:
        """Have the table on the device be that of the host, in the order of a stream."""
        if self._there is not None and (always or self._written_on != stream):
            write_words(pointer(self._there), self.array, device, stream)
            self._written_on = stream

    def statistics(self) -> dict[Any, Statistics]:
        """What was measured in the last run, by name: this waits for the GPU."""
        return {} if self._statistics is None or not self.members else self._statistics.by_name(self._sums)


class GpuEngine:
    """Runs a step on a GPU. Nothing in it waits for the GPU.

    Args:
        segments: what the kernels get.
        parts: which of them are updated alike.
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
        parts: Sequence[Part],
        row_count: int,
        needs_norm: bool,
        counter: StepCounter | None,
    ) -> None:
        kernels, count = parts[0].stages[-1].kernels, len(segments)
        self.counter = counter
        self._zero_grads = kernels.fused.zero_grads
        self._params, self._grads = [each.param for each in segments], [each.grad for each in segments]
        self._shadows = {i: each.shadow for i, each in enumerate(segments) if each.shadow is not None}
        self._shadow_references: dict[int, Callable[[], Any]] = {}
        self._is_shadow_apart = True  # from the parameters and gradients of the last call
        self._shadow_columns = {i: len(segments[i].storages) - 1 for i in self._shadows}
        self._references: list[Callable[[], Any]] = [_nothing] * (2 * count)  # to arrays with these addresses
        infos = [*self._params, *self._grads]
        self._device = next((info.device or 0 for info in infos if info.size), 0)
        self._stream = next((info.stream for info in infos if info.stream), 0)
        self._parts = norm_order(segments)
        self._storages = [segments[i].storages[GRAD] for i, _, _ in self._parts]
        sizes = [(size, own) for (_, _, size), own in zip(self._parts, self._storages, strict=True)]
        self._norm = DeviceNorm(sizes, self._device) if needs_norm else None
        self._packers: list[Packer] = []
        self._rows_of_scalars: list[tuple[Any, Any]] = []  # those of several kinds, there and here
        width = kernels.scalar_count - kernels.fused.clip_norm  # what depends on the norm is on the device already
        scalars = {dtype: self._scalars(dtype, row_count, width) for dtype in {each.dtype for each in segments}}
        clips = self._norm is not None and kernels.fused.clip_norm

        def clip_coef(dtype: np.dtype[Any]) -> int:
            return self._norm.clip_coef(dtype) if clips and self._norm is not None else 0

        def group(storages: tuple[Storage, ...], rows: Array, table: int) -> GpuGroup:
            dtype = storages[PARAM].computed
            return GpuGroup(storages, rows, scalars[dtype], table, self._device, clip_coef(dtype))

        self._tables = [GpuTable(segments, part, group) for part in parts if part.rows is None]
        by_row = [(segments[part.members[0]], part) for part in parts if part.rows is not None]
        self.rows = [GpuRows(own, part, self._device, clip_coef(own.dtype)) for own, part in by_row]
        tables: list[GpuTable | GpuRows] = [*self._tables, *self.rows]
        self._cells = {i: table.array[row] for table in tables for row, i in enumerate(table.members)}
        self._columns = [each.param_column for each in segments]
        self._write_addresses()

    def _scalars(self, dtype: np.dtype[Any], row_count: int, count: int) -> Any:
        """Where the numbers of a step are, in a dtype of computation."""
        if self.counter is not None:
            return self.counter.scalars(dtype)
        words = np.zeros(-(-row_count * count * dtype.itemsize // INT64.itemsize), INT64)
        self._packers.append(Packer(words.view(dtype)[: row_count * count]))
        if row_count == 1:
            return self._packers[-1].scalars
        there = cuda.to_device(words)
        self._rows_of_scalars.append((there, words))
        return DeviceScalars(pointer(there), dtype)

    def accept(self, params: Arrays, grads: Arrays) -> bool:
        """Whether these arrays are like those that the step was bound for; if so, take their addresses."""
        is_taken = False
        try:
            is_taken = self._accept(params, grads)
        finally:
            for each in self.rows if not is_taken else ():
                each.let_go()
        return is_taken

    def _accept(self, params: Arrays, grads: Arrays) -> bool:
        before, found, count = [*self._params, *self._grads], [], len(params)
        if not all(each.takes(grads[each.index]) for each in self.rows):
            return False
        of_rows = {count + each.index: each.values for each in self.rows}
        for i, (array, info, reference) in enumerate(zip((*params, *grads), before, self._references, strict=True)):
            if i in of_rows:
                found.append(of_rows[i])
                continue
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
        if found != before:
            written = found if self._zero_grads else found[:count]
            if not all(info.is_writeable for info in written):
                return False
            try:
                check_apart(range(count), found[:count], found[count:], self._zero_grads)
            except ValueError:
                return False
            self._params, self._grads = found[:count], found[count:]
            self._write_addresses()
            self._is_shadow_apart = False
        self._references = [_reference(array) for array in (*params, *grads)]
        return all(each.find() for each in self.rows)

    def _write_addresses(self) -> None:
        """Write the addresses of the arrays of a call to the tables."""
        for i, row in self._cells.items():
            row[self._columns[i]], row[GRAD] = self._params[i].address, self._grads[i].address
            if i in self._shadows:
                row[self._shadow_columns[i]] = self._shadows[i].address
        for table in self._tables:
            table.changed()

    def takes_shadow(self, shadow: Arrays, params: Arrays, grads: Arrays) -> bool:
        """Whether other arrays for the rounded parameters are like those before; if so, their addresses are taken."""
        new = {}
        for i, before in self._shadows.items():
            if self._shadow_references.get(i, _nothing)() is shadow[i] and pointer(shadow[i]) == before.address:
                new[i] = before
                continue
            if not on_gpu(shadow[i]):
                return False
            try:
                info = gpu_info(shadow[i], "")
            except TypeError:
                return False
            expected = before.dtype, before.shape, True, True, before.device
            if (info.dtype, info.shape, info.is_aligned, info.is_writeable, info.device) != expected:
                return False
            new[i] = info
        if new != self._shadows or not self._is_shadow_apart:
            infos = [*new.values()]
            try:
                for others in self._params, self._grads:
                    check_apart(range(len(infos)), infos, others, may_be_same=False)
            except ValueError:
                return False
            self._shadows, self._is_shadow_apart = new, True
            self._write_addresses()
            for each in self.rows:
                each.find()
        self._shadow_references = {i: _reference(shadow[i]) for i in new}
        return True

    def plain_calls(self) -> tuple[Callable[..., None], Callable[[], None]]:
        """There are none: every step needs a stream."""
        raise NotImplementedError

    def statistics(self) -> dict[Any, Statistics]:
        """What was measured in the last run, by name: this waits for the GPU."""
        return {name: x for table in self._tables for name, x in table.statistics().items()}

    def set_row_numbers(
        self, algorithm: Numbers, plan: Plan, kinds: Sequence[Kind], divisor: float, clip_coef: float | None
    ) -> None:
        """Have the numbers that rows of parameters need, each those of its own step. For errors see `GpuRows`."""
        for each in self.rows:
            each.set_numbers(algorithm, plan, kinds, divisor)

    def check_stream(self, stream: Any) -> None:
        """Refuse what is no stream.

        Raises:
            TypeError
        """
        stream_address(stream)

    def _address_of(self, stream: Any) -> int:
        """The address of a stream, by default of that of the arrays."""
        if stream is not None:
            return stream_address(stream)
        return self._stream or next((each.values.stream for each in self.rows if each.values.stream), 0)

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
        address, summed = self._address_of(stream), dict[int, tuple[int, int]]()
        for each in self.rows:
            each.sum(address)
            summed[each.index] = each.found.sums_address, each.found.elements
        parts = [summed.get(i, (self._grads[i].address + byte, size)) for i, byte, size in self._parts]
        if self.rows:  # as many as the call has
            self._norm.resize([(size, own) for (_, size), own in zip(parts, self._storages, strict=True)])
        self._norm.launch([start for start, _ in parts], limit or 0.0, divisor, address)
        return self._norm

    def run(self, params: Arrays = (), grads: Arrays = (), stream: Any = None) -> None:
        """Update all parameters and state in place, on a stream."""
        address = self._address_of(stream)
        for table in self._tables:
            # A captured write has not happened yet, and one on another stream perhaps not.
            table.write(self._device, address, always=self.counter is not None)
        for there, words in self._rows_of_scalars:
            write_words(pointer(there), words, self._device, address)
        for table in self._tables:
            for launch in table.launches:
                launch(address)
        for each in self.rows:
            each.run(address)
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
