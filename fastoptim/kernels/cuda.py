"""The loops for CUDA, written once for all rules, and how a GPU is made to run them.

A kernel call works on the same spans as the CPU's. Blocks of threads take tiles of elements, counted through all spans,
so that one large array among many small ones keeps the whole GPU busy.
"""

import math
from collections.abc import Callable
from functools import cached_property
from types import FunctionType
from typing import Any

import numpy as np
from numba import types
from numba.extending import register_jitable

from fastoptim.kernels import cuda_code
from fastoptim.kernels.cpu import COLUMNS, END, PARAM, Array, typed
from fastoptim.kernels.cuda_code import Report, compile_kernel
from fastoptim.kernels.cuda_launch import (
    INTERFACE,
    DeviceScalars,
    Launch,
    Loaded,
    described,
    device_of,
    stream_address,
)  # fmt: skip
from fastoptim.kernels.cuda_memory import INT64, SIMULATED, VECTOR, cuda, elements, numbers_at
from fastoptim.kernels.extras import NOTHING, Extras, around, signature
from fastoptim.kernels.rule import Rule, arguments

__all__ = ["CudaKernels", "inspect"]

ROW = COLUMNS * 8  # bytes of a row of a spans table
WORDS = COLUMNS + 4  # integers that a kernel takes before the scalars


def _build(
    rule: Rule, slots: int, extras: Extras, dtype: np.dtype[Any], many: bool, on_device: bool
) -> tuple[Callable[..., None], tuple[Any, ...]]:
    """The kernel as a Python function, and the numba types of its arguments.

    `many` says whether it takes a table of spans: without the loop over rows a kernel needs fewer registers. And
    `on_device`, whether it reads the step's scalars from the device's memory.
    """
    has_average = extras.average
    scalar_count = len(signature(rule, slots, extras).scalars) - extras.norm  # the last one is always on the device
    width, shift = VECTOR // dtype.itemsize, dtype.itemsize.bit_length() - 1
    vector_shift = width.bit_length() - 1
    updated_one, updated_vector = _updated(rule, slots, extras, 1), _updated(rule, slots, extras, width)
    load_one, store_one = elements(slots, dtype, 1, extras)
    load_vector, store_vector = elements(slots, dtype, width, extras)
    word, columns, scalars_at = numbers_at(INT64, 1), numbers_at(INT64, COLUMNS), numbers_at(dtype, scalar_count)
    coefficients_at = numbers_at(dtype, int(extras.norm))

    @register_jitable
    def update_run(param: Any, grad: Any, state: Any, slot_bytes: Any, average: Any, size: Any, scalars: Any) -> None:
        """A block updates contiguous elements: vectors where all arrays are aligned to them, the others one by one."""
        apart = param ^ grad
        if slots > 0:
            apart |= param ^ state
        if slots > 1:
            apart |= slot_bytes
        if has_average:
            apart |= param ^ average
        head = size if apart & (VECTOR - 1) else min(size, (-param & (VECTOR - 1)) >> shift)
        vectors = (size - head) >> vector_shift
        byte = (head << shift) + cuda.threadIdx.x * VECTOR
        behind = (head << shift) + vectors * VECTOR
        while byte < behind:
            p, g, s, a = param + byte, grad + byte, state + byte, average + byte
            store_vector(p, g, s, slot_bytes, a, updated_vector(load_vector(p, g, s, slot_bytes, a), scalars))
            byte += cuda.blockDim.x * VECTOR
        i = cuda.threadIdx.x
        while i < size - (vectors << vector_shift):
            byte = (i if i < head else i + (vectors << vector_shift)) << shift
            p, g, s, a = param + byte, grad + byte, state + byte, average + byte
            store_one(p, g, s, slot_bytes, a, updated_one(load_one(p, g, s, slot_bytes, a), scalars))
            i += cuda.blockDim.x

    @register_jitable
    def row_of(table: Any, rows: Any, element: Any) -> Any:
        """The first row that ends behind an element."""
        low, high = 0, rows - 1
        while low < high:
            middle = (low + high) >> 1
            if word(table + middle * ROW + END * 8)[0] > element:
                high = middle
            else:
                low = middle + 1
        return low

    @register_jitable
    def numbers(scalars: Any, chosen: Any, coefficient: Any) -> Any:
        """The scalars of a span."""
        own = scalars_at(scalars + ((chosen * scalar_count) << shift)) if on_device else scalars
        return own + coefficients_at(coefficient)

    @register_jitable
    def update(
        param: Any, grad: Any, state: Any, slot_bytes: Any, average: Any, chosen: Any, end: Any,
        table: Any, rows: Any, tile: Any, coefficient: Any, scalars: Any,
    ) -> None:  # fmt: skip
        size, begin = end, 0
        start = cuda.blockIdx.x * tile
        own = numbers(scalars, chosen, coefficient)
        while start < size:
            stop = min(start + tile, size)
            row = row_of(table, rows, start) if many else 0
            while start < stop:
                if many:
                    begin = word(table + (row - 1) * ROW + END * 8)[0] if row > 0 else 0
                    param, grad, state, slot_bytes, average, chosen, end = columns(table + row * ROW)
                    row += 1
                until = min(end, stop)
                if start < until:
                    if many and on_device:
                        own = numbers(scalars, chosen, coefficient)
                    byte = (start - begin) << shift
                    update_run(param + byte, grad + byte, state + byte, slot_bytes, average + byte, until - start, own)
                    start = until
            start += (cuda.gridDim.x - 1) * tile

    def kernel(
        param: Any, grad: Any, state: Any, slot_bytes: Any, average: Any, chosen: Any, size: Any,
        table: Any, rows: Any, tile: Any, coefficient: Any, scalars: Any,
    ) -> None:  # fmt: skip
        update(
            param, grad, state, slot_bytes, average, chosen, size, table, rows, tile, coefficient, scalars
        )  # fmt: skip

    def kernel_scalars_on_device(
        param: Any, grad: Any, state: Any, slot_bytes: Any, average: Any, chosen: Any, size: Any,
        table: Any, rows: Any, tile: Any, coefficient: Any, scalars: Any, steps: Any, step: Any,
    ) -> None:  # fmt: skip
        at = min(word(step)[0], steps - 1) if steps > 1 else 0
        address = scalars + ((at * scalar_count) << shift)
        update(
            param, grad, state, slot_bytes, average, chosen, size, table, rows, tile, coefficient, address
        )  # fmt: skip

    function = kernel_scalars_on_device if on_device else kernel
    function.__qualname__ = f"{rule.__name__}_{dtype.name}"  # what profilers show
    given = (types.int64,) * 3 if on_device else (types.UniTuple(getattr(types, dtype.name), scalar_count),)
    return function, (types.int64,) * WORDS + given


