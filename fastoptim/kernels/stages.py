"""What a step is made of: stages, each of which goes over all arrays before the next one begins."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from fastoptim.kernels import Kernels
from fastoptim.kernels.adapt import adapted, arguments_of
from fastoptim.kernels.cpu import LINE
from fastoptim.kernels.fuse import NOTHING, Fused
from fastoptim.kernels.launch import Launch
from fastoptim.kernels.reductions import ReductionKernels, Summed
from fastoptim.kernels.rule import Rule, arguments, is_rule
from fastoptim.kernels.storage import storage_of
from fastoptim.kernels.table import NO_SUMS, PerArray


class Group(NamedTuple):
    """The arrays of one dtype in a step on the host.

    Attributes:
        dtype: of the parameters.
        operands: addresses in a row of the table.
        table, scalars: addresses.
        arrays, elements, blocks: how many there are.
    """

    dtype: np.dtype[Any]
    operands: int
    table: int
    scalars: int
    arrays: int
    elements: int
    blocks: int


class Stage(Protocol):
    """A part of a step."""

    def including(self, fused: Fused) -> Self:
        """The same with options in the same pass."""

    def launches(self, group: Group) -> list[Launch]:
        """The calls that run it on the host."""


class Elementwise(NamedTuple):
    """A rule, applied to each element by itself, fused with the options around it. It is the last stage of a step.

    Attributes:
        rule: the function of one element.
        slots: the names of its state.
        kernels: what runs it.
        per_array: what a step has for each array.
    """

    rule: Rule
    slots: tuple[str, ...]
    kernels: Kernels
    per_array: PerArray = NO_SUMS

    @property
    def values(self) -> int:
        """How many values of an element it sums over an array."""
        return 0

    @property
    def scalar_count(self) -> int:
        """How many numbers of a step `scalars` returns."""
        return self.kernels.scalar_count

    def including(self, fused: Fused) -> "Elementwise":
        """The same with options in the same pass."""
        return self._replace(kernels=self.kernels.including(fused))

    def launches(self, group: Group) -> list[Launch]:
        """The call that runs it on the host."""
        compiled = self.kernels.on_cpu.pass_for((storage_of(group.dtype),) * group.operands)
        return [Launch(compiled.address, group.table, group.scalars, group.elements, LINE, group.elements)]


class Reduction:
    """Sums over each array that a step needs before its rule, and numbers that are computed of them.

    Args:
        rule: a function declared with `fastoptim.rule`. It may name some of the slots behind `p` and `g`. It returns
            their new numbers, and then what is summed. The parameter stays as it is.
        sums: names of what is summed, in the order in which the rule returns it.
        functions: each returns one float, computed in float64 once for each array. It may take the sums, `size` (how
            many elements the array has), the array's numbers of the state (`array_slots`), what functions before it
            returned, and the step's numbers, all by name. The rules and functions that follow take its result by its
            own name. If that is the name of a number of the state, the result is the new one.

    Raises:
        TypeError: the rule is not declared, or there is neither a sum nor a function.
    """

    def __init__(self, rule: Rule, sums: Sequence[str], *functions: Callable[..., float]) -> None:
        if not is_rule(rule):
            raise TypeError(f"Reduction: its rule {rule!r} is not declared, put @fastoptim.rule before it")
        if isinstance(sums, str) or not sums or not functions:
            raise TypeError(f"Reduction: expected names of sums and functions of them, got {sums!r} and {functions!r}")
        self.rule, self.sums, self.functions = rule, tuple(sums), functions

    @property
    def results(self) -> tuple[str, ...]:
        """The names of what the functions return."""
        return tuple(function.__name__ for function in self.functions)


def stages_of(
    owner: str, rule: Any, slots: tuple[str, ...], array_slots: tuple[str, ...], reductions: Sequence[Reduction]
) -> tuple[Any, ...]:
    """The stages of a rule and what has to be summed before it.

    Args:
        owner: the optimizer's name, for errors.
        rule: a function declared with `rule`.
        slots: the names of its state, as it has them behind `p` and `g`.
        array_slots: the names of the state's numbers of an array.
        reductions: what is summed before.

    Raises:
        TypeError: the rule is not declared, or has other slots.
    """
    _check_rule(owner, rule, slots)
    if not reductions:
        return (Elementwise(rule, slots, Kernels(rule, len(slots), owner=owner)),)
    given = tuple(dict.fromkeys(name for each in reductions for name in each.results))
    per_array = PerArray(array_slots, given, is_summed=True)
    scalars = _scalars(reductions, rule, {"p", "g", "size", *slots, *array_slots, *given})
    every = "p", "g", *slots, *given, *scalars
    summed = [
        Summed(ReductionKernels(each.rule, each.sums, each.functions, slots, per_array, scalars, NOTHING, owner))
        for each in reductions
    ]
    last = Kernels(adapted(rule, every), len(slots), owner=owner, per_array=per_array)
    return *summed, Elementwise(rule, slots, last, per_array)


def evaluation_stage(owner: str, rule: Any, slots: tuple[str, ...]) -> Elementwise:
    """The stage of a rule that returns `p` alone, and leaves the state as it is. For arguments and errors see above."""
    _check_rule(owner, rule, slots)
    return Elementwise(rule, slots, Kernels(rule, len(slots), owner=owner, writes_state=False))


def _check_rule(owner: str, rule: Any, slots: tuple[str, ...]) -> None:
    if not is_rule(rule):
        raise TypeError(f"{owner}: its rule {rule!r} is not declared, put @fastoptim.rule before it")
    names = arguments(rule)[2:]
    if names[: len(slots)] != slots:
        raise TypeError(f"{owner}: its slots are {slots}, but its rule has {names} behind p and g")


def _scalars(reductions: Sequence[Reduction], rule: Rule, others: set[str]) -> tuple[str, ...]:
    """The names of the step's numbers, in the order in which the stages name them first."""
    found: dict[str, None] = {}
    for each in reductions:
        known = others | set(each.sums)
        for function in (each.rule, *each.functions):
            found |= {name: None for name in arguments_of(function) if name not in known}
    return tuple(found | {name: None for name in arguments(rule) if name not in others})
