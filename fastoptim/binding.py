"""Binds arrays to the kernels: where each parameter, gradient and state lies, as the table that one call takes."""

import struct
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastoptim.buffers import Array
from fastoptim.kernels import Kernels
from fastoptim.kernels.cpu import COLUMNS, END, GRAD, PARAM, STATE
from fastoptim.kernels.headers import Known
from fastoptim.state import Place, State

CHUNK = 8192  # elements at a time where an array has to be brought into order first


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

    def run(self, loops: Loops) -> None:
        """Update chunk by chunk, through the buffers of `np.nditer`."""
        span = self.span.copy()
        # what overflows in a conversion is inf in a kernel, too, and not an error half-way through an update
        with np.errstate(all="ignore"), np.nditer(  # type: ignore[call-overload]  # NumPy's stub misspells "contig"
            [self.param, self.grad],
            flags=["external_loop", "buffered", "zerosize_ok"],
            op_flags=[["readwrite", "contig", "aligned"], ["readonly", "contig", "aligned"]],
            op_dtypes=[self.scalars.dtype] * 2,
            casting="same_kind",
            order="C",
            buffersize=CHUNK,
        ) as chunks:  # fmt: skip
            for param, grad in chunks:
                span[0, PARAM], span[0, GRAD], span[0, END] = param.ctypes.data, grad.ctypes.data, param.size
                loops.run(span, self.scalars, param.size)
                span[0, STATE] += param.nbytes


class Binding:
    """Arrays that have passed every check, and what the kernels need to know of them.

    Args:
        key: what tells their names and order: the names, or the layout of a `FlatDict`.
        params, grads: the arrays.
        places: where the state of each of them is in `state`.
        kernels: the optimizer's.
    """

    def __init__(
        self,
        key: Any,
        params: Sequence[Array],
        grads: Sequence[Array],
        places: Sequence[Place],
        state: State,
        kernels: Kernels,
    ) -> None:
        self.key, self.state, self._loops = key, state, kernels.loops
        self._banks: list[Bank] = []
        self._detours: list[Detour] = []
        self._table = np.zeros((len(params), COLUMNS), np.int64)
        rows = [0] * len(params)
        order = sorted(range(len(params)), key=lambda i: places[i].dtype.itemsize)
        row = 0
        for dtype, indices in groupby(order, key=lambda i: places[i].dtype):
            numbers = np.zeros(kernels.scalar_count, dtype)
            first, size = row, 0
            for i in indices:
                place = places[i]
                param, grad = params[i].transpose(place.axes), grads[i].transpose(place.axes)
                address, slot_bytes = state.address(place)
                if _is_dense(param, dtype) and _is_dense(grad, dtype):
                    size += param.size
                    addresses = param.ctypes.data, grad.ctypes.data, address
                    self._table[row] = *addresses, slot_bytes, size
                else:
                    span = np.array([[0, 0, address, slot_bytes, 0]], np.int64)
                    self._detours.append(Detour(param, grad, span, numbers))
                    self._table[row, END] = size
                rows[i] = row
                row += 1
            pack = struct.Struct(f"{kernels.scalar_count}{dtype.char}").pack_into
            self._banks.append(Bank(self._table[first:row], numbers, size, pack))
        gradients = self._table[:, GRAD]
        self._accept = Known(tuple(params), rows, (gradients.ctypes.data, gradients.strides[0])).accept

    clock = None  # as the binding of a capturable optimizer on a GPU has

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

    def set_scalars(self, scalars: Sequence[float]) -> None:
        """Take a step's numbers, rounded to each dtype.

        Raises:
            struct.error: if there are too few or many, or one is no number.
        """
        for bank in self._banks:
            bank.pack(bank.scalars, 0, *scalars)

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