def _updated(rule: Rule, slots: int, extras: Extras, count: int) -> Callable[..., Any]:
    """`(lanes, scalars) -> ` what the pass makes of each of `count` lanes, each p, g and the state of one element."""
    scalar_count = len(arguments(rule)) - 2 - slots
    if SIMULATED:
        element = around(_simulated(rule), scalar_count, slots, extras, typed)
        return lambda lanes, scalars: [element(*lane, *scalars) for lane in lanes]
    return _unrolled(register_jitable(around(rule, scalar_count, slots, extras, typed)), count)


def _unrolled(element: Rule, count: int) -> Callable[..., Any]:
    if count == 0:
        return register_jitable(lambda lanes, scalars: ())
    before, last = _unrolled(element, count - 1), count - 1

    @register_jitable
    def every(lanes: Any, scalars: Any) -> Any:
        return before(lanes, scalars) + (element(*lanes[last], *scalars),)

    return every


def _simulated(rule: Rule) -> Rule:
    """The rule with NumPy's functions for those of `math`, which would make a Python float of float32."""
    own = {
        name: np if value is math else getattr(np, name) if value is getattr(math, name, math) else value
        for name, value in rule.__globals__.items()
    }
    return FunctionType(rule.__code__, own, rule.__name__, rule.__defaults__, rule.__closure__)


class CudaKernels:
    """One rule's kernels for CUDA. Each is compiled when it is first needed, in about two seconds."""

    def __init__(self, rule: Rule, slots: int, extras: Extras = NOTHING) -> None:
        self._rule, self._slots, self._extras = rule, slots, extras
        self._loaded: dict[tuple[Any, ...], Loaded] = {}

    def prepare(
        self,
        spans: Array,
        scalars: Array | DeviceScalars,
        table: int = 0,
        device: int | None = None,
        grid: tuple[int, int] | None = None,
        coefficient: int = 0,
    ) -> Launch:
        """Compile if need be, so that the launch cannot fail for the rule's sake, and make it ready.

        Args:
            spans: int64, `(rows, COLUMNS)`, C-contiguous, in the host's memory; the addresses are the device's, each
                a multiple of the dtype's size.
            scalars: 1-D, in the host's memory, of the parameters' dtype; or those in the device's.
            table: address of a copy of `spans` in the device's memory; not needed for a single row.
            device: which one; without it, the one that the first parameter is on.
            grid: blocks, and threads in each.
            coefficient: address of a number in the device's memory that gradients are multiplied by, see `Extras.norm`.

        Raises:
            numba.core.errors.TypingError: if the rule cannot be compiled or does not keep the dtype.
            RuntimeError: if there is no GPU, or the driver refuses.
        """
        if len(spans) > 1 and not table:
            raise ValueError("a table of several spans has to be in the device's memory: expected its address")
        if device is None:
            device = device_of(int(spans[0, PARAM])) if len(spans) else 0
        many, on_device = len(spans) > 1, isinstance(scalars, DeviceScalars)
        key = scalars.dtype, many, on_device, device
        if key not in self._loaded:
            self._loaded[key] = Loaded(*_build(self._rule, self._slots, self._extras, *key[:3]), device)
        return Launch(self._loaded[key], spans, table, scalars, grid, coefficient)

    @cached_property
    def kernel(self) -> "Kernel":
        """The public kernel, see its docstring."""
        return Kernel(self, self._rule, self._slots)


