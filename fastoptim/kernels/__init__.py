"""Rules and the kernels that are made of them."""

from functools import cached_property
from typing import Any

from fastoptim.kernels.cpu import CpuKernels
from fastoptim.kernels.extras import NOTHING, Extras, signature
from fastoptim.kernels.rule import Rule

__all__ = ["Kernels"]


class Kernels:
    """What an optimizer's rule is compiled to, for those who call kernels themselves: `Adam.kernels.cpu`."""

    def __init__(self, rule: Rule, slots: int, extras: Extras = NOTHING) -> None:
        self._rule, self._slots, self.extras = rule, slots, extras
        self.scalar_names = signature(rule, slots, extras).scalars
        self._others: dict[Extras, Kernels] = {}

    def including(self, extras: Extras) -> "Kernels":
        """The kernels that do more in the same pass."""
        if extras == self.extras:
            return self
        if extras not in self._others:
            self._others[extras] = Kernels(self._rule, self._slots, extras)
        return self._others[extras]

    @property
    def scalar_count(self) -> int:
        """How many numbers a step has."""
        return len(self.scalar_names)

    @cached_property
    def loops(self) -> CpuKernels:
        """The kernels that `Optimizer.update` runs on host arrays."""
        return CpuKernels(self._rule, self._slots, self.extras)

    @cached_property
    def device_loops(self) -> Any:
        """The kernels that `Optimizer.update` runs on arrays on a GPU."""
        from fastoptim.kernels.cuda import CudaKernels  # imported when it is asked for, as it takes a second

        return CudaKernels(self._rule, self._slots, self.extras)

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
