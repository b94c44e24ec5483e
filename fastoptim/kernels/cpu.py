"""The loops for `numba.njit`, written once for all rules."""

from collections.abc import Callable
from functools import cached_property
from types import FunctionType
from typing import Any

import numpy as np
from numba import prange, types
from numba.extending import overload

from fastoptim.kernels import chunks, codes, encode, fuse, halves, jit, memory, pieces, random, storage, traffic, unroll
from fastoptim.kernels.blocks import BlockKernels, numbers_of_array
from fastoptim.kernels.chunks import storing
from fastoptim.kernels.fuse import NOTHING, Fused, around, signature, typed, typed_alone
from fastoptim.kernels.jit import compiled, jitable, name_apart
from fastoptim.kernels.launch import Pass
from fastoptim.kernels.measures import measured
from fastoptim.kernels.memory import WORD, array_at, word_at
from fastoptim.kernels.pieces import Pieces, row_prefetcher
from fastoptim.kernels.row_order import find_unique, sort_by_index
from fastoptim.kernels.rule import Rule, arguments, fingerprint
from fastoptim.kernels.storage import FLOAT64, Storage, storage_of
from fastoptim.kernels.table import END, GRAD, NO_SUMS, PARAM, SCALAR_ROW, PerArray, columns
from fastoptim.kernels.traffic import written_by

# Up to this many elements one thread works alone: it updates 5,000 in the time that entering a parallel region takes.
SERIAL_LIMIT = 20_480
SOURCES = fuse, traffic, memory, unroll, storage, halves, codes, encode, chunks, pieces, random, jit  # of a pass
LINE = 16  # elements of float32 in a cache line: threads get whole lines, so that no two of them write to one
AHEAD, MOST_AHEAD = 8, 512  # segments, and elements of one, that a processor is told of
TILE = 16_384  # elements of a tile of the public kernel