class Kernel:
    """The public kernel of a rule: configured by `[blocks, threads, stream]`, as those of Numba are."""

    def __init__(self, kernels: CudaKernels, rule: Rule, slots: int) -> None:
        self._kernels, self._slots, names = kernels, slots, arguments(rule)
        self.__name__ = rule.__name__
        self.__doc__ = f"""`kernel[blocks, threads, stream](p, g, state, scalars)`: `{rule.__name__}`, once, in place.

        Any number of blocks and threads will do: `kernel[4 * multiprocessors, 256](...)` is a good one. A stream may be
        left out, be one of Numba, CuPy or torch, or its address.

        Args:
            p, g: parameter and gradient on the device, 1-D, contiguous, of one dtype, float32 or float64.
            state: `(slots, n)`, contiguous, of the same dtype: {", ".join(names[2 : 2 + slots]) or "no slots"}.
            scalars: a tuple or 1-D host array of floats, as `Optimizer.scalars(t)` gives them, or a 1-D device array of
                the same dtype as p, which is read when the kernel runs: {", ".join(names[2 + slots :])}.
        """

    def __getitem__(self, configuration: tuple[Any, ...]) -> Callable[..., None]:
        blocks, threads, *stream = configuration
        return lambda p, g, state, scalars: self._run((blocks, threads), stream_address(*stream), p, g, state, scalars)

    def _run(self, grid: tuple[int, int], stream: int, p: Any, g: Any, state: Any, scalars: Any) -> None:
        count = len(arguments(self._kernels._rule)) - 2 - self._slots
        param = described(p, "p")
        expected = {"g": (g, param.shape)}
        if self._slots:
            expected["state"] = state, (self._slots, *param.shape)
        if hasattr(scalars, INTERFACE) and not SIMULATED:
            expected["scalars"] = scalars, (count,)
        addresses = {}
        for name, (array, shape) in expected.items():
            found = described(array, name)
            if (found.dtype, found.shape) != (param.dtype, shape) or len(param.shape) != 1:
                raise TypeError(
                    f"{name}: expected {param.dtype} of shape {shape}, p being {param.dtype} of shape {param.shape}; "
                    f"found {found.dtype} of shape {found.shape}"
                )
            addresses[name] = found.address
        if "scalars" in addresses:
            numbers: Array | DeviceScalars = DeviceScalars(addresses["scalars"], param.dtype)
        else:
            numbers = np.array(scalars, param.dtype)
            if numbers.shape != (count,):
                raise TypeError(f"scalars: expected {count} floats, found {scalars!r}")
        size = param.shape[0]
        row = param.address, addresses["g"], addresses.get("state", 0), size * param.dtype.itemsize, 0, 0, size
        self._kernels.prepare(np.array([row], np.int64), numbers, grid=grid)(stream)


def inspect(
    optimizer: Any, dtype: Any = np.float32, cc: tuple[int, int] = (9, 0), *, slots: int = 0, many: bool = False,
    on_device: bool = False, extras: Extras = NOTHING,
) -> Report:  # fmt: skip
    """What becomes of a rule on a GPU of a compute capability; neither GPU nor driver is needed.

    Args:
        optimizer: a subclass of `Optimizer`, or a rule.
        dtype: float32 or float64.
        cc: the compute capability, (major, minor).
        slots: of a rule, how many slots of state it has.
        many: the kernel for a dict of arrays; otherwise that for a flat buffer.
        on_device: the kernel of `capturable=True`.
        extras: what the pass does beside the rule.

    Raises:
        numba.core.errors.TypingError: if the rule cannot be compiled or does not keep the dtype.
        RuntimeError: if a part of the CUDA toolkit is not installed.
    """
    rule = getattr(optimizer, "rule", optimizer)
    slots = len(getattr(optimizer, "slots", range(slots)))
    dtype = np.dtype(dtype)
    code = compile_kernel(*_build(rule, slots, extras, dtype, many, on_device), cc)
    behind = slots + extras.average
    return cuda_code.report(code, dtype.name, (2 + behind, 1 + behind + extras.zero))
