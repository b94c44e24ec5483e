"""Binds two dicts of arrays: looks at everything, lays it out, and changes nothing."""

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from fastoptim.arrays.devices import info_of, memory_of
from fastoptim.arrays.flat import FlatDict
from fastoptim.arrays.info import TensorInfo, on_gpu
from fastoptim.arrays.layout import Layout
from fastoptim.arrays.memory import HOST, Memory
from fastoptim.arrays.overlap import check_apart
from fastoptim.arrays.rows import Rows
from fastoptim.kernels.rows import STEP
from fastoptim.kernels.storage import Storage, computed_in, storage_of
from fastoptim.settings.algorithm import Algorithm
from fastoptim.settings.plan import Plan
from fastoptim.settings.rows import Kind
from fastoptim.state.counts import StepCounts
from fastoptim.state.missed import MissedSteps
from fastoptim.state.store import StateStore
from fastoptim.step.bound import Arrays, BoundStep, Engine
from fastoptim.step.cache import BoundSteps, Found
from fastoptim.step.checks import as_gradient, as_param, check_names, check_zeroed, infos_of, shadows_of
from fastoptim.step.host import HostEngine
from fastoptim.step.low_precision import beside, check_precision
from fastoptim.step.matrix_step import MatrixStep
from fastoptim.step.row_checks import check_options_of_rows, check_rows
from fastoptim.step.row_numbers import RowNumbers, RowSteps
from fastoptim.step.segments import Segment
from fastoptim.step.staged import Scratch
from fastoptim.step.tables import Part


class Given(NamedTuple):
    """The arrays of a call that take part: those whose gradient is not None.

    Attributes:
        names: in the order of the parameters.
        params, grads: the arrays; on the host, of NumPy.
        layout: the common layout if both are flat, or else None.
        buffers: of both, then.
    """

    names: Arrays
    params: Arrays
    grads: Arrays
    layout: Layout | None
    buffers: tuple[Arrays, Arrays]


def given(params: Mapping[Any, Any], grads: Mapping[Any, Any]) -> Given:
    """The arrays of a call.

    Raises:
        KeyError, TypeError: a name is missing, or a gradient on the host is no array.
    """
    check_names(params, grads)
    found = {name: grads[name] for name in params}
    names = tuple(name for name, grad in found.items() if grad is not None)
    own, gradients = tuple(params[name] for name in names), tuple(found[name] for name in names)
    if not any(map(on_gpu, (*params.values(), *gradients))):
        own = tuple(map(as_param, own, names))
        gradients = tuple(
            g if type(g) is Rows else as_gradient(g, name) for g, name in zip(gradients, names, strict=True)
        )
    if type(params) is FlatDict and type(grads) is FlatDict and params.layout is grads.layout:
        return Given(names, own, gradients, params.layout, (params.arrays, grads.arrays))
    return Given(names, own, gradients, None, ((), ()))


