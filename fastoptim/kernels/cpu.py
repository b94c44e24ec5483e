"""The loops for `numba.njit`, written once for all rules.

A kernel call works on **spans**: an int64 table with one row for each run of contiguous elements, in the columns below.
Because the spans hold addresses, one call updates any number of separately allocated arrays. Threads divide the
*elements* of all spans evenly, so that one large array among many small ones keeps every thread busy.
"""

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numba
import numpy as np
from numba import prange, types
from numba.extending import overload

from fastoptim.kernels import extras as extras_module
from fastoptim.kernels import jit, memory, threads, unroll
from fastoptim.kernels.extras import NOTHING, Extras, around, signature
from fastoptim.kernels.jit import compiled, jitable, name_apart
from fastoptim.kernels.memory import array_at, rows_at
from fastoptim.kernels.rule import Rule, arguments, fingerprint
from fastoptim.kernels.unroll import cast, load, store

Array = np.ndarray[Any, Any]

# Columns of a spans table: addresses of the first parameter, gradient and state element, the bytes from one slot of the
# state to the next, the address of the first averaged element, the row of scalars that holds here, and the number of
# elements in this row and all rows before it.
PARAM, GRAD, STATE, SLOT_BYTES, AVERAGE, SET, END = range(7)
COLUMNS = 7

# Up to this many elements one thread works alone: it updates 5,000 in the time that entering a parallel region takes.
SERIAL_LIMIT = 16_384
LINE = 16  # elements of float32 in a cache line: shares are whole lines, so that no two threads write to one
TILE = 16_384  # elements of a tile of the public kernel


def typed(updated: Any, element: Any, state: Any) -> Any:
    """What a rule returned, as a tuple. Anything but p and the state in the element's own type is refused."""
    new = updated if isinstance(updated, tuple) else (updated,)  # in numba's simulator, where this runs as it is
    if len(new) != 1 + len(state) or any(type(x) is not type(element) for x in new):
        raise TypeError(f"the rule returned {updated} for elements of {type(element)}")
    return new


@overload(typed, strict=False)
def _typed_overload(updated: Any, element: Any, state: Any) -> Callable[..., Any]:
    expected = types.UniTuple(element, 1 + len(state))
    if updated == expected:
        return lambda updated, element, state: updated
    if updated == element and not len(state):
        return lambda updated, element, state: (updated,)
    raise TypeError(
        f"the rule returned {updated} for elements of {element}; expected {expected.count} x {element}, p and the new "
        "state. A literal or a power promotes float32: write x * x for x**2, take 1 - beta or 0.5 as scalars"
    )


def _one_span(p: Any, g: Any, state: Any, scalars: Any, slots: Any, as_many: Any) -> Any:
    """The spans table of a call of the public kernel, checked."""


@overload(_one_span, strict=False)
def _one_span_overload(p: Any, g: Any, state: Any, scalars: Any, slots: Any, as_many: Any) -> Callable[..., Any]:
    expected = (p, 1), (g, 1), (state, 2)
    if any(not isinstance(x, types.Array) or x.ndim != ndim or x.layout != "C" for x, ndim in expected):
        raise TypeError(f"expected C-contiguous arrays p (n,), g (n,), state (slots, n); got {p}, {g}, {state}")
    if not (p.mutable and state.mutable and p.aligned and g.aligned and state.aligned):
        raise TypeError(f"expected aligned arrays, p and state writeable; got {p}, {g}, {state}")
    if isinstance(scalars, types.BaseTuple) and len(scalars) != len(as_many):
        raise ValueError(f"wrong number of scalars: expected {len(as_many)}, got {len(scalars)}")
    if not p.dtype == g.dtype == state.dtype:
        raise TypeError(f"expected p, g and state of one dtype; got {p.dtype}, {g.dtype}, {state.dtype}")

    def one_span(p: Any, g: Any, state: Any, scalars: Any, slots: Any, as_many: Any) -> Any:
        if len(scalars) != len(as_many):
            raise ValueError("wrong number of scalars: the kernel's docstring names them")
        if g.size != p.size or state.shape != (slots, p.size):
            raise ValueError("sizes differ: expected p (n,), g (n,), state (slots, n)")
        spans = np.empty((1, COLUMNS), np.int64)
        spans[0, PARAM], spans[0, GRAD], spans[0, STATE] = p.ctypes.data, g.ctypes.data, state.ctypes.data
        spans[0, SLOT_BYTES], spans[0, END] = p.size * p.itemsize, p.size
        return spans

    return one_span


class CpuKernels:
    """One rule's kernels for the CPU. Each is compiled, or loaded from numba's cache, when it is first needed.

    Attributes:
        kernel: the public one, see its docstring.
        kernel_serial: the same on the calling thread alone.
    """

    def __init__(self, rule: Rule, slots: int, extras: Extras = NOTHING) -> None:
        self._spans_serial, self._spans_parallel, self.kernel_serial, self.kernel = _build(rule, slots, extras)

    def compile(self, dtype: np.dtype[Any], size: int) -> None:
        """Have everything at hand that `run` needs for `size` elements of `dtype`, so that it cannot fail.

        Raises:
            numba.core.errors.TypingError: if the rule cannot be compiled or does not keep the dtype.
        """
        if size <= SERIAL_LIMIT:
            self._spans_serial.compile(_signature(dtype))
        else:  # and if they are updated on one thread all the same, a rule that compiled once compiles twice
            self._spans_parallel.compile((*_signature(dtype), numba.intp))

    def run(self, spans: Array, scalars: Array, size: int) -> None:
        """Update the `size` elements of `spans` (int64, `(rows, COLUMNS)`) in place.

        `scalars` has the elements' dtype and a row for each set of them that a span may name.
        """
        if size <= SERIAL_LIMIT:  # then every microsecond counts
            self._spans_serial(spans, scalars)
        else:
            threads.run(self._spans_serial, self._spans_parallel, size, SERIAL_LIMIT, spans, scalars)


