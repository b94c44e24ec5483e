"""A stage that sums over arrays: the kernels of a rule that returns what is summed, and of functions of the sums."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fastoptim.kernels import fuse
from fastoptim.kernels.adapt import adapted
from fastoptim.kernels.blocks import BlockKernels
from fastoptim.kernels.fuse import Fused, around, typed_values
from fastoptim.kernels.jit import jitable
from fastoptim.kernels.launch import Launch
from fastoptim.kernels.rule import Rule, arguments, fingerprint
from fastoptim.kernels.storage import storage_of
from fastoptim.kernels.table import GRAD, PerArray
from fastoptim.kernels.totals import TotalsKernels
from fastoptim.kernels.unroll import repeat


class ReductionKernels:
    """The passes of a reduction.

    Args:
        rule: of one element; see `Reduction`.
        sums: names of what is summed.
        functions: of the sums.
        slots: names of all slots of the state.
        per_array: what a step has for each array.
        scalars: names of the step's numbers, without those of the options.
        fused: the options of the step. What is done to the gradient before the rule is done here, too.
        owner: the optimizer's name, for the log.
    """

    def __init__(
        self,
        rule: Rule,
        sums: Sequence[str],
        functions: Sequence[Callable[..., float]],
        slots: tuple[str, ...],
        per_array: PerArray,
        scalars: tuple[str, ...],
        fused: Fused,
        owner: str,
    ) -> None:
        self._made_of = rule, sums, functions, slots, per_array, scalars
        self._owner, self.values = owner, len(sums)
        self._variants: dict[Fused, ReductionKernels] = {fused: self}
        own = [name for name in arguments(rule)[2:] if name in slots]
        row = scalars + fused.scalars
        whole = adapted(rule, ("p", "g", *slots, *per_array.given, *scalars))
        bits = "".join(str(int(option)) for option in fused)
        identity = rule.__name__, len(slots), bits, f"{fingerprint(rule, fuse):x}"
        count, same = len(own) + len(sums) - 1, repeat(len(own) + len(sums) - 1)

        @jitable(*identity, count)
        def as_values(updated: Any, p: Any, state: Any) -> Any:
            return typed_values(updated, p, same(p))

        element = around(whole, len(per_array.given) + len(scalars), len(slots), fused, as_values, is_last=False)
        written = [GRAD + 1 + slots.index(name) for name in own]
        self.on_blocks = BlockKernels(
            jitable(*identity)(element), written, len(sums), len(per_array.given), len(row), per_array, identity,
            f"{fused.described(owner)}: sums over arrays", rule,
        )  # fmt: skip
        self.on_totals = TotalsKernels(sums, functions, row, 2 + len(slots) + fused.ema, per_array, owner)

    def including(self, fused: Fused) -> "ReductionKernels":
        """The same with other options."""
        if fused not in self._variants:
            self._variants[fused] = ReductionKernels(*self._made_of, fused, self._owner)
        return self._variants[fused]


class Summed(NamedTuple):
    """A reduction as a stage of a step."""

    kernels: ReductionKernels

    @property
    def values(self) -> int:
        """How many values of an element it sums over an array."""
        return self.kernels.values

    def including(self, fused: Fused) -> "Summed":
        """The same with options in the same pass."""
        return Summed(self.kernels.including(fused))

    def launches(self, group: Any) -> list[Launch]:
        """The calls that run it on the host: over all blocks, and then over all arrays."""
        own, kernels = storage_of(group.dtype), self.kernels
        blocks = kernels.on_blocks.pass_for((own,) * group.operands).address
        totals = kernels.on_totals.pass_for(own).address
        return [
            Launch(blocks, group.table, group.scalars, group.blocks, 1, group.elements),
            Launch(totals, group.table, group.scalars, group.arrays, 1, group.blocks),
        ]
