"""A rule's kernels for CUDA: those that `update` launches, and the public one."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from fastoptim.kernels.cuda.arrays import INTERFACE, described, device_of
from fastoptim.kernels.cuda.coded import TEAM, fma_count
from fastoptim.kernels.cuda.compile import Source
from fastoptim.kernels.cuda.launch import DeviceScalars, GpuGroup, Launch, Loaded, addresses_of, stream_address
from fastoptim.kernels.cuda.loops import build
from fastoptim.kernels.cuda.memory import SIMULATED, Array, vector_width
from fastoptim.kernels.fuse import NOTHING, Fused, signature
from fastoptim.kernels.notice import compiling
from fastoptim.kernels.rule import Rule, arguments
from fastoptim.kernels.storage import COMPUTED, Storage, as_it_is
from fastoptim.kernels.table import END, GRAD, NO_SUMS, PerArray, columns
from fastoptim.kernels.traffic import used_of, written_by

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

    def build(self, storages: tuple[Storage, ...], many: bool, on_device: bool) -> Source:
        """The kernel for operands that lie in memory in these ways; see `loops.build`."""
        kernel = build(self.rule, self.slots, self.fused, storages, many, on_device, self.per_array, self._writes_state)
        written = written_by(self.rule, self.slots, self.fused, self._writes_state).changed
        names, used = arguments(self.rule)[: 2 + self.slots], used_of(self.rule, self.slots)
        options = range(len(names), len(names) + self.fused.ema + self.fused.compensation)  # these read their operands
        read = [*(column for column, name in enumerate(names) if name in used.reads), *options]
        width, stored = vector_width(storages), [*written, *[GRAD] * self.fused.zero_grads]
        loads, stores = ([storages[x].itemsize * width for x in columns_] for columns_ in (read, stored))
        float64 = NUMBERS_READ if self.per_array.number_count else ()
        return Source(*kernel, loads, stores, float64, fma_count(storages, written))

    def prepare(self, group: GpuGroup, grid: tuple[int, int] | None = None, mean_size: int | None = None) -> Launch:
        """Compile if need be, so that the launch cannot fail because of the rule, and make it ready.

        Args:
            group: the arrays. Their table is as `fastoptim.kernels.table` has it. Addresses are the device's, each a
                multiple of its operand's itemsize.
            grid: blocks, and threads in each.
            mean_size: of the segments, where they may be small, and have no codes. A block works on one at a time.

        Raises:
            numba.core.errors.TypingError: if the rule cannot be compiled or does not keep the dtype.
            ValueError: if the table has other columns, or its copy is missing.
            RuntimeError: if there is no GPU, or the driver refuses.
        """
        segments, many = group.segments, group.arrays > 1 or self.per_array.columns > 0
        expected = columns(self.operands, self.per_array)
        if segments.shape[1] != expected:
            raise ValueError(
                f"segments: expected {expected} columns, as there are {self.operands} operands; got {segments.shape[1]}"
            )
        if group.arrays > 1 and not group.table:
            raise ValueError(
                "table: expected the address of a copy on the device, as there are several segments; got 0"
            )
        key = group.storages, many, group.is_on_device, group.device
        if key not in self._loaded:
            source = self.build(*key[:3])
            with compiling(f"{self.fused.described(self._owner)} for the GPU"):
                self._loaded[key] = Loaded(source.function, source.signature, group.device)
        loaded, size = self._loaded[key], int(segments[-1, END]) if group.arrays else 0
        threads, width = grid[1] if grid else THREADS, VECTORS * vector_width(group.storages)
        blocks = loaded.blocks
        while mean_size is not None and mean_size < threads * width and threads > TEAM:
            threads, blocks = threads // 2, blocks * 2
        if threads % TEAM and any(storage.codes for storage in group.storages):
            raise ValueError(
                f"grid: expected a multiple of {TEAM} threads, as these share a block of codes; got {threads}"
            )
        tile = threads * width
        words = np.array([group.table, group.arrays, tile, group.clip_coef], np.int64)
        last = addresses_of(segments[-1:])  # the order of the columns is that of the kernel's arguments
        where = [*addresses_of(words[:2]), *last[END:]] if many else last
        grid = grid or (min(-(-size // tile), blocks), threads)
        arguments_ = [*where, *addresses_of(words[2:])]
        return Launch(loaded, grid if size else (0, 0), arguments_, group.scalars, segments, words)

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
        if param.dtype not in COMPUTED:
            raise TypeError(f"p: expected dtype float32 or float64, got {param.dtype}")
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
        row, storages = (param.address, addresses["g"], *each, 0, size), (as_it_is(param.dtype),) * (2 + slots)
        device = device_of(param.address) if size else 0
        group = GpuGroup(storages, np.array([row], np.int64), numbers, device=device)
        self._kernels.prepare(group, grid)(stream)
