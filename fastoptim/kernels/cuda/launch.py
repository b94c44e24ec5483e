"""Loads a kernel onto a GPU and launches it on a stream."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import types

from fastoptim.kernels.cuda.compile import compile_kernel
from fastoptim.kernels.cuda.driver import capability, checked, driver
from fastoptim.kernels.cuda.memory import SIMULATED, Array, cuda, simulated_array
from fastoptim.kernels.storage import Storage
from fastoptim.kernels.table import PARAM

BLOCKS = 8  # of `elementwise.THREADS`: as many as a multiprocessor holds at once


class DeviceScalars(NamedTuple):
    """Scalars in the device's memory. A captured launch reads them anew at each replay.

    Attributes:
        address: of a C-contiguous array `(steps, scalar rows, scalars)` of the dtype of computation.
        dtype: the dtype of computation.
        steps: how many steps the array has. After the last one, its scalars hold.
        step: address of the step counter, an int64 that says which step is next; `words.advance` adds one to it. The
            kernel does not read it if `steps` is 1. With more steps, there has to be one row of scalars for each.
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
        """Launch. The int64 `arguments` are the addresses of the kernel's arguments, tuples laid out flat."""
        if SIMULATED:
            self._simulate(blocks, threads, arguments)
            return
        api = self._api
        status, device = api.cuCtxGetDevice()
        is_elsewhere = status or int(device) != self.device  # a status: this thread has no context yet
        if is_elsewhere:
            checked(api.cuCtxPushCurrent(self._context))
        try:
            checked(
                api.cuLaunchKernel(self._function, blocks, 1, 1, threads, 1, 1, 0, stream, arguments.ctypes.data, 0)
            )
        finally:
            if is_elsewhere:
                checked(api.cuCtxPopCurrent())

    def _simulate(self, blocks: int, threads: int, arguments: Array) -> None:
        addresses = iter(arguments)

        def read(kind: Any) -> Any:
            if isinstance(kind, types.BaseTuple):
                return tuple(map(read, kind))
            return simulated_array(next(addresses), np.dtype(str(kind)), 1)[0]

        values = [read(kind) for kind in self._signature]
        assert next(addresses, None) is None, "more arguments than the kernel takes"
        self._function[blocks, threads](*values)


class Launch:
    """One launch of a kernel, made ready: a call passes the numbers that its arguments have in memory then.

    Args:
        loaded: the kernel.
        grid: blocks, and threads in each. Without a block, nothing is launched.
        words: addresses of the first arguments, an int64 each.
        scalars: the numbers of a step, which are the last arguments, or where the kernel finds them.
        kept: what the addresses are in. It is kept alive, as `scalars` is. Both may be written between calls.
    """

    def __init__(
        self, loaded: Loaded, grid: tuple[int, int], words: Sequence[int], scalars: Array | DeviceScalars, *kept: Array
    ) -> None:
        self.device, self._grid, self._kept = loaded.device, grid, (scalars, *kept)
        if isinstance(scalars, DeviceScalars):
            self._device_scalars = np.array([scalars.address, scalars.steps, scalars.step], np.int64)
            numbers = addresses_of(self._device_scalars)
        else:
            numbers = addresses_of(scalars)
        self._arguments = np.array([*words, *numbers], np.int64)
        self._launch = loaded.launch if grid[0] else None

    def __call__(self, stream: int = 0) -> None:
        """Launch on a stream, by its address, without waiting for anything."""
        if self._launch is not None:
            self._launch(*self._grid, stream, self._arguments)


class GpuGroup(NamedTuple):
    """The arrays of a step on a GPU whose operands lie in memory in the same ways.

    Attributes:
        storages: of the operands, which have the first columns of the table.
        segments: their rows of the table, in the host's memory.
        scalars: of a step, as `CudaKernels.prepare` takes them.
        table: the address of the rows' copy on the device; 0 where there is none, as there is but one row.
        device: its number.
        clip_coef: the address of what gradients are multiplied by, on the device; 0 where there is none.
        blocks: how many blocks of elements they have, where sums are made of them.
    """

    storages: tuple[Storage, ...]
    segments: Array
    scalars: Array | DeviceScalars
    table: int = 0
    device: int = 0
    clip_coef: int = 0
    blocks: int = 0

    @property
    def arrays(self) -> int:
        """How many there are."""
        return len(self.segments)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of computation."""
        return self.storages[PARAM].computed

    @property
    def is_on_device(self) -> bool:
        """Whether the numbers of a step are in the device's memory."""
        return isinstance(self.scalars, DeviceScalars)


def addresses_of(numbers: Array) -> list[int]:
    """The address of each number in a C-contiguous array."""
    return [numbers.ctypes.data + numbers.itemsize * i for i in range(numbers.size)]


def stream_address(stream: Any = None) -> int:
    """The address of a stream of Numba, CuPy, torch, or of anything with `__cuda_stream__`; an address as it is.

    Raises:
        TypeError: if it is none of these.
    """
    if stream is None or isinstance(stream, int):
        return stream or 0
    if hasattr(stream, "__cuda_stream__"):
        return int(stream.__cuda_stream__()[1])
    for name in "cuda_stream", "ptr":  # torch, CuPy
        if isinstance(address := getattr(stream, name, None), int):
            return address
    raise TypeError(f"stream: expected a stream of Numba, CuPy or torch, or an address, found {type(stream).__name__}")
