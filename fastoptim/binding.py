"""Binds arrays to the kernels: where each parameter, gradient and state lies, as the table that one call takes."""

import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastoptim.buffers import Array, FlatDict
from fastoptim.kernels import Kernels
from fastoptim.kernels.cpu import AVERAGE, COLUMNS, END, GRAD, PARAM, STATE
from fastoptim.kernels.headers import Known
from fastoptim.kernels.norm import Norm
from fastoptim.state import Place, State

CHUNK = 8192  # elements at a time where an array has to be brought into order first
ORDINARY = ((0, None),)  # the kinds where nobody is late and nobody in a group


class Arrangement(NamedTuple):
    """Where everything is that one update needs.

    Attributes:
        key: what tells names and order: the names, or the layout of a `FlatDict`.
        names: of the parameters that take part.
        params, grads: the arrays, or the buffers.
        places: where the state of each of them is in `state`.
        averages: the address of each one's average, or 0.
        sets: for each, the number of its kind.
        kinds: how many steps it was not part of, and the number of its group or None.
        inputs: of the norm, for each name: the index of its array, the bytes from there, and its elements.
        state, average: what the optimizer has afterwards.
        fresh: the parameters that are new to the average, which has to begin with them.
        kernels: with what they do beside the rule.
    """

    key: Any
    names: tuple[Any, ...]
    params: Sequence[Any]
    grads: Sequence[Any]
    places: Sequence[Place]
    averages: Sequence[int]
    sets: Sequence[int]
    kinds: tuple[tuple[int, int | None], ...]
    inputs: Sequence[tuple[int, int, int]]
    state: State
    average: FlatDict | None
    fresh: Mapping[Any, Any]
    kernels: Kernels


class Loops(Protocol):
    """One rule's kernels."""

    def compile(self, dtype: np.dtype[Any], size: int) -> None: ...
    def run(self, spans: Array, scalars: Array, size: int) -> None: ...


class Bank(NamedTuple):
    """All parameters of one dtype: one kernel call."""

    spans: Array
    scalars: Array
    size: int
    pack: Callable[..., None]


class Detour(NamedTuple):
    """A parameter that kernels cannot walk as it lies, or whose gradient is in another order or of another dtype."""

    param: Array
    grad: Array
    span: Array
    scalars: Array
    zeroing: bool

    def run(self, loops: Loops) -> None:
        """Update chunk by chunk, through the buffers of `np.nditer`."""
        span = self.span.copy()
        # what overflows in a conversion is inf in a kernel, too, and not an error half-way through an update
        with np.errstate(all="ignore"), np.nditer(  # type: ignore[call-overload]  # NumPy's stub misspells "contig"
            [self.param, self.grad],
            flags=["external_loop", "buffered", "zerosize_ok"],
            op_flags=[
                ["readwrite", "contig", "aligned"],
                ["readwrite" if self.zeroing else "readonly", "contig", "aligned"],
            ],
            op_dtypes=[self.scalars.dtype] * 2,
            casting="same_kind",
            order="C",
            buffersize=CHUNK,
        ) as chunks:  # fmt: skip
            for param, grad in chunks:
                span[0, PARAM], span[0, GRAD], span[0, END] = param.ctypes.data, grad.ctypes.data, param.size
                loops.run(span, self.scalars, param.size)
                span[0, STATE] += param.nbytes
                span[0, AVERAGE] += param.nbytes


