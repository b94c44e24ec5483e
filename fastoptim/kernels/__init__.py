"""Rules and the kernels that are made of them."""

from functools import cached_property
from typing import Any

from fastoptim.kernels.cpu import CpuKernels
from fastoptim.kernels.rule import Rule, arguments

__all__ = ["Kernels"]


class Kernels:
    """What an optimizer's rule is compiled to, for those who call kernels themselves: `Adam.kernels.cpu`."""

    def __init__(self, rule: Rule, slots: int) -> None:
        self._rule, self._slots = rule, slots
        self.scalar_count = len(arguments(rule)) - 2 - slots

    @cached_property
    def loops(self) -> CpuKernels:
        """The kernels that `Optimizer.update` runs on host arrays."""
        return CpuKernels(self._rule, self._slots)

    @cached_property
    def device_loops(self) -> Any:
        """The kernels that `Optimizer.update` runs on arrays on a GPU."""
        from fastoptim.kernels.cuda import CudaKernels  # imported when it is asked for, as it takes a second

        return CudaKernels(self._rule, self._slots)

    @property
    def cuda(self) -> Any:
        """`kernel[blocks, threads, stream](p, g, state, scalars)` on a GPU; see its docstring.

        Raises:
            RuntimeError: if numba-cuda is not installed; it says what to install.
        """
        return self.device_loops.kernel

    @property
    def cpu(self) -> Any:
        """`kernel(p, g, state, scalars)` on all of numba's threads; see its docstring for shapes and scalars."""
        return self.loops.kernel

    @property
    def cpu_serial(self) -> Any:
        """`kernel(p, g, state, scalars)` on the calling thread, for your own parallel loop or a forked process."""
        return self.loops.kernel_serial