class Binder(NamedTuple):
    """What all steps of an optimizer are bound with, until an option changes or the state moves."""

    algorithm: Algorithm
    plan: Plan
    store: StateStore
    counts: StepCounts
    steps: BoundSteps
    scratch: Scratch
    may_have_rows: bool = True

    def bind(
        self, params: Mapping[Any, Any], grads: Mapping[Any, Any], shadow: Mapping[Any, Any] | None = None
    ) -> Found:
        """A step for these arrays: a known one, if it takes them once they are arrays of NumPy, or else a new one.

        Raises:
            KeyError, TypeError, ValueError: an array cannot be updated. Nothing has changed then.
        """
        call = given(params, grads)
        known = self.steps.search(call.names, call.params, call.grads, self.counts.version)
        if known is not None and takes_shadow(known, shadow):
            return known
        rows = self._rows_of(call) if self.may_have_rows else {}
        # The checks of such a gradient are those of `check_rows`. Its parameter stands in its place here.
        dense = (p if name in rows else g for name, p, g in zip(*call[:3], strict=True))
        own, gradients = infos_of(call.names, call.params, tuple(dense))
        infos = dict(zip(call.names, own, strict=True))
        for name, info in infos.items():
            self.store.check(name, info.as_computed, self.algorithm.state_shape)
        zeroing = self.plan.fused.zero_grads
        if zeroing:
            check_zeroed(call.names, gradients)
        values = {name: info_of(each.values, f"grads[{name!r}]: Rows: values") for name, each in rows.items()}
        check_rows(rows, values, infos)
        for name, grad in zip(call.names, call.grads, strict=True) if zeroing else ():
            zeroed = grad.values if type(grad) is Rows else grad  # which `values` may be a copy of
            if name in rows and not info_of(zeroed, f"grads[{name!r}]").is_writeable:
                raise ValueError(f"grads[{name!r}]: expected writeable numbers, as zero_grads sets them to zero")
        apart = [values.get(name, g) for name, g in zip(call.names, gradients, strict=True)]
        check_apart(call.names, own, apart, zeroing)
        on_device = any(map(on_gpu, call.params))
        memory = memory_of("cuda") if on_device else self.store.memory if not call.names else HOST
        check_precision(self.algorithm, self.plan, self.store, infos, shadow)
        of_rows = {name: infos[name] for name in rows}
        are_dense = {name for name, grad in zip(call.names, call.grads, strict=True) if type(grad) is not Rows}
        check_options_of_rows(self.algorithm, self.plan, self.store, of_rows, are_dense)
        shadows: list[TensorInfo] = []
        if shadow is not None:
            shadows = shadows_of(shadow, call.names, own)
            for label, others in ("params", own), ("grads", apart):
                check_apart(call.names, shadows, others, labels=("shadow", label), may_be_same=False)
        with memory.current(own):
            return self._bound(call, own, gradients, shadows, memory, rows)

    def _bound(
        self,
        call: Given,
        own: list[TensorInfo],
        gradients: list[TensorInfo],
        shadows: list[TensorInfo],
        memory: Memory,
        rows_of: Mapping[Any, Rows],
    ) -> Found:
        """A step for arrays that have passed every check."""
        is_whole = call.layout is not None and len(call.names) == len(call.layout.slices)
        there = beside(self.plan, dict(zip(call.names, own, strict=True)))
        infos = {name: info.as_computed for name, info in zip(call.names, own, strict=True)}
        gradients = [infos[name] if name in rows_of else grad for name, grad in zip(call.names, gradients, strict=True)]
        shapes = self.algorithm.state_shape
        is_simple = not (self.plan.by_array or self.plan.shadows or there.keys() - {"ema"} or rows_of)
        like = call.layout if is_whole and is_simple else None
        slices = self.store.slices  # rows are found in state in C order
        turned = {
            name for name in rows_of if name in slices and slices[name].axes != tuple(range(len(infos[name].shape)))
        }
        store = self.store.but(unplaced=self.store.unplaced | turned) if turned else self.store
        grown = store.including(infos, memory, shapes, like, there, in_order=self.plan.in_order)
        kinds, rows = self._kinds(infos)
        segments = (
            self._flat_segments(like, call, grown.store, memory) if like is not None and len(kinds) <= 1 else None
        )
        arrays = call.buffers if segments is not None else (call.params, call.grads)
        key: Any = like if segments is not None else call.names
        if segments is None:
            segments = self._segments(call.names, own, gradients, shadows, rows, grown.store)
        engine = self._engine(segments, kinds, grown.store, memory, rows_of)
        for each in engine.rows:
            taken = each.take(rows_of[each.name], call.params)
            assert taken, "it has passed every check"
        own_arrays = dict(zip(call.names, call.params, strict=True))
        beginning = [(array, own_arrays[name]) for name, array in grown.fresh]
        has_clip_coef, version = self.plan.fused.clip_norm, self.counts.version
        step = BoundStep(key, kinds, self.store, grown.store, beginning, engine, version, has_clip_coef)
        return step, *arrays

    def _kinds(self, params: Mapping[Any, TensorInfo]) -> tuple[list[Kind], list[int]]:
        """What tells names apart in a step, and which kind each name is."""
        is_matrix = self.algorithm.is_matrix
        groups = {name: self.plan.group_of(name, is_matrix(name, info.shape)) for name, info in params.items()}
        cohorts = self.counts.cohorts(groups)
        kinds: dict[Kind, int] = {}
        rows = [kinds.setdefault((cohorts[name], groups[name]), len(kinds)) for name in params]
        return list(kinds), rows

    def _rows_of(self, call: Given) -> dict[Any, Rows]:
        """The gradients of some rows; and those of all, of parameters whose rows have their own steps by now."""
        found = dict[Any, Rows]()
        for name, param, grad in zip(*call[:3], strict=True):
            if type(grad) is Rows:
                found[name] = grad
            elif name in self.counts.of_rows:
                info = info_of(grad, f"grads[{name!r}]")
                if info.shape == tuple(param.shape) != ():
                    found[name] = Rows(np.arange(info.shape[0]), grad)
        return found

    def _row_steps(self, name: Any, segment: Segment, kinds: Sequence[Kind]) -> RowSteps:
        """What tells a parameter's rows apart. They have made the steps of the name, if none of them has its own."""
        cohort, group = kinds[segment.row]
        last, steps, missed = self.plan.stages[-1], self.counts.of_rows.get(name), self.counts.missed.get(name)
        size, shape = 1 + len(last.slots) + last.kernels.fused.ema, segment.param.shape
        if steps is not None and len(steps) != shape[0]:
            raise ValueError(
                f"params[{name!r}]: its shape is {shape}, but the optimizer has counted steps of {len(steps)} rows"
            )
        if missed is not None and (not self.plan.catches_up or missed.size != size):
            if self.counts.is_behind(name):
                raise ValueError(
                    f"params[{name!r}]: rows are behind, expected opt.flush(params) before an option is assigned. "
                    "Assign what it was, and call it"
                )
            steps = missed = None  # all rows have made all steps
        if steps is None:
            steps = np.full(shape[0], cohort.count, STEP)
        if self.plan.catches_up and missed is None:
            if (steps != cohort.count).any():
                raise ValueError(f"sparse: expected 'lazy', as rows of {name!r} have counted their own steps")
            missed = MissedSteps(size, segment.dtype)
        numbers = RowNumbers(group, last.kernels.scalar_count, segment.dtype, type(self.algorithm).carry)
        return RowSteps(steps, numbers, cohort, missed)

    def _engine(
        self,
        segments: list[Segment],
        kinds: list[Kind],
        store: StateStore,
        memory: Memory,
        rows_of: Mapping[Any, Rows],
    ) -> Engine:
        plan, row_count = self.plan, max(len(kinds), 1)
        if memory is HOST:
            parts = self._parts(segments, store, kinds, rows_of)
            return HostEngine(segments, parts, row_count, plan.needs_norm, self.scratch)
        if plan.matrix_stages:
            raise TypeError(f"{type(self.algorithm).__name__} updates matrices on the CPU: expected arrays of NumPy")
        from fastoptim.step.counter import StepCounter  # these need the package numba-cuda
        from fastoptim.step.gpu import GpuEngine

        counter: Any = self.counts.on_gpu if plan.capturable else None
        if plan.capturable:
            names = {name for each in segments for name in each.parts}
            if len(kinds) > 1 or len(names) < len(store.slices) or self.algorithm.carry is not None:
                raise ValueError("capturable: expected all parameters to take part in every step, and no carry")
            if counter is None:
                device = next((each.param.device or 0 for each in segments if each.param.size), 0)
                counter = StepCounter(kinds[0][0].count if kinds else 0, device)
            dtypes = {each.dtype for each in segments}
            counter.fill(self.algorithm.hyperparameters(), dtypes, lambda t: plan.row_at(self.algorithm, t))
        return GpuEngine(segments, self._parts(segments, store, kinds, rows_of), row_count, plan.needs_norm, counter)

    def _parts(
        self, segments: list[Segment], store: StateStore, kinds: Sequence[Kind], rows_of: Mapping[Any, Rows]
    ) -> list[Part]:
        """The segments that follow the rule, those that have one more operand, and some that are apart.

        These are matrices that do not follow the rule, and parameters with gradients of some rows.
        """
        algorithm, plan = self.algorithm, self.plan
        names, matrices = [next(iter(each.parts), None) for each in segments], algorithm.matrices
        found = [
            i
            for i, each in enumerate(segments)
            if matrices is not None and algorithm.is_matrix(names[i], each.param.shape)
        ]
        by_row = [i for i, name in enumerate(names) if name in rows_of]
        others = [i for i in range(len(segments)) if i not in {*found, *by_row}]
        plain, copying = ([i for i in others if bool(segments[i].extra) == has_copy] for has_copy in (False, True))
        parts = [Part(plain, plan.stages)] if plain or not copying else []
        parts += [Part(copying, plan.copying_stages)] if copying else []
        for i in found:
            assert matrices is not None
            state = {slot: store.views[slot].get(names[i]) for slot in matrices.slots}
            master, rest = (
                own[names[i]] if own is not None and names[i] in own else None
                for own in (store.beside.master, store.beside.compensation)
            )
            step = MatrixStep(matrices.function, state, plan.stages[-1].kernels.scalar_names, master, rest)
            stages = plan.copying_matrix_stages if segments[i].extra else plan.matrix_stages
            parts.append(Part([i], stages, step))
        for i in by_row:
            stages = plan.copying_stages if segments[i].extra else plan.stages
            parts.append(Part([i], stages, rows=self._row_steps(names[i], segments[i], kinds)))
        return parts

    def _segments(
        self, names: Arrays, params: list[TensorInfo], grads: list[TensorInfo], shadows: list[TensorInfo],
        rows: list[int], store: StateStore,
    ) -> list[Segment]:  # fmt: skip
        """A segment for each name."""
        algorithm, numbers, segments = self.algorithm, self.plan.per_array.slots, list[Segment]()
        every = shadows or repeat(None, len(names))
        for name, param, grad, shadow, row in zip(names, params, grads, every, rows, strict=True):
            own, of_array = store.slices[name], store.shaped_addresses(name, numbers)
            if algorithm.matrices is None:
                state = store.addresses(own)
            elif algorithm.is_matrix(name, param.shape):
                state, of_array = (0,), ()  # the update alone, which lasts no longer than the step
            else:
                state = store.shaped_addresses(name, algorithm.slots)
            if store.averages is not None:
                state = (*state, store.memory.address(store.averages[name]))
            storages = _storages(param, grad, store.storages(own), len(state))
            master, extra = 0, tuple[int, ...]()
            if self.plan.has_masters and param.is_half:
                assert store.beside.master is not None
                master, extra = store.memory.address(store.beside.master[name]), (0,)
                storages = storage_of(computed_in(param.dtype)), *storages[1:], storages[0]
            elif shadow is not None:
                extra, storages = (0,), (*storages, storage_of(shadow.dtype))
            elif self.plan.is_kahan and param.is_half:
                assert store.beside.compensation is not None
                rest = store.memory.address(store.beside.compensation[name])
                extra, storages = (rest,), (*storages, storages[0].of_rests)
            parts = {name: (0, own.size)}
            segments.append(Segment(param, grad, master, shadow, own, storages, state, extra, of_array, row, parts))
        return segments

    def _flat_segments(self, layout: Layout, call: Given, store: StateStore, memory: Memory) -> list[Segment] | None:
        """A segment for each buffer, if the state and the averages lie as the parameters do."""
        averages = store.averages if self.plan.fused.ema else None
        slices = store.flat_slices(layout)
        if slices is None or (averages is not None and averages.layout is not layout):
            return None
        parts: list[dict[Any, tuple[int, int]]] = [{} for _ in slices]
        for name, own in layout.slices.items():
            parts[own.block][name] = own.offset * own.dtype.itemsize, own.size
        segments = []
        for i, own in enumerate(slices):
            param, grad = (info_of(arrays[i], f"buffer of {own.dtype}") for arrays in call.buffers)
            if not param.is_writeable:
                raise ValueError(f"buffer of {own.dtype}: it is read-only, expected a writeable array")
            state = store.addresses(own)
            if averages is not None:
                state = (*state, memory.address(averages.arrays[i]))
            storages = _storages(param, grad, store.storages(own), len(state))
            segments.append(Segment(param, grad, 0, None, own, storages, state, (), (), 0, parts[i]))
        return segments


def takes_shadow(found: Found, shadow: Mapping[Any, Any] | None) -> bool:
    """Whether a known step takes these other arrays, too."""
    if shadow is None:
        return True
    step, params, grads = found
    try:
        arrays = tuple(map(shadow.__getitem__, step.key))
    except (KeyError, TypeError, AttributeError):  # binding says what is wrong
        return False
    return step.engine.takes_shadow(arrays, params, grads)


def _storages(param: TensorInfo, grad: TensorInfo, slots: tuple[Storage, ...], others: int) -> tuple[Storage, ...]:
    """How operands lie in memory: a parameter, its gradient, and so many others, of which the slots are first.

    A gradient that steps for such parameters cannot read is copied to the dtype in which they compute.
    """
    computed = storage_of(computed_in(param.dtype))
    readable = storage_of(grad.dtype) if computed_in(grad.dtype) == computed.dtype else computed
    return storage_of(param.dtype), readable, *slots, *(computed,) * (others - len(slots))
