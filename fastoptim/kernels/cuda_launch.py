"""How a GPU is made to run a kernel: loading, launching, streams, and arrays of any library by their interface."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import types

from fastoptim.kernels.cpu import END, PARAM, Array
from fastoptim.kernels.cuda_code import capability, checked, compile_kernel, driver
from fastoptim.kernels.cuda_memory import INT64, SIMULATED, VECTOR, cuda, elements, numbers_at, simulated_array

FLOATS = np.dtype(np.float32), np.dtype(np.float64)
VECTORS = 4  # of each array, that a thread has in one tile
THREADS = 8 if SIMULATED else 256  # in a block: the simulator has to make each of them
BLOCKS = 8  # of that size: what a multiprocessor holds at once


class DeviceScalars(NamedTuple):
    """Scalars in the device's memory: what a captured launch reads, anew at each replay.

    Attributes:
        address: of a C-contiguous array `(steps, scalars)` of the parameters' dtype.
        dtype: of the parameters.
        steps: its rows, one for each step to come. Beyond the last, the last one holds.
        step: address of an int64 that says which row is next; `advance` adds one. Not read where `steps` is 1.
    """

    address: int
    dtype: np.dtype[Any]
    steps: int = 1
    step: int = 0


class Loaded:
    """A kernel on one device."""

    def __init__(self, function: Callable[..., None], signature: tuple[Any, ...], device: int) -> None:
        self.device = device
        if SIMULATED:
            self._function, self._signature, self.blocks = cuda.jit(function), signature, 2
            return
        api = driver()
        self._api, code = api, compile_kernel(function, signature, capability(device))
        self._library = checked(api.cuLibraryLoadData(code.cubin, [], [], 0, [], [], 0))
        self._function = api.CUfunction(int(checked(api.cuLibraryGetKernel(self._library, code.name.encode()))))
        attribute = api.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
        self.blocks = BLOCKS * int(checked(api.cuDeviceGetAttribute(attribute, device)))
        self._context = checked(api.cuDevicePrimaryCtxRetain(device))

    def launch(self, blocks: int, threads: int, stream: int, arguments: Array) -> None:
        """Launch, with the numbers that the int64 `arguments` are the addresses of."""
        if SIMULATED:
            self._simulate(blocks, threads, arguments)
            return
        api = self._api
        status, device = api.cuCtxGetDevice()
        elsewhere = status or int(device) != self.device  # or there is no context yet in this thread
        if elsewhere:
            checked(api.cuCtxPushCurrent(self._context))
        try:
            checked(
                api.cuLaunchKernel(self._function, blocks, 1, 1, threads, 1, 1, 0, stream, arguments.ctypes.data, 0)
            )
        finally:
            if elsewhere:
                checked(api.cuCtxPopCurrent())

    def _simulate(self, blocks: int, threads: int, arguments: Array) -> None:
        flat = [x for t in self._signature for x in (t if isinstance(t, types.BaseTuple) else [t])]
        numbers = [simulated_array(address, np.dtype(str(t)), 1)[0] for t, address in zip(flat, arguments, strict=True)]
        count = sum(t == types.int64 for t in self._signature)
        scalars = [tuple(numbers[count:])] if count < len(self._signature) else []
        self._function[blocks, threads](*map(int, numbers[:count]), *scalars)


class Launch:
    """One kernel call, made ready: only addresses remain to be passed, of the numbers in `spans` and `scalars`.

    What is written into `spans` (the first row, where there is no table) and `scalars` holds from the next call on;
    both are kept alive here, and read while the call is made, not later.
    """

    def __init__(
        self,
        loaded: Loaded,
        spans: Array,
        table: int,
        scalars: Array | DeviceScalars,
        grid: tuple[int, int] | None,
        coefficient: int,
    ) -> None:
        self.device = loaded.device
        dtype = scalars.dtype
        size = int(spans[-1, END]) if len(spans) else 0
        threads = grid[1] if grid else THREADS
        tile = threads * VECTORS * VECTOR // dtype.itemsize
        self._grid = grid or (min(-(-size // tile), loaded.blocks), threads)
        words = [table, len(spans), tile, coefficient]
        if isinstance(scalars, DeviceScalars):
            words += [scalars.address, scalars.steps, scalars.step]
        self._words = np.array(words, np.int64)
        addresses = [int(row) for row in spans.ctypes.data + np.arange(PARAM, END) * 8]
        addresses.append(spans.ctypes.data + (len(spans) - 1) * spans.strides[0] + END * 8)
        addresses += [self._words.ctypes.data + 8 * i for i in range(len(words))]
        if not isinstance(scalars, DeviceScalars):
            addresses += [scalars.ctypes.data + dtype.itemsize * i for i in range(scalars.size)]
        self._kept = spans, scalars
        self._arguments = np.array(addresses, np.int64)
        self._launch = loaded.launch if size else None

    def __call__(self, stream: int = 0) -> None:
        """Launch on a stream, by its address, without waiting for anything."""
        if self._launch is not None:
            self._launch(*self._grid, stream, self._arguments)


INTERFACE = "__array_interface__" if SIMULATED else "__cuda_array_interface__"


class DeviceArray(NamedTuple):
    """What `__cuda_array_interface__` says of a contiguous array."""

    address: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    stream: int
    read_only: bool

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def described(array: Any, name: str) -> DeviceArray:
    """Where and what an array on a GPU is.

    Raises:
        TypeError: if it is not on a GPU, not contiguous or neither float32 nor float64.
    """
    try:
        interface = getattr(array, INTERFACE, None)
    except RuntimeError as error:  # a tensor of torch that requires a gradient
        raise TypeError(f"{name}: {error}") from error
    if interface is None:
        raise TypeError(f"{name}: expected an array on a GPU, with {INTERFACE}, got {type(array).__name__}")
    dtype, shape, strides = np.dtype(interface["typestr"]), tuple(interface["shape"]), interface.get("strides")
    if dtype not in FLOATS:
        raise TypeError(f"{name}: expected dtype float32 or float64, got {dtype}")
    if strides is not None and math.prod(shape):
        dense = tuple(dtype.itemsize * math.prod(shape[i + 1 :]) for i in range(len(shape)))
        if any(n > 1 and stride != expected for n, stride, expected in zip(shape, strides, dense, strict=True)):
            raise TypeError(
                f"{name}: expected a C-contiguous array, as kernels on a GPU take no others; got shape {shape} with "
                f"strides {tuple(strides)} (bytes)"
            )
    address, read_only = interface["data"]
    return DeviceArray(address or 0, dtype, shape, interface.get("stream") or 0, read_only)


def pointer(array: Any) -> int:
    """The address alone, as fast as the array's library tells it."""
    if hasattr(array, "data_ptr"):  # torch
        return int(array.data_ptr())
    memory: Any = getattr(array, "data", None)
    if hasattr(memory, "ptr"):  # CuPy
        return int(memory.ptr)
    return int(getattr(array, INTERFACE)["data"][0] or 0)


