"""A rule's kernels for CUDA: those that `update` launches, and the public one."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from fastoptim.kernels.cuda.arrays import INTERFACE, described, device_of
from fastoptim.kernels.cuda.compile import Source
from fastoptim.kernels.cuda.launch import DeviceScalars, Launch, Loaded, addresses_of, stream_address
from fastoptim.kernels.cuda.loops import build, used_of
from fastoptim.kernels.cuda.memory import SIMULATED, VECTOR, Array
from fastoptim.kernels.fuse import NOTHING, Fused, signature
from fastoptim.kernels.notice import compiling
from fastoptim.kernels.rule import Rule, arguments
from fastoptim.kernels.storage import as_it_is
from fastoptim.kernels.table import END, NO_SUMS, PARAM, PerArray, columns

NUMBERS_READ = "ld", "cvt"  # what is done with the float64 numbers of an array
VECTORS = 4  # of each operand, that a thread has in one tile
THREADS = 8 if SIMULATED else 256  # in a block; the simulator starts a thread of Python for each


class CudaKernels:
    """One rule's kernels for CUDA. Each is compiled when it is first needed, in about two seconds."""

    def __init__(
        self,
        rule: Rule,
        slots: int,
        fused: Fused = NOTHING,
        owner: str = "a kernel",
        per_array: PerArray = NO_SUMS,
        writes_state: bool = True,
    ) -> None:
        self.rule, self.slots, self.fused, self._owner, self.per_array = rule, slots, fused, owner, per_array
        self._writes_state = writes_state
        self.operands = 2 + len(signature(rule, slots, fused).slots)
        self._loaded: dict[tuple[Any, ...], Loaded] = {}

    def build(self, dtype: np.dtype[Any], many: bool, on_device: bool) -> Source:
        """The kernel for a dtype; see `loops.build`."""
        storages = (as_it_is(dtype),) * self.operands
        kernel = build(self.rule, self.slots, self.fused, storages, many, on_device, self.per_array, self._writes_state)
        used, is_averaged = used_of(self.rule, self.slots), int(self.fused.ema)
        stored = len(used.writes) + is_averaged if self._writes_state else 1
        accesses = len(used.reads) + is_averaged, stored + self.fused.zero_grads
        return Source(*kernel, accesses, NUMBERS_READ if self.per_array.number_count else ())

    def prepare(
        self,
        segments: Array,
        scalars: Array | DeviceScalars,
        table: int = 0,
        device: int | None = None,
        grid: tuple[int, int] | None = None,
        clip_coef: int = 0,
    ) -> Launch:
        """Compile if need be, so that the launch cannot fail because of the rule, and make it ready.

        Args:
            segments: a table as `fastoptim.kernels.table` has it, C-contiguous, in the host's memory. The addresses are
                the device's, each a multiple of the dtype's size.
            scalars: 1-D, in the host's memory, of the parameters' dtype; or `DeviceScalars`.
            table: address of a copy of `segments` in the device's memory; not needed for a single row.
            device: its number; by default, that of the device that the first parameter is on.
            grid: blocks, and threads in each.
            clip_coef: address of a number in the device's memory that gradients are multiplied by, see `Fused`.

        Raises:
            numba.core.errors.TypingError: if the rule cannot be compiled or does not keep the dtype.
            ValueError: if the table has other columns, or its copy is missing.
            RuntimeError: if there is no GPU, or the driver refuses.
        """
        expected, many = columns(self.operands, self.per_array), len(segments) > 1 or self.per_array.is_summed
        if segments.shape[1] != expected:
            raise ValueError(
                f"segments: expected {expected} columns, as there are {self.operands} operands; got {segments.shape[1]}"
            )
        if len(segments) > 1 and not table:
            raise ValueError(
                "table: expected the address of a copy on the device, as there are several segments; got 0"
            )
        if device is None:
            device = device_of(int(segments[0, PARAM])) if len(segments) else 0
        on_device = isinstance(scalars, DeviceScalars)
        key = scalars.dtype, many, on_device, device
        if key not in self._loaded:
            source = self.build(scalars.dtype, many, on_device)
            with compiling(f"{self.fused.described(self._owner)} for the GPU"):
                self._loaded[key] = Loaded(source.function, source.signature, device)
        loaded, size = self._loaded[key], int(segments[-1, END]) if len(segments) else 0
        threads = grid[1] if grid else THREADS
        tile = threads * VECTORS * VECTOR // scalars.dtype.itemsize
        words = np.array([table, len(segments), tile, clip_coef], np.int64)
        last = addresses_of(segments[-1:])  # the order of the columns is that of the kernel's arguments
        where = [*addresses_of(words[:2]), *last[END:]] if many else last
        grid = grid or (min(-(-size // tile), loaded.blocks), threads)
        return Launch(loaded, grid if size else (0, 0), [*where, *addresses_of(words[2:])], scalars, segments, words)

    @cached_property
    def kernel(self) -> "Kernel":
        """The public kernel, see its docstring."""
        return Kernel(self)


class Kernel:
    """The public kernel of a rule: configured by `[blocks, threads, stream]`, as those of Numba are."""

    def __init__(self, kernels: CudaKernels) -> None:
        self._kernels, rule, slots = kernels, kernels.rule, kernels.slots
        names = arguments(rule)[2:]
        self._scalar_count = len(names) - slots
        self.__name__ = rule.__name__
        self.__doc__ = f"""`kernel[blocks, threads, stream](p, g, state, scalars)`: `{rule.__name__}`, once, in place.

        Any number of blocks and threads will do: `kernel[4 * multiprocessors, 256](...)` is a good one. A stream may be
        left out, be one of Numba, CuPy or torch, or its address.

        Args:
            p, g: parameter and gradient on the device, 1-D, contiguous, of one dtype, float32 or float64.
            state: `(slots, n)`, contiguous, of the same dtype: {", ".join(names[:slots]) or "no slots"}.
            scalars: a tuple or 1-D host array of floats, as `Optimizer.scalars(t)` gives them, or a 1-D device array of
                the same dtype as p, which is read when the kernel runs: {", ".join(names[slots:])}.
        """

    def __getitem__(self, configuration: tuple[Any, ...]) -> Callable[..., None]:
        blocks, threads, *stream = configuration
        return lambda p, g, state, scalars: self._run((blocks, threads), stream_address(*stream), p, g, state, scalars)

    def _run(self, grid: tuple[int, int], stream: int, p: Any, g: Any, state: Any, scalars: Any) -> None:
        slots, count = self._kernels.slots, self._scalar_count
        param = described(p, "p")
        expected = {"g": (g, param.shape)}
        if slots:
            expected["state"] = state, (slots, *param.shape)
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
        each = [addresses.get("state", 0) + slot * size * param.dtype.itemsize for slot in range(slots)]
        row = param.address, addresses["g"], *each, 0, size
        self._kernels.prepare(np.array([row], np.int64), numbers, grid=grid)(stream)
