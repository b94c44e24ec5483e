"""A reduction's kernels for CUDA: those that `update` launches in front of its last stage."""

from typing import Any

import numpy as np

from fastoptim.kernels.blocks import BlockKernels
from fastoptim.kernels.cuda import reduce
from fastoptim.kernels.cuda.blocks import build_blocks
from fastoptim.kernels.cuda.launch import DeviceScalars, GpuGroup, Launch, Loaded, addresses_of
from fastoptim.kernels.cuda.totals import build_totals
from fastoptim.kernels.notice import compiling
from fastoptim.kernels.storage import Storage
from fastoptim.kernels.table import BLOCKS
from fastoptim.kernels.totals import TotalsKernels


class CudaReduction:
    """The kernels of a pass over blocks and of what is computed of its sums. Each is compiled when it is first needed.

    Args:
        blocks, totals: the same for the CPU, of which these are made.
        has_clip_norm: whether the last of the step's numbers is clip_coef.
    """

    def __init__(self, blocks: BlockKernels, totals: TotalsKernels, has_clip_norm: bool) -> None:
        self._blocks, self._totals, self._has_clip_norm = blocks, totals, has_clip_norm
        self._loaded: dict[tuple[Any, ...], tuple[Loaded, Loaded]] = {}

    def build(self, dtype: np.dtype[Any], on_device: bool) -> tuple[Any, Any]:
        """Both kernels for a dtype, each with the numba types of its arguments."""
        own, where = Storage(dtype), (self._has_clip_norm, on_device)
        operands = (own,) * self._totals.operands
        return build_blocks(self._blocks, operands, *where), build_totals(self._totals, own, *where)

    def prepare(self, group: GpuGroup, threads: int | None = None) -> list[Launch]:
        """Compile if need be, so that the launches cannot fail because of the rule, and make them ready.

        Args:
            group: the arrays. Their table is on the device.
            threads: in a block.

        Raises:
            numba.core.errors.TypingError: if the rule or a function cannot be compiled.
            RuntimeError: if there is no GPU, or the driver refuses.
        """
        on_device = isinstance(group.scalars, DeviceScalars)
        key = group.scalars.dtype, on_device, group.device
        if key not in self._loaded:
            kernels = self.build(*key[:2])
            with compiling(f"{self._blocks.what}, for the GPU"):
                over_blocks, over_arrays = (Loaded(*kernel, group.device) for kernel in kernels)
            self._loaded[key] = over_blocks, over_arrays
        over_blocks, over_arrays = self._loaded[key]
        rows, threads = len(group.segments), threads or reduce.THREADS
        count = int(group.segments[-1, BLOCKS]) if rows else 0
        words = np.array([group.table, rows, count, group.clip_coef], np.int64)
        table, all_rows, blocks, clip_coef = addresses_of(words)
        grids = [
            (min(work, 2 * loaded.blocks), threads) for work, loaded in ((count, over_blocks), (rows, over_arrays))
        ]
        return [
            Launch(over_blocks, grids[0], [table, all_rows, blocks, clip_coef], group.scalars, words),
            Launch(over_arrays, grids[1], [table, all_rows, clip_coef], group.scalars, words),
        ]