def _build(rule: Rule, slots: int, extras: Extras) -> tuple[Any, Any, Any, Any]:
    slot_names, scalar_names = signature(rule, slots, extras)
    numbers, rows_from = cast(len(scalar_names)), rows_at(slots)
    as_many = (0,) * len(scalar_names)  # a tuple, as its length is known when a call of it is compiled
    load_state, store_all = load(len(slot_names)), store(1 + len(slot_names))
    averages_from, has_zero = rows_at(int(extras.average)), extras.zero
    bits = "".join(str(int(there)) for there in extras)
    identity = rule.__name__, slots, bits, f"{fingerprint(rule, extras_module, memory, unroll, jit):x}"
    count = len(arguments(rule)) - 2 - slots
    # A copy of its own name: there may be other rules of this name, or this one as it was before an edit.
    rule = jitable(*identity)(FunctionType(rule.__code__, rule.__globals__, rule.__name__, None, rule.__closure__))
    element = jitable(*identity)(around(rule, count, slots, extras, typed))

    # A function of its own, over arrays: written inline in a parallel loop it does not vectorise.
    @jitable(*identity)
    def update_elements(p: Any, g: Any, state: Any, scalars: Any) -> None:
        for i in range(p.size):
            store_all((p, *state), i, element(p[i], g[i], *load_state(state, i), *scalars))
            if has_zero:
                g[i] = 0

    @jitable(*identity)
    def update_run(spans: Any, row: Any, byte: Any, size: Any, like: Any, scalars: Any) -> None:
        """Update `size` elements of a span, from that at `byte` on."""
        state = rows_from(spans[row, STATE] + byte, spans[row, SLOT_BYTES], like, size)
        update_elements(
            array_at(spans[row, PARAM] + byte, like, size),
            array_at(spans[row, GRAD] + byte, like, size),
            state + averages_from(spans[row, AVERAGE] + byte, 0, like, size),
            scalars,
        )

    @jitable(*identity)
    def update_spans(spans: Any, scalars: Any, start: Any, stop: Any) -> None:
        """Update the elements `start` to `stop`, counted through all spans."""
        row = 0
        while start < stop:
            begin = spans[row - 1, END] if row > 0 else 0
            end = min(spans[row, END], stop)
            if start < end:
                byte = (start - begin) * scalars.itemsize
                update_run(spans, row, byte, end - start, scalars, numbers(scalars[spans[row, SET]], scalars))
                start = end
            row += 1

    # Four functions, because numba's cache tells functions apart, not the options they are compiled with.
    def spans_serial(spans: Any, scalars: Any) -> None:
        update_spans(spans, scalars, 0, spans[-1, END])

    def spans_parallel(spans: Any, scalars: Any, workers: Any) -> None:
        total = spans[-1, END]
        share = (total // workers // LINE + 1) * LINE
        for worker in prange(workers):
            start = worker * share
            update_spans(spans, scalars, start, min(start + share, total))

    def kernel_serial(p: Any, g: Any, state: Any, scalars: Any) -> None:
        spans = _one_span(p, g, state, scalars, slots, as_many)
        update_run(spans, 0, 0, p.size, p, numbers(scalars, p))

    def kernel(p: Any, g: Any, state: Any, scalars: Any) -> None:
        spans, picked = _one_span(p, g, state, scalars, slots, as_many), numbers(scalars, p)
        if p.size <= SERIAL_LIMIT:
            update_run(spans, 0, 0, p.size, p, picked)
        else:
            for tile in prange(-(-p.size // TILE)):
                start = tile * TILE
                update_run(spans, 0, start * p.itemsize, min(TILE, p.size - start), p, picked)

    for function, where in (kernel, "all threads"), (kernel_serial, "the calling thread"):
        function.__doc__ = f"""One step of `{identity[0]}`, in place, on {where}.

        Args:
            p, g: parameter and gradient, 1-D, contiguous, of one dtype, float32 or float64.
            state: `(slots, n)`, contiguous, of the same dtype: {", ".join(slot_names) or "no slots"}.
            scalars: a tuple or 1-D array of floats, as `Optimizer.scalars(t)` gives them: {", ".join(scalar_names)}.
        """
    for each in spans_serial, spans_parallel, kernel_serial, kernel:
        name_apart(each, *identity)
    return (
        compiled(spans_serial),
        compiled(spans_parallel, parallel=True),
        compiled(kernel_serial),
        compiled(kernel, parallel=True),
    )


def _signature(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    return numba.typeof(np.empty((0, COLUMNS), np.int64)), numba.typeof(np.empty((0, 0), dtype))
