"""Arrays of the host, bound to the kernels: where each address goes, and the calls that update them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastoptim.arrays.info import TensorInfo
from fastoptim.arrays.memory import HOST
from fastoptim.kernels.cpu import SERIAL_LIMIT
from fastoptim.kernels.guard import Expected, Guard, compile_guard
from fastoptim.kernels.launch import Launches
from fastoptim.kernels.measures import Statistics
from fastoptim.kernels.reduce import Norm
from fastoptim.kernels.reduce import Part as NormPart
from fastoptim.kernels.table import GRAD
from fastoptim.settings.plan import Plan
from fastoptim.settings.rows import Kind, Numbers
from fastoptim.step.bound import Arrays
from fastoptim.step.bound_matrix import BoundMatrix
from fastoptim.step.bound_rows import BoundRows
from fastoptim.step.packer import Packer
from fastoptim.step.segments import Segment, norm_order
from fastoptim.step.staged import Scratch, StagedCopies, set_cell
from fastoptim.step.tables import Part, StepTable


class HostEngine:
    """Runs a step on the host.

    Args:
        segments: what the kernels get.
        parts: which of them follow the rule, and which do not.
        row_count: rows of scalars.
        needs_norm: whether the norm of the gradients has to be known.
        scratch: memory for staged copies.
    """

    memory = HOST
    clips_itself = False
    counter = None

    def __init__(
        self, segments: Sequence[Segment], parts: Sequence[Part], row_count: int, needs_norm: bool, scratch: Scratch
    ) -> None:
        kernels = parts[0].stages[-1].kernels
        self._staged = StagedCopies(scratch)
        self._unused = self._staged.new_cell()
        self._zero_grads = kernels.fused.zero_grads
        dtypes = sorted({each.dtype for each in segments}, key=lambda dtype: dtype.itemsize)
        self._packers = [Packer(np.zeros((row_count, kernels.scalar_count), dtype)) for dtype in dtypes]
        scalars = {x.scalars.dtype: int(x.scalars.ctypes.data) for x in self._packers}
        self._tables = [StepTable(segments, part, scalars) for part in parts]
        params: dict[int, Expected] = {}
        grads: dict[int, Expected] = {}
        shadows: dict[int, Expected] = {}
        for table in self._tables:
            for i, row in table.rows.items():
                segment = segments[i]
                params[i] = self._expected(i, segment, segment.param, table, row, segment.param_column)
                grads[i] = self._expected(i, segment, segment.grad, table, row, GRAD)
                if segment.shadow is not None:
                    shadows[i] = self._expected(i, segment, segment.shadow, table, row, len(segment.storages) - 1)
        plain = [t for t, part in zip(self._tables, parts, strict=True) if part.matrix is None and part.rows is None]
        self.rows = [
            BoundRows(segments[part.members[0]], part, table, needs_norm)
            for table, part in zip(self._tables, parts, strict=True)
            if part.rows is not None
        ]
        for each in self.rows:  # its gradient is looked at for itself
            grads[each.index] = NO_GRADIENT._replace(cell=self._unused)
        dense = [x for table in plain for each in table.launches for x in each]
        self._dense = [launch.elements for launch in dense]
        self._launches = Launches([*dense, *(call for each in self.rows for call in each.new_calls())], SERIAL_LIMIT)
        self._matrices = [
            BoundMatrix(part.members[0], segments[part.members[0]], part.matrix, table, kernels.scalar_count)
            for table, part in zip(self._tables, parts, strict=True)
            if part.matrix is not None
        ]
        self._parts_of_norm = self._norm_parts(segments, grads) if needs_norm else []
        self._norm = Norm([part for _, part in self._parts_of_norm]) if needs_norm else None
        every = range(len(segments))
        self._guard = Guard([params[i] for i in every], [grads[i] for i in every], self._zero_grads)
        # Whether arrays are like those that the step was bound for; if so, their addresses are taken.
        self.accept: Callable[[Arrays, Arrays], bool] = self._accept_rows if self.rows else self._guard.accept
        others = [[_like(x.param, self._unused) for x in segments], [_like(x.grad, self._unused) for x in segments]]
        for each in self.rows:
            others[1][each.index] = grads[each.index]
        written = [shadows[i] for i in every if i in shadows]
        self._shadow_guards = [Guard(written, other, zeroing=True) for other in others] if written else []
        self.is_simple = not (self._staged or self._matrices or len(self.rows) not in (0, len(segments)))
        self._launches.compile(is_changing=bool(self.rows))
        for matrix in self._matrices:
            matrix.compile()
        for each in self.rows:
            each.compile()
        compile_guard()
        self._staged.compile()
        if self._norm is not None:
            self._norm.compile()

    def _accept_rows(self, params: Arrays, grads: Arrays) -> bool:
        """The same, where some gradients may be of some rows."""
        if not self._guard.accept(params, self._but_rows(grads)):
            return False
        is_taken = all(each.take(grads[each.index], params) for each in self.rows)
        for each in self.rows if not is_taken else ():
            each.let_go()
        return is_taken

    def _but_rows(self, grads: Arrays) -> Arrays:
        """Gradients with an empty array in the place of each one that may be of some rows."""
        dense = list(grads)
        for each in self.rows:
            dense[each.index] = EMPTY
        return tuple(dense)

    def set_row_numbers(
        self, algorithm: Numbers, plan: Plan, kinds: Sequence[Kind], divisor: float, clip_coef: float | None
    ) -> None:
        """Have the numbers that rows of parameters need, each those of its own step. For errors see `BoundRows`."""
        for each in self.rows:
            each.set_numbers(algorithm, plan, kinds, divisor, clip_coef)

    def _expected(
        self, i: int, segment: Segment, info: TensorInfo, table: StepTable, row: int, column: int
    ) -> Expected:
        """What the guard expects of an array: that the kernels can walk it as it lies, or else a staged copy of it."""
        axes, dtype, cell = segment.own.axes, segment.storages[column].dtype, table.cell(row, column)
        direct = info.dtype == dtype and info.is_dense(axes) and info.is_aligned
        if not direct:
            target, cell = cell, self._staged.new_cell()
            self._staged.add(i, cell, info, target, dtype, axes, is_param=column != GRAD)
        set_cell(cell, info.address)
        return Expected(info.dtype, info.shape, info.strides, cell, direct)

    def takes_shadow(self, shadow: Arrays, params: Arrays, grads: Arrays) -> bool:
        """Whether other arrays for the rounded parameters are like those before; if so, their addresses are taken."""
        before = [each.found.template.tobytes() for each in self.rows]
        others = params, self._but_rows(grads) if self.rows else grads
        guards = zip(self._shadow_guards, others, strict=False)  # none where no name takes part
        is_taken = all(guard.accept(shadow, arrays) for guard, arrays in guards)
        for each, template in zip(self.rows, before, strict=True):
            if each.found.template.tobytes() != template:
                each.find()
        return is_taken

    def _norm_parts(self, segments: Sequence[Segment], grads: dict[int, Expected]) -> list[tuple[int, NormPart]]:
        """Where the norm finds the gradient of each segment. It reads them in C order: others are copied for it."""
        own, cells = {each.index: each for each in self.rows}, []
        for i, (segment, info) in enumerate((each, each.grad) for each in segments):
            if i in own:
                cells.append(own[i].found.gradient_cell)
                continue
            in_order = info.is_dense(tuple(range(len(info.shape))))
            dtype, cell = segment.storages[GRAD].dtype, grads[i].cell
            direct = info.dtype == dtype and in_order and info.is_aligned
            cells.append(cell if direct else self._staged.in_order(i, cell, info, dtype))
        order = norm_order(segments)
        return [(i, NormPart(cells[i], byte, size, segments[i].storages[GRAD])) for i, byte, size in order]

    def plain_calls(self) -> tuple[Callable[..., None], Callable[[], None]]:
        """For steps that are made often: what takes the numbers as its arguments, and what runs the step."""
        if self.rows:
            return lambda *numbers: None, self._run_with_rows
        if len(self._packers) == 1 and self._launches.is_serial:
            return self._packers[0].quick, self._launches.serial_run
        return lambda *numbers: self.set_scalars(numbers), self.run

    def check_stream(self, stream: Any) -> None:
        """Refuse a stream.

        Raises:
            ValueError
        """
        raise ValueError(f"stream: expected None, as these arrays are on the CPU; got {stream!r}")

    def set_scalars(self, numbers: Sequence[float]) -> None:
        """Take a step's numbers, those of each kind behind those of the one before, rounded to each dtype.

        Raises:
            WrongScalarsError: there are too few or many, one is no number, or a dtype cannot hold one.
        """
        for packer in self._packers:
            packer.pack(numbers)
        self._numbers = numbers

    def measure(self, params: Arrays, grads: Arrays, limit: float | None, divisor: float, stream: Any) -> float:
        """The norm of all gradients together, divided by `divisor`."""
        assert self._norm is not None
        self._staged.gather(params, grads)
        if self.rows:
            for each in self.rows:
                each.sum()
            sizes = {each.index: each.found.elements for each in self.rows}  # others than in the last call
            parts = [part._replace(size=sizes.get(i, part.size)) for i, part in self._parts_of_norm]
            self._norm = Norm(parts)
            self._norm.compile()
        return self._norm.measure() / divisor

    def statistics(self) -> dict[Any, Statistics]:
        """What was measured in the last run, by name."""
        return {name: x for table in self._tables for name, x in table.statistics().items()}

    def run(self, params: Arrays = (), grads: Arrays = (), stream: Any = None) -> None:
        """Update all parameters and state in place."""
        if self.is_simple and not self.rows:
            self._launches.run()
            return
        if self._norm is None:  # or else `measure` has gathered already
            self._staged.gather(params, grads)
        if self.rows:
            self._run_with_rows()
        else:
            self._launches.run()
        for matrix in self._matrices:
            matrix.run(params[matrix.index], self._numbers)
        self._staged.scatter(params, grads, self._zero_grads)

    def _run_with_rows(self) -> None:
        """Update the parameters with gradients of all rows, and those that may have some, in one call."""
        elements = [*self._dense]
        for each in self.rows:
            elements += each.write_calls(self._launches.words[len(elements) :])
        self._launches.run_changed(elements)
        for each in self.rows:
            each.finish()


NO_GRADIENT = Expected(np.dtype(np.float32), (0,), (4,), 0, needs_alignment=False)
EMPTY = np.zeros(0, np.float32)


def _like(info: TensorInfo, cell: int) -> Expected:
    """An array as it is, whose address goes to a cell."""
    return Expected(info.dtype, info.shape, info.strides, cell, needs_alignment=False)


class AddressGuard:
    """Knows arrays that were found to share no memory, by their addresses: it keeps none alive."""

    def __init__(self, params: Sequence[TensorInfo], grads: Sequence[TensorInfo]) -> None:
        self._cells = np.array([info.address for info in (*params, *grads)], np.int64)
        start = int(self._cells.ctypes.data)
        expected = [
            Expected(info.dtype, info.shape, info.strides, start + i * self._cells.itemsize, needs_alignment=False)
            for i, info in enumerate((*params, *grads))
        ]
        self._is_known = all(info.device is None for info in (*params, *grads))
        self._guard = Guard(expected[: len(params)], expected[len(params) :], zeroing=True)

    def accept(self, params: Arrays, grads: Arrays) -> bool:
        """Whether these are such arrays."""
        return self._is_known and len(params) * 2 == len(self._cells) and self._guard.accept(params, grads)