class Binding:
    """Arrays that have passed every check, and what the kernels need to know of them."""

    on_host = True
    clock = None  # as the binding of a capturable optimizer on a GPU has

    def __init__(self, arranged: Arrangement) -> None:
        self.arranged, self.key, self.kinds = arranged, arranged.key, arranged.kinds
        self._loops, zeroing = arranged.kernels.loops, arranged.kernels.extras.zero
        self._banks: list[Bank] = []
        self._detours: list[Detour] = []
        scalar_count, places = arranged.kernels.scalar_count, arranged.places
        count = len(places)
        # behind the rows of the parameters there is one for each copy of a gradient that the norm needs
        self._copies = [i for i, _, _ in arranged.inputs if not _is_dense(arranged.grads[i], places[i].dtype)]
        self._table = np.zeros((count + len(self._copies), COLUMNS), np.int64)
        rows = [0] * count
        order = sorted(range(count), key=lambda i: places[i].dtype.itemsize)
        row = 0
        for dtype, indices in groupby(order, key=lambda i: places[i].dtype):
            numbers = np.zeros((len(arranged.kinds), scalar_count), dtype)
            first, size = row, 0
            for i in indices:
                place = places[i]
                param, grad = arranged.params[i].transpose(place.axes), arranged.grads[i].transpose(place.axes)
                state, slot_bytes = arranged.state.address(place)
                behind = state, slot_bytes, arranged.averages[i], arranged.sets[i]
                if _is_dense(param, dtype) and _is_dense(grad, dtype):
                    size += param.size
                    self._table[row] = param.ctypes.data, grad.ctypes.data, *behind, size
                else:
                    span = np.array([[0, 0, *behind, 0]], np.int64)
                    self._detours.append(Detour(param, grad, span, numbers, zeroing))
                    self._table[row, GRAD], self._table[row, END] = arranged.grads[i].ctypes.data, size  # for the norm
                rows[i] = row
                row += 1
            pack = struct.Struct(f"{numbers.size}{dtype.char}").pack_into
            self._banks.append(Bank(self._table[first:row], numbers, size, pack))
        gradients = self._table[:, GRAD]
        column = gradients.ctypes.data, gradients.strides[0]
        self._accept = Known(tuple(arranged.params), rows, column, zeroing).accept
        self.arranged = arranged._replace(grads=())  # which are not ours to keep
        where = {i: count + j for j, i in enumerate(self._copies)}
        self._norm = Norm(
            self._table, [(where.get(i, rows[i]), byte, size, places[i].dtype) for i, byte, size in arranged.inputs]
        )

    @property
    def is_direct(self) -> bool:
        """Whether the kernels walk all arrays as they lie: then `accepts` may find others like them."""
        return not self._detours

    def accepts(self, key: Any, params: tuple[Any, ...], grads: tuple[Any, ...]) -> bool:
        """Whether the parameters are the same and the gradients like those before; if so, take the new gradients."""
        return self.key == key and self._accept(params, grads)

    def compile(self) -> None:
        """Have the kernels ready, so that nothing can fail once the first parameter is written."""
        for bank in self._banks:
            self._loops.compile(bank.scalars.dtype, bank.size)
        for detour in self._detours:
            self._loops.compile(detour.scalars.dtype, CHUNK)
        self._norm.compile()

    def set_scalars(self, scalars: Sequence[float]) -> None:
        """Take a step's numbers, those of each kind behind those of the one before, rounded to each dtype.

        Raises:
            struct.error: if there are too few or many, or one is no number.
        """
        for bank in self._banks:
            bank.pack(bank.scalars, 0, *scalars)

    def measure(self, grads: Sequence[Any], limit: float | None, divisor: float, stream: Any = None) -> float:
        """The norm of all gradients together, divided by `divisor`."""
        copies = []  # kept until they have been read
        for row, i in enumerate(self._copies, len(self.arranged.places)):
            with np.errstate(all="ignore"):  # as in `Detour.run`
                copies.append(np.ascontiguousarray(grads[i], self.arranged.places[i].dtype))
            self._table[row, GRAD] = copies[-1].ctypes.data
        return self._norm.measure() / divisor

    def clear(self, grads: Sequence[Array], stream: Any = None) -> None:
        """Set gradients to zero."""
        for grad in grads:
            grad[...] = 0

    def check_stream(self, stream: Any) -> None:
        """Refuse a stream.

        Raises:
            ValueError
        """
        raise ValueError(f"stream: expected None, as these arrays are on the CPU; got {stream!r}")

    def run(self, stream: Any = None) -> None:
        """Update all parameters and state in place."""
        for spans, numbers, size, _ in self._banks:
            self._loops.run(spans, numbers, size)
        for detour in self._detours:
            detour.run(self._loops)


def _is_dense(array: Array, dtype: np.dtype[Any]) -> bool:
    return array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned
