"""Passes over blocks, and what is computed of their sums, for CUDA: what `update` launches for them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastoptim.kernels.blocks import BlockKernels
from fastoptim.kernels.cuda import reduce
from fastoptim.kernels.cuda.blocks import build_blocks
from fastoptim.kernels.cuda.compile import Source
from fastoptim.kernels.cuda.launch import GpuGroup, Launch, Loaded, addresses_of
from fastoptim.kernels.cuda.totals import build_common, build_totals
from fastoptim.kernels.notice import compiling
from fastoptim.kernels.storage import Storage
from fastoptim.kernels.table import END
from fastoptim.kernels.totals import TotalsKernels


class _Kernels:
    """Kernels by what they are compiled for. Each is compiled when it is first needed.

    Args:
        build: makes one for a key.
        what: a description for the log.
    """

    def __init__(self, build: Callable[..., Source], what: str) -> None:
        self._build, self._what = build, what
        self._loaded: dict[tuple[Any, ...], Loaded] = {}

    def loaded(self, device: int, *key: Any) -> Loaded:
        """The kernel for a device and a key.

        Raises:
            numba.core.errors.TypingError: if the rule or a function cannot be compiled.
            RuntimeError: if there is no GPU, or the driver refuses.
        """
        if (device, *key) not in self._loaded:
            source = self._build(*key)
            with compiling(f"{self._what}, for the GPU"):
                self._loaded[device, *key] = Loaded(source.function, source.signature, device)
        return self._loaded[device, *key]


class CudaBlocks:
    """A function's pass over blocks, for CUDA, made of that for the CPU."""

    def __init__(self, kernels: BlockKernels) -> None:
        self._kernels = kernels
        self._compiled = _Kernels(self.build, kernels.what)

    def build(self, storages: tuple[Storage, ...], has_clip_norm: bool, on_device: bool) -> Source:
        """The kernel; see `build_blocks`."""
        return build_blocks(self._kernels, storages, has_clip_norm, on_device)

    def prepare(self, group: GpuGroup) -> Launch:
        """Compile if need be, so that the launch cannot fail because of the rule, and make it ready.

        The arrays' table is on the device.
        """
        loaded = self._compiled.loaded(group.device, group.storages, group.clip_coef != 0, group.is_on_device)
        words = np.array([group.table, group.arrays, group.blocks, group.clip_coef], np.int64)
        grid = min(group.blocks, 2 * loaded.blocks), reduce.THREADS
        return Launch(loaded, grid, addresses_of(words), group.scalars, words)


class CudaTotals:
    """What is computed of the sums, for CUDA, made of that for the CPU."""

    def __init__(self, kernels: TotalsKernels) -> None:
        self._kernels, what = kernels, f"{kernels.owner}'s numbers of {'all' if kernels.over_all else 'its'} arrays"
        self._totals, self._common = _Kernels(self.build, what), _Kernels(self.build_common, what)

    def build(self, dtype: np.dtype[Any], has_clip_norm: bool, on_device: bool) -> Source:
        """The kernel that works on each array by itself; see `build_totals`."""
        return build_totals(self._kernels, dtype, has_clip_norm, on_device)

    def build_common(self, dtype: np.dtype[Any], has_clip_norm: bool, on_device: bool) -> Source:
        """The kernel that follows where the functions are about all arrays."""
        return build_common(self._kernels, dtype, has_clip_norm, on_device)

    def prepare(self, groups: Sequence[GpuGroup], order: int) -> list[Launch]:
        """Compile if need be, so that the launches cannot fail because of the functions, and make them ready.

        Args:
            groups: the arrays of each dtype. Their table is on the device.
            order: the address of `ArraySums.order_words` on the device, for functions about all arrays.
        """
        launches = []
        for group in groups:
            key = group.device, group.dtype, group.clip_coef != 0, group.is_on_device
            loaded, words = self._totals.loaded(*key), np.array([group.table, group.arrays, group.clip_coef], np.int64)
            grid = min(group.arrays, 2 * loaded.blocks), reduce.THREADS
            launches.append(Launch(loaded, grid, addresses_of(words), group.scalars, words))
        if self._kernels.over_all and groups:
            first, size = groups[0], sum(int(group.segments[-1, END]) for group in groups)
            words = np.array([order, size, first.clip_coef], np.int64)
            loaded = self._common.loaded(first.device, first.dtype, first.clip_coef != 0, first.is_on_device)
            launches.append(Launch(loaded, (1, reduce.THREADS), addresses_of(words), first.scalars, words))
        return launches