class CpuKernels:
    """One rule's loops for the CPU. Each is compiled, or loaded from numba's cache, when it is first needed."""

    def __init__(
        self,
        rule: Rule,
        slots: int,
        fused: Fused = NOTHING,
        owner: str = "a rule",
        per_array: PerArray = NO_SUMS,
        writes_state: bool = True,
    ) -> None:
        self._rule, self._slots, self._fused, self._owner, self._per_array = rule, slots, fused, owner, per_array
        self._names = signature(rule, slots, fused)
        bits = "".join(str(int(option)) for option in fused) + "r" * (not writes_state)
        sources = fingerprint(rule, *SOURCES)
        self._identity = rule.__name__, slots, bits, *map(len, per_array[:2]), f"{sources:x}"
        count = len(arguments(rule)) - 2 - slots
        # A copy of its own name: there may be other rules of this name, or this one as it was before an edit.
        rule = jitable(*self._identity)(
            FunctionType(rule.__code__, rule.__globals__, rule.__name__, None, rule.__closure__)
        )
        as_tuple = typed if writes_state else typed_alone
        written = written_by(self._rule, slots, fused, writes_state)
        self._written = written.changed
        self._element = written.alone(
            jitable(*self._identity)(around(rule, count, slots, fused, as_tuple, rescale=per_array.number_count - 1))
        )
        self.passes: dict[tuple[tuple[Storage, ...], bool], Pass] = {}

    def pass_for(self, storages: tuple[Storage, ...], is_scattered: bool = False) -> Pass:
        """The pass over a table's segments, for operands that lie in memory in these ways, the parameter first.

        Args:
            storages: of the operands.
            is_scattered: whether segments are short and far apart, so that the processor has to be told what comes
                next. The table has `AHEAD` rows behind the last one then, whatever is in them.
        """
        key = storages, is_scattered
        if key not in self.passes:
            self.passes[key] = self._pass(*key)
        return self.passes[key]

    def measuring(self, names: tuple[str, ...], per_array: PerArray) -> BlockKernels:
        """The passes that also sum over arrays what these statistics need."""
        slots, scalars = len(self._names.slots), len(self._names.scalars)
        numbers = per_array.number_count
        element = measured(self._element, names, slots + scalars - len(self._fused.scalars), self._fused)
        identity = *self._identity, *names
        return BlockKernels(
            jitable(*identity)(element), self._written, len(names), self._names.scalars[numbers:], per_array, identity,
            f"{self._fused.described(self._owner)}, with statistics", self._rule, self._fused,
        )  # fmt: skip

    def dispatchers_for(self, dtype: np.dtype[Any], operands: int) -> list[Any]:
        """What numba compiles for so many operands of a dtype: the pass, and the public kernels."""
        return [self.pass_for((storage_of(dtype),) * operands).dispatcher, self.kernel, self.kernel_serial]

    def _update_elements(self, storages: tuple[Storage, ...]) -> Callable[..., Any]:
        """`(arrays, sums, scalars, key, first)`: the update of all elements of the operands, see `Pieces.updater`."""
        load_all, element = unroll.load(tuple(each.load for each in storages)), self._element
        store_all, select = storing(storages, self._written, self._fused), unroll.select(self._written)
        has_zero_grads = self._fused.zero_grads

        # A function of its own, over arrays: written inline in a parallel loop it does not vectorise.
        @jitable(*self._identity, *_codes(storages))
        def update_elements(arrays: Any, sums: Any, scalars: Any, key: Any, first: Any) -> None:
            written = select(arrays)
            for i in range(arrays[PARAM].size):
                store_all(written, i, element(*load_all(arrays, i), *scalars), key, first)
                if has_zero_grads:
                    arrays[GRAD][i] = 0

        return update_elements

    def _pass(self, storages: tuple[Storage, ...], is_scattered: bool) -> Pass:
        row_bytes = columns(len(storages), self._per_array) * WORD
        count = len(self._names.scalars) - self._per_array.number_count
        end, scalar_row = row_bytes + END * WORD, row_bytes + SCALAR_ROW * WORD
        numbers_of = numbers_of_array(self._per_array, len(storages))
        in_pieces = Pieces(storages, self._written, self._fused, self._per_array, self._names.scalars)
        update_run, border = in_pieces.run(self._update_elements(storages)), in_pieces.border
        computed = storages[PARAM].computed
        like, itemsize = np.empty(0, computed), computed.itemsize
        in_own_dtype, ahead = unroll.cast(count), AHEAD * row_bytes
        prefetch_row = row_prefetcher(storages if is_scattered else ())

        def update_segments(table: Any, scalars: Any, start: Any, stop: Any) -> None:
            """Update the elements `start` to `stop`, counted through all segments."""
            row, begin = table, 0
            while start < stop:
                behind = word_at(row + end)
                if start < behind:
                    here, size = min(behind, stop), behind - begin
                    numbers = array_at(scalars + word_at(row + scalar_row) * count * itemsize, like, count)
                    of_the_step = numbers_of(row, like) + in_own_dtype(numbers, like)
                    prefetch_row(row + ahead, min(size, MOST_AHEAD))
                    update_run(row, border(start - begin, size), border(here - begin, size), of_the_step)
                    start = here
                begin = behind
                row += row_bytes

        what = self._fused.described(self._owner)
        identity = *self._identity, *_codes(storages), int(is_scattered)
        return Pass(update_segments, *identity, what=what, rule=self._rule)

    @cached_property
    def kernel(self) -> Any:
        """The public kernel on all threads, see its docstring."""
        check, update_tile = _checked, self._update_tile()
        slots, as_many = self._slots, self._as_many

        def kernel(p: Any, g: Any, state: Any, scalars: Any) -> None:
            check(p, g, state, scalars, slots, as_many)
            if p.size <= SERIAL_LIMIT:
                update_tile(p, g, state, scalars, 0, p.size)
            else:
                for tile in prange(-(-p.size // TILE)):
                    update_tile(p, g, state, scalars, tile * TILE, min(tile * TILE + TILE, p.size))

        return self._public(kernel, "all threads", parallel=True)

    @cached_property
    def kernel_serial(self) -> Any:
        """The same on the calling thread alone."""
        check, update_tile = _checked, self._update_tile()
        slots, as_many = self._slots, self._as_many

        def kernel_serial(p: Any, g: Any, state: Any, scalars: Any) -> None:
            check(p, g, state, scalars, slots, as_many)
            update_tile(p, g, state, scalars, 0, p.size)

        return self._public(kernel_serial, "the calling thread")

    @cached_property
    def kernel_rows(self) -> Any:
        """The same for some rows of a matrix, on the calling thread."""
        check, update_elements = _checked_rows, self._update_elements((FLOAT64,) * (2 + len(self._names.slots)))
        slots, as_many, in_own_dtype = self._slots, self._as_many, unroll.cast(len(self._names.scalars))
        slots_at = unroll.unrolled("slots", "state, row", (f"state[{i}, row]" for i in range(slots)), slots)

        def kernel_rows(p: Any, indices: Any, values: Any, state: Any, scalars: Any) -> None:
            check(p, indices, values, state, scalars, slots, as_many)
            own, (order, spare) = indices.astype(np.int64), np.empty((2, indices.size), np.int64)
            if not sort_by_index(own, len(p), order, spare):
                raise IndexError("indices: expected numbers in [0, rows of p)")
            starts, total = np.empty(own.size + 1, np.int64), np.empty(p.shape[1], p.dtype)
            numbers = in_own_dtype(scalars, p)
            for i in range(find_unique(own, order, starts)):
                first = order[starts[i]]
                row, gradient = own[first], values[first]
                if starts[i + 1] - starts[i] > 1:
                    total[:] = gradient
                    for place in range(starts[i] + 1, starts[i + 1]):
                        total += values[order[place]]
                    gradient = total
                update_elements((p[row], gradient) + slots_at(state, row), (), numbers, 0, 0)

        slots_named, scalars_named = ", ".join(self._names.slots) or "no slots", ", ".join(self._names.scalars)
        kernel_rows.__doc__ = f"""One step of `{self._identity[0]}` for some rows, in place, on the calling thread.

        Gradients of a row that occurs several times are summed in the order in which they appear.

        Args:
            p: parameter, `(n, d)`, contiguous, float32 or float64.
            indices: of rows, integers `(k,)`.
            values: their gradients, `(k, d)`, contiguous, of the same dtype.
            state: `(slots, n, d)`, contiguous, of the same dtype: {slots_named}.
            scalars: a tuple or 1-D array of floats, as `Optimizer.scalars(t)` gives them: {scalars_named}.

        Raises:
            IndexError: an index is not in `[0, n)`. Nothing has changed then.
        """
        name_apart(kernel_rows, *self._identity)
        return compiled(kernel_rows, f"{self._owner}'s kernel for rows")

    @property
    def _as_many(self) -> tuple[int, ...]:
        return (0,) * len(self._names.scalars)  # a tuple, as its length is known when a call of it is compiled

    def _update_tile(self) -> Callable[..., Any]:
        # The loads and stores are those of plain arrays: numba finds their dtype when the kernel is called.
        update_elements = self._update_elements((FLOAT64,) * (2 + len(self._names.slots)))
        rows, in_own_dtype = unroll.rows(self._slots), unroll.cast(len(self._names.scalars))

        @jitable(*self._identity)
        def update_tile(p: Any, g: Any, state: Any, scalars: Any, start: Any, stop: Any) -> None:
            arrays = (p[start:stop], g[start:stop]) + rows(state, start, stop)
            update_elements(arrays, (), in_own_dtype(scalars, p), 0, 0)

        return update_tile

    def _public(self, function: Any, where: str, **options: Any) -> Any:
        slots, scalars = ", ".join(self._names.slots) or "no slots", ", ".join(self._names.scalars)
        function.__doc__ = f"""One step of `{self._identity[0]}`, in place, on {where}.

        Args:
            p, g: parameter and gradient, 1-D, contiguous, of one dtype, float32 or float64.
            state: `(slots, n)`, contiguous, of the same dtype: {slots}.
            scalars: a tuple or 1-D array of floats, as `Optimizer.scalars(t)` gives them: {scalars}.
        """
        name_apart(function, *self._identity)
        return compiled(function, f"{self._owner}'s kernel for {where}", **options)


def _checked_rows(p: Any, indices: Any, values: Any, state: Any, scalars: Any, slots: Any, as_many: Any) -> None:
    """Refuse arguments that the kernel for rows would misread."""


@overload(_checked_rows, strict=False)
def _checked_rows_overload(
    p: Any, indices: Any, values: Any, state: Any, scalars: Any, slots: Any, as_many: Any
) -> Callable[..., Any]:
    expected = (p, 2), (values, 2), (state, 3)
    if any(not isinstance(x, types.Array) or x.ndim != ndim or x.layout != "C" for x, ndim in expected):
        raise TypeError(
            f"expected C-contiguous arrays p (n, d), values (k, d), state (slots, n, d); got {p}, {values}, {state}"
        )
    if not isinstance(indices, types.Array) or indices.ndim != 1 or not isinstance(indices.dtype, types.Integer):
        raise TypeError(f"expected indices to be integers (k,), got {indices}")
    if p.dtype not in (types.float32, types.float64) or not p.dtype == values.dtype == state.dtype:
        raise TypeError(f"expected p, values and state of one dtype, float32 or float64; got {p}, {values}, {state}")
    if not (p.mutable and state.mutable):
        raise TypeError(f"expected p and state to be writeable, got {p}, {state}")
    if isinstance(scalars, types.BaseTuple) and len(scalars) != len(as_many):
        raise ValueError(f"wrong number of scalars: expected {len(as_many)}, got {len(scalars)}")

    def check(p: Any, indices: Any, values: Any, state: Any, scalars: Any, slots: Any, as_many: Any) -> None:
        if len(scalars) != len(as_many):
            raise ValueError("wrong number of scalars: the kernel's docstring names them")
        if values.shape != (indices.size, p.shape[1]) or state.shape != (slots, p.shape[0], p.shape[1]):
            raise ValueError("sizes differ: expected p (n, d), indices (k,), values (k, d), state (slots, n, d)")

    return check


def _codes(storages: tuple[Storage, ...]) -> list[str]:
    return [each.name for each in storages]


def _checked(p: Any, g: Any, state: Any, scalars: Any, slots: Any, as_many: Any) -> None:
    """Refuse arguments that the public kernel would misread."""


@overload(_checked, strict=False)
def _checked_overload(p: Any, g: Any, state: Any, scalars: Any, slots: Any, as_many: Any) -> Callable[..., Any]:
    expected = (p, 1), (g, 1), (state, 2)
    if any(not isinstance(x, types.Array) or x.ndim != ndim or x.layout != "C" for x, ndim in expected):
        raise TypeError(f"expected C-contiguous arrays p (n,), g (n,), state (slots, n); got {p}, {g}, {state}")
    if not (p.mutable and state.mutable and p.aligned and g.aligned and state.aligned):
        raise TypeError(f"expected aligned arrays, p and state writeable; got {p}, {g}, {state}")
    if isinstance(scalars, types.BaseTuple) and len(scalars) != len(as_many):
        raise ValueError(f"wrong number of scalars: expected {len(as_many)}, got {len(scalars)}")
    if p.dtype not in (types.float32, types.float64):
        raise TypeError(f"expected arrays of float32 or float64, got {p.dtype}")
    if not p.dtype == g.dtype == state.dtype:
        raise TypeError(f"expected p, g and state of one dtype; got {p.dtype}, {g.dtype}, {state.dtype}")

    def check(p: Any, g: Any, state: Any, scalars: Any, slots: Any, as_many: Any) -> None:
        if len(scalars) != len(as_many):
            raise ValueError("wrong number of scalars: the kernel's docstring names them")
        if g.size != p.size or state.shape != (slots, p.size):
            raise ValueError("sizes differ: expected p (n,), g (n,), state (slots, n)")

    return check