def advance_kernel() -> tuple[Callable[..., None], tuple[Any, ...]]:
    """The kernel of `advance`, and the numba types of its arguments."""
    read, write = numbers_at(INT64, 1), elements(0, INT64, 1)[1]

    def advance_step(step: Any) -> None:
        write(step, 0, 0, 0, 0, ((read(step)[0] + 1,),))

    return advance_step, (types.int64,)


@cache
def _advance(device: int) -> Loaded:
    return Loaded(*advance_kernel(), device)


def advance(step: int, device: int, stream: int = 0) -> None:
    """Add one to the int64 at an address on a device, in the order of the stream: the last of a captured step."""
    where = np.array([step], np.int64)
    _advance(device).launch(1, 1, stream, np.array([where.ctypes.data], np.int64))


WORDS = 128  # that one launch writes


def write_kernel() -> tuple[Callable[..., None], tuple[Any, ...]]:
    """The kernel of `write_words`, and the numba types of its arguments."""
    write = elements(0, INT64, 1)[1]

    def write_all(address: Any, count: Any, words: Any) -> None:
        for i in range(count):
            write(address + 8 * i, 0, 0, 0, 0, ((words[i],),))

    return write_all, (types.int64, types.int64, types.UniTuple(types.int64, WORDS))


@cache
def _write(device: int) -> Loaded:
    return Loaded(*write_kernel(), device)


def write_words(address: int, words: Array, device: int, stream: int = 0) -> None:
    """Copy int64 from the host to a device, in the order of the stream, without waiting for it.

    They travel as arguments of a kernel: a copy from ordinary host memory would wait for the stream, and one from
    pinned memory would have to be waited for before the next one.
    """
    flat = np.ascontiguousarray(words).reshape(-1)
    for start in range(0, flat.size, WORDS):
        part = np.zeros(2 + WORDS, np.int64)
        count = min(WORDS, flat.size - start)
        part[0], part[1], part[2 : 2 + count] = address + 8 * start, count, flat[start : start + count]
        _write(device).launch(1, 1, stream, part.ctypes.data + np.arange(part.size) * 8)


def device_of(address: int) -> int:
    """The number of the device whose memory is at an address."""
    if SIMULATED:
        return 0
    api = driver()
    attribute = api.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    try:
        return int(checked(api.cuPointerGetAttribute(attribute, address)))
    except RuntimeError as error:
        raise ValueError(f"no memory of a GPU: {address:#x} ({error})") from None


def stream_address(stream: Any = None) -> int:
    """The address of a stream of Numba, CuPy, torch, of anything with `__cuda_stream__`, or an address as it is."""
    if stream is None or isinstance(stream, int):
        return stream or 0
    if hasattr(stream, "__cuda_stream__"):
        return int(stream.__cuda_stream__()[1])
    for name in "cuda_stream", "ptr":  # torch, CuPy
        if isinstance(address := getattr(stream, name, None), int):
            return address
    raise TypeError(f"stream: expected a stream of Numba, CuPy or torch, or an address, found {type(stream).__name__}")
