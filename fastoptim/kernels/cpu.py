"""The loops for `numba.njit`, written once for all rules.

A kernel call works on **spans**: an int64 table with one row for each run of contiguous elements, in the columns below.
Because the spans hold addresses, one call updates any number of separately allocated arrays. Threads divide the
*elements* of all spans evenly, so that one large array among many small ones keeps every thread busy.
"""

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from types import FunctionType
from typing import Any

import numba
import numpy as np
from numba import prange, types
from numba.extending import overload

from fastoptim.kernels import jit, memory, unroll
from fastoptim.kernels.jit import compiled, jitable, name_apart
from fastoptim.kernels.memory import array_at, rows_at
from fastoptim.kernels.rule import Rule, arguments, fingerprint
from fastoptim.kernels.unroll import cast, load, store

Array = np.ndarray[Any, Any]

# Columns of a spans table: addresses of the first parameter, gradient and state element, the bytes from one slot of the
# state to the next, and the number of elements in this row and all rows before it.
PARAM, GRAD, STATE, SLOT_BYTES, END = range(5)
COLUMNS = 5

# Up to this many elements one thread works alone: it updates 5,000 in the time that entering a parallel region takes.
SERIAL_LIMIT = 16_384
# After a matrix product the threads of BLAS spin on, and a parallel region that waits for one of their cores takes some
# milliseconds. Up to so many elements nothing else takes so long; then one thread makes the next updates, which cannot
# change a bit, and after each further such wait twice as many.
CONTENDED_LIMIT, WAIT = 262_144, 0.001  # elements, seconds
PATIENCE = 64, 4096  # updates, at first and at most
LINE = 16  # elements of float32 in a cache line: shares are whole lines, so that no two threads write to one
TILE = 16_384  # elements of a tile of the public kernel

_forked = False
_launch_lock = threading.Lock()
_alone, _patience = 0, PATIENCE[0]  # updates that one thread makes yet, and those after the next wait


def _after_fork_in_child() -> None:
    # GNU OpenMP kills a forked child that enters a parallel region once its parent has, and numba's workqueue has lost
    # its threads there. One thread gives the same bits.
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_after_fork_in_child)


def _launch() -> AbstractContextManager[Any]:
    """Held while a parallel region runs where two of them at once would abort the process.

    Numba chooses its threading layer at the first launch; until then nobody knows whether it is a safe one.
    """
    try:
        return _launch_lock if numba.threading_layer() == "workqueue" else nullcontext()
    except ValueError:  # no launch yet
        return _launch_lock


def typed(updated: Any, element: Any, state: Any) -> Any:
    """What a rule returned, as a tuple. Anything but p and the state in the element's own type is refused."""


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

    def __init__(self, rule: Rule, slots: int) -> None:
        self._spans_serial, self._spans_parallel, self.kernel_serial, self.kernel = _build(rule, slots)

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
        """Update the `size` elements of `spans` (int64, `(rows, COLUMNS)`), of the dtype of `scalars`, in place."""
        if size <= SERIAL_LIMIT or (workers := _workers(size)) == 1:
            self._spans_serial(spans, scalars)
        else:
            start = perf_counter()
            with _launch():
                self._spans_parallel(spans, scalars, workers)
            if size <= CONTENDED_LIMIT:
                _learn(perf_counter() - start)


def _build(rule: Rule, slots: int) -> tuple[Any, Any, Any, Any]:
    slot_names, scalar_names = arguments(rule)[2 : 2 + slots], arguments(rule)[2 + slots :]
    numbers, rows_from = cast(len(scalar_names)), rows_at(slots)
    as_many = (0,) * len(scalar_names)  # a tuple, as its length is known when a call of it is compiled
    load_state, store_all = load(slots), store(1 + slots)
    identity = rule.__name__, slots, f"{fingerprint(rule, memory, unroll, jit):x}"
    # A copy of its own name: there may be other rules of this name, or this one as it was before an edit.
    rule = jitable(*identity)(FunctionType(rule.__code__, rule.__globals__, rule.__name__, None, rule.__closure__))

    # A function of its own, over arrays: written inline in a parallel loop it does not vectorise.
    @jitable(*identity)
    def update_elements(p: Any, g: Any, state: Any, scalars: Any) -> None:
        for i in range(p.size):
            updated = rule(p[i], g[i], *load_state(state, i), *scalars)
            store_all((p, *state), i, typed(updated, p[i], state))

    @jitable(*identity)
    def update_spans(spans: Any, like: Any, scalars: Any, start: Any, stop: Any) -> None:
        """Update the elements `start` to `stop`, counted through all spans."""
        row = 0
        while start < stop:
            begin = spans[row - 1, END] if row > 0 else 0
            end = min(spans[row, END], stop)
            if start < end:
                byte, size = (start - begin) * like.itemsize, end - start
                update_elements(
                    array_at(spans[row, PARAM] + byte, like, size),
                    array_at(spans[row, GRAD] + byte, like, size),
                    rows_from(spans[row, STATE] + byte, spans[row, SLOT_BYTES], like, size),
                    scalars,
                )
                start = end
            row += 1

    # Four functions, because numba's cache tells functions apart, not the options they are compiled with.
    def spans_serial(spans: Any, scalars: Any) -> None:
        update_spans(spans, scalars, numbers(scalars, scalars), 0, spans[-1, END])

    def spans_parallel(spans: Any, scalars: Any, workers: Any) -> None:
        picked, total = numbers(scalars, scalars), spans[-1, END]
        share = (total // workers // LINE + 1) * LINE
        for worker in prange(workers):
            start = worker * share
            update_spans(spans, scalars, picked, start, min(start + share, total))

    def kernel_serial(p: Any, g: Any, state: Any, scalars: Any) -> None:
        update_spans(_one_span(p, g, state, scalars, slots, as_many), p, numbers(scalars, p), 0, p.size)

    def kernel(p: Any, g: Any, state: Any, scalars: Any) -> None:
        spans, picked = _one_span(p, g, state, scalars, slots, as_many), numbers(scalars, p)
        if p.size <= SERIAL_LIMIT:
            update_spans(spans, p, picked, 0, p.size)
        else:
            for tile in prange(-(-p.size // TILE)):
                update_spans(spans, p, picked, tile * TILE, min((tile + 1) * TILE, p.size))

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
    return numba.typeof(np.empty((0, COLUMNS), np.int64)), numba.typeof(np.empty(0, dtype))


def _workers(size: int) -> int:
    """How many threads update `size` elements."""
    global _alone
    if size <= SERIAL_LIMIT or _forked:
        return 1
    if _alone > 0 and size <= CONTENDED_LIMIT:
        _alone -= 1
        return 1
    return int(numba.get_num_threads())


def _learn(seconds: float) -> None:
    """Take into account how long a parallel region took in which there was little to do."""
    global _alone, _patience
    if seconds > WAIT:
        _alone, _patience = _patience, min(2 * _patience, PATIENCE[1])
    else:
        _patience = PATIENCE[0]
