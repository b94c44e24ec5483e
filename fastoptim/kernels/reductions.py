"""A stage that sums over arrays: the kernels of a rule that returns what is summed, and of functions of the sums."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastoptim.kernels import fuse
from fastoptim.kernels.adapt import adapted
from fastoptim.kernels.blocks import BlockKernels
from fastoptim.kernels.fuse import Fused, around, typed, typed_values
from fastoptim.kernels.jit import jitable
from fastoptim.kernels.launch import Launch
from fastoptim.kernels.rule import Rule, arguments, fingerprint
from fastoptim.kernels.storage import Storage, storage_of
from fastoptim.kernels.table import GRAD, PARAM, PerArray
from fastoptim.kernels.totals import TotalsKernels
from fastoptim.kernels.traffic import Used, used_by
from fastoptim.kernels.unroll import repeat


class Group(NamedTuple):
    """The arrays of a step on the host whose operands lie in memory in the same ways.

    Attributes:
        storages: of the operands, which have the first columns of the table.
        table, scalars: addresses.
        arrays, elements, blocks: how many there are.
    """

    storages: tuple[Storage, ...]
    table: int
    scalars: int
    arrays: int
    elements: int
    blocks: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of computation."""
        return self.storages[PARAM].computed


class ReductionKernels:
    """The passes of a reduction.

    Args:
        rule: of one element; see `Reduction`.
        sums: names of what is summed.
        functions: of the sums.
        slots: names of all slots of the state.
        per_array: what a step has for each array.
        before: names of what the reductions before this one have given.
        scalars: names of the step's numbers, without those of the options.
        over_all: whether it sums over all arrays together.
        fused: the options of the step. What is done to the gradient before the rule is done here, too.
        owner: the optimizer's name, for the log.
        counts: whether the rule is the last one of a step, and the elements are counted that it moves against the
            gradient. Nothing is written then.
    """

    def __init__(
        self,
        rule: Rule,
        sums: Sequence[str],
        functions: Sequence[Callable[..., float]],
        slots: tuple[str, ...],
        per_array: PerArray,
        before: tuple[str, ...],
        scalars: tuple[str, ...],
        over_all: bool,
        fused: Fused,
        owner: str,
        counts: bool = False,
    ) -> None:
        self._made_of: Any = (rule, sums, functions, slots, per_array, before, scalars, over_all)
        self._counts = counts
        self.over_all, self.fused = over_all, fused
        self._owner, self.values = owner, len(sums)
        self._variants: dict[Fused, ReductionKernels] = {fused: self}
        own = [] if counts else [name for name in arguments(rule)[2:] if name in slots]
        row = scalars + fused.scalars
        given = (name if name in before else f"_later_{name}" for name in per_array.given)
        whole = adapted(rule, ("p", "g", *slots, *per_array.slots, *given, *scalars))
        bits = "".join(str(int(option)) for option in fused)
        identity = rule.__name__, len(slots), bits, int(counts), f"{fingerprint(whole, fuse):x}"
        count, same = len(own) + len(sums) - 1, repeat(len(own) + len(sums) - 1)

        @jitable(*identity, count)
        def as_values(updated: Any, p: Any, state: Any) -> Any:
            return typed_values(updated, p, same(p))

        numbers = per_array.number_count + len(scalars)
        as_tuple = typed if counts else as_values
        element = around(whole, numbers, len(slots), fused, as_tuple, is_last=False, counts=counts)
        written = [GRAD + 1 + slots.index(name) for name in own]
        self.on_blocks = BlockKernels(
            jitable(*identity)(element), written, len(sums), row, per_array, identity,
            f"{fused.described(owner)}: sums over arrays", rule, fused._replace(zero_grads=False, copy=False),
        )  # fmt: skip
        operands = 2 + len(slots) + fused.ema + fused.compensation + fused.copy
        self.on_totals = TotalsKernels(sums, functions, before, row, operands, per_array, owner, over_all)

    @property
    def used(self) -> Used:
        """What its rule reads and changes."""
        rule, slots = self._made_of[0], self._made_of[3]
        own = [name for name in arguments(rule)[2:] if name in slots]
        return used_by(rule, ("p", "g", *own), own)

    def including(self, fused: Fused) -> "ReductionKernels":
        """The same with other options."""
        if fused not in self._variants:
            rule, sums, functions, slots, per_array, before, scalars, over_all = self._made_of
            per_array = per_array._replace(is_keyed=fused.stochastic)
            made_of = rule, sums, functions, slots, per_array, before, scalars, over_all
            self._variants[fused] = ReductionKernels(*made_of, fused, self._owner, self._counts)
        return self._variants[fused]


class Summed(NamedTuple):
    """A reduction as a stage of a step."""

    kernels: ReductionKernels

    @property
    def is_over_all(self) -> bool:
        """Whether it sums over all arrays together."""
        return self.kernels.over_all

    @property
    def values(self) -> int:
        """How many values of an element it sums over an array."""
        return self.kernels.values

    @property
    def used(self) -> Used:
        """What it reads and writes of an element, without options."""
        return self.kernels.used

    def including(self, fused: Fused) -> "Summed":
        """The same with options in the same pass."""
        return Summed(self.kernels.including(fused))

    def launches(self, groups: Sequence[Group], order: int) -> list[Launch]:
        """The calls that run it on the host: over all blocks, and then over all arrays."""
        found, totals = [block_launch(self.kernels.on_blocks, group) for group in groups], self.kernels.on_totals
        if self.kernels.over_all and groups:
            own = totals.pass_for(storage_of(groups[0].dtype)).address
            return [*found, Launch(own, order, groups[0].scalars, 1, 1, 1)]
        for group in groups:
            own = totals.pass_for(storage_of(group.dtype)).address
            found.append(Launch(own, group.table, group.scalars, group.arrays, 1, group.blocks))
        return found

    def launches_on_gpu(self, groups: Sequence[Any], order: int) -> list[Any]:
        """The launches that run it on a GPU."""
        blocks, totals = self.kernels.on_blocks.on_gpu, self.kernels.on_totals.on_gpu
        return [*(blocks.prepare(group) for group in groups), *totals.prepare(groups, order)]

    def sources_for_gpu(self, storages: tuple[Storage, ...], many: bool, on_device: bool) -> list[Any]:
        """The kernels that it runs on a GPU."""
        blocks, totals = self.kernels.on_blocks.on_gpu, self.kernels.on_totals.on_gpu
        others = self.kernels.fused.clip_norm, on_device
        builds = [totals.build, totals.build_common] if self.kernels.over_all else [totals.build]
        return [blocks.build(storages, *others), *(build(storages[PARAM].computed, *others) for build in builds)]


def block_launch(kernels: BlockKernels, group: Group) -> Launch:
    """The call of a pass over blocks."""
    compiled = kernels.pass_for(group.storages)
    return Launch(compiled.address, group.table, group.scalars, group.blocks, 1, group.elements)
