"""Rules and the kernels that are made of them."""

from functools import cached_property
from typing import Any

from fastoptim.kernels.blocks import BlockKernels
from fastoptim.kernels.cpu import CpuKernels
from fastoptim.kernels.fuse import NOTHING, Fused, signature
from fastoptim.kernels.rule import Rule
from fastoptim.kernels.table import NO_SUMS, PerArray

__all__ = ["Kernels"]


class Kernels:
    """What an optimizer's rule is compiled to, for those who call kernels themselves: `Adam.kernels.cpu`.

    Attributes:
        fused: the options that the passes include beside the rule.
        owner: the optimizer's name, for errors and the log.
        scalar_names: of a step's numbers, in order.
        why_not_alone: what else a step does, in words, so that nobody can make one with a kernel alone.
        writes_state: whether the rule returns the state. One that returns `p` alone leaves the state as it is.
    """

    def __init__(
        self,
        rule: Rule,
        slots: int,
        fused: Fused = NOTHING,
        owner: str = "a rule",
        per_array: PerArray = NO_SUMS,
        why_not_alone: str = "",
        writes_state: bool = True,
    ) -> None:
        self._rule, self._slots, self.fused, self.owner, self._per_array = rule, slots, fused, owner, per_array
        self.why_not_alone = why_not_alone
        self.scalar_names = signature(rule, slots, fused).scalars[per_array.number_count :]
        self.writes_state = writes_state
        self._variants: dict[Fused, Kernels] = {}
        self._measuring: dict[Any, BlockKernels] = {}

    def including(self, fused: Fused) -> "Kernels":
        """The kernels that include other options in the same pass."""
        if fused == self.fused:
            return self
        if fused not in self._variants:
            per_array = self._per_array._replace(is_keyed=fused.stochastic)
            others = self.owner, per_array, self.why_not_alone, self.writes_state
            self._variants[fused] = Kernels(self._rule, self._slots, fused, *others)
        return self._variants[fused]

    @property
    def scalar_count(self) -> int:
        """How many numbers a step has."""
        return len(self.scalar_names)

    @property
    def operands(self) -> int:
        """How many operands there are."""
        return 2 + len(signature(self._rule, self._slots, self.fused).slots)

    @cached_property
    def on_cpu(self) -> CpuKernels:
        """The passes that `Optimizer.update` runs on host arrays."""
        others = self.owner, self._per_array, self.writes_state
        return CpuKernels(self._rule, self._slots, self.fused, *others)

    def measuring(self, names: tuple[str, ...], per_array: PerArray) -> BlockKernels:
        """The passes on the host that also sum over arrays what these statistics need."""
        key = names, per_array
        if key not in self._measuring:
            self._measuring[key] = self.on_cpu.measuring(*key)
        return self._measuring[key]

    @cached_property
    def on_gpu(self) -> Any:
        """The kernels that `Optimizer.update` runs on arrays on a GPU."""
        from fastoptim.kernels.cuda.elementwise import CudaKernels  # needs the package numba-cuda

        return CudaKernels(self._rule, self._slots, self.fused, self.owner, self._per_array, self.writes_state)

    @property
    def are_public(self) -> bool:
        """Whether a kernel is all of a step, so that `cpu`, `cpu_serial` and `cuda` are there."""
        return not self.why_not_alone

    def _alone(self, kernel: Any) -> Any:
        """A public kernel, where it is all of a step."""
        if not self.are_public:
            raise TypeError(f"{self.owner} {self.why_not_alone}: expected opt.update to be called")
        return kernel

    @property
    def cuda(self) -> Any:
        """`kernel[blocks, threads, stream](p, g, state, scalars)` on a GPU; see its docstring.

        Raises:
            RuntimeError: if numba-cuda is not installed; it says what to install.
        """
        return self._alone(self.on_gpu.kernel)

    @property
    def cpu(self) -> Any:
        """`kernel(p, g, state, scalars)` on all of numba's threads; see its docstring for shapes and scalars."""
        return self._alone(self.on_cpu.kernel)

    @property
    def rows(self) -> Any:
        """`kernel(p, indices, values, state, scalars)`: some rows of a matrix, on the calling thread.

        See its docstring. It may be called in your own compiled loops.
        """
        return self._alone(self.on_cpu.kernel_rows)

    @property
    def cpu_serial(self) -> Any:
        """`kernel(p, g, state, scalars)` on the calling thread, for your own parallel loop or a forked process."""
        return self._alone(self.on_cpu.kernel_serial)
