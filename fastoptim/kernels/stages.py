"""What a step is made of: stages, each of which goes over all arrays before the next one begins."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol, Self

from fastoptim.kernels import Kernels
from fastoptim.kernels.adapt import adapted, arguments_of
from fastoptim.kernels.cpu import LINE
from fastoptim.kernels.fuse import NOTHING, Fused
from fastoptim.kernels.launch import Launch
from fastoptim.kernels.matrices import Matrices, Prepared, keep_gradient, take_update
from fastoptim.kernels.reduction_names import check_function, check_names
from fastoptim.kernels.reductions import Group, ReductionKernels, Summed, block_launch
from fastoptim.kernels.rule import Rule, arguments, is_rule
from fastoptim.kernels.storage import Storage
from fastoptim.kernels.table import NO_SUMS, PerArray
from fastoptim.kernels.traffic import Used, used_by


class Stage(Protocol):
    """A part of a step."""

    def including(self, fused: Fused) -> Self:
        """The same with options in the same pass."""

    def launches(self, groups: Sequence[Group], order: int) -> list[Launch]:
        """The calls that run it on the host.

        Args:
            groups: the arrays that lie in memory in the same ways.
            order: the address of `ArraySums.order_of`, for what sums over all arrays.
        """

    def launches_on_gpu(self, groups: Sequence[Any], order: int) -> list[Any]:
        """The launches that run it on a GPU; each group is a `GpuGroup`."""

    def sources_for_gpu(self, storages: tuple[Storage, ...], many: bool, on_device: bool) -> list[Any]:
        """The kernels that it runs on a GPU for operands that lie in memory in these ways, see `inspect`."""


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

    @property
    def used(self) -> Used:
        """What it reads and writes of an element, without options."""
        return used_by(self.rule, ("p", "g", *self.slots), ("p", *self.slots))

    def including(self, fused: Fused) -> "Elementwise":
        """The same with options in the same pass."""
        per_array = self.per_array._replace(is_keyed=fused.stochastic)
        return self._replace(kernels=self.kernels.including(fused), per_array=per_array)

    def rescaled(self) -> "tuple[Summed, Elementwise]":
        """A stage that counts where the rule goes against the gradient, and the same with what follows from that."""
        return _rescaled(self)

    def measuring(self, names: tuple[str, ...]) -> "Elementwise | Measured":
        """The same with statistics of these names."""
        if not names:
            return self
        return Measured(self, names, self.per_array._replace(is_summed=True))

    def launches(self, groups: Sequence[Group], order: int) -> list[Launch]:
        """The calls that run it on the host."""
        passes = [self.kernels.on_cpu.pass_for(x.storages) for x in groups]
        return [
            Launch(compiled.address, x.table, x.scalars, x.elements, LINE, x.elements)
            for compiled, x in zip(passes, groups, strict=True)
        ]

    def launches_on_gpu(self, groups: Sequence[Any], order: int) -> list[Any]:
        """The launches that run it on a GPU."""
        return [self.kernels.on_gpu.prepare(group) for group in groups]

    def sources_for_gpu(self, storages: tuple[Storage, ...], many: bool, on_device: bool) -> list[Any]:
        """The kernel that it runs on a GPU."""
        return [self.kernels.on_gpu.build(storages, many, on_device)]


def _cautious_scale(_moving: float, size: float) -> float:
    """The factor n / (k + 1) of Liang et al. 2024, Algorithm 1, where k of n elements move."""
    return size / (_moving + 1)


@cache
def _rescaled(stage: Elementwise) -> "tuple[Summed, Elementwise]":
    before, slots, kernels = stage.per_array, stage.slots, stage.kernels
    scalars, fused = kernels.scalar_names[: kernels.scalar_count - len(kernels.fused.scalars)], kernels.fused
    per_array = before._replace(given=(*before.given, _cautious_scale.__name__), is_summed=True)
    what = stage.rule, ("_moving",), (_cautious_scale,), slots, per_array, before.given, scalars
    counted = Summed(ReductionKernels(*what, False, fused, kernels.owner, counts=True))
    rule = adapted(stage.rule, ("p", "g", *slots, *per_array.slots, *per_array.given, *scalars))
    last = Kernels(rule, len(slots), fused, kernels.owner, per_array)
    return counted, Elementwise(stage.rule, slots, last, per_array)


class Measured(NamedTuple):
    """The last stage of a step, which also sums over arrays what statistics need.

    Attributes:
        stage: the same without statistics.
        names: of the statistics.
        per_array: what a step has for each array.
    """

    stage: Elementwise
    names: tuple[str, ...]
    per_array: PerArray

    @property
    def kernels(self) -> Kernels:
        """Those of the stage without statistics."""
        return self.stage.kernels

    @property
    def values(self) -> int:
        """How many values of an element it sums over an array."""
        return len(self.names)

    def launches(self, groups: Sequence[Group], order: int) -> list[Launch]:
        """The calls that run it on the host."""
        kernels = self.stage.kernels.measuring(self.names, self.per_array)
        return [block_launch(kernels, group) for group in groups]

    def launches_on_gpu(self, groups: Sequence[Any], order: int) -> list[Any]:
        """The launches that run it on a GPU."""
        kernels = self.stage.kernels.measuring(self.names, self.per_array).on_gpu
        return [kernels.prepare(group) for group in groups]

    def sources_for_gpu(self, storages: tuple[Storage, ...], many: bool, on_device: bool) -> list[Any]:
        """The kernel that it runs on a GPU."""
        kernels = self.kernels.measuring(self.names, self.per_array).on_gpu
        return [kernels.build(storages, self.kernels.fused.clip_norm, on_device)]


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
        over_all: sum over all arrays together. The functions are then computed once; `size` is the sum of all sizes,
            numbers of the state are those of `shared_slots`, and the step's numbers those of the first name.

    Raises:
        TypeError: the rule is not declared, there is no sum or no function, or a function has no name.
    """

    def __init__(
        self, rule: Rule, sums: Sequence[str], *functions: Callable[..., float], over_all: bool = False
    ) -> None:
        if not is_rule(rule):
            raise TypeError(f"Reduction: its rule {rule!r} is not declared, put @fastoptim.rule before it")
        if isinstance(sums, str) or not sums or not functions:
            raise TypeError(f"Reduction: expected names of sums and functions of them, got {sums!r} and {functions!r}")
        for function in functions:
            check_function(function)
        self.rule, self.sums, self.functions, self.over_all = rule, tuple(sums), functions, over_all

    @property
    def whole(self) -> str:
        """What it sums over, in words."""
        return "all arrays" if self.over_all else "each array"

    @property
    def results(self) -> tuple[str, ...]:
        """The names of what the functions return."""
        return tuple(function.__name__ for function in self.functions)


def stages_of(
    owner: str,
    rule: Any,
    slots: tuple[str, ...],
    array_slots: tuple[str, ...] = (),
    shared_slots: tuple[str, ...] = (),
    reductions: Sequence[Reduction] = (),
    matrices: Matrices | None = None,
) -> tuple[Any, ...]:
    """The stages of a rule and what has to be summed before it.

    Args:
        owner: the optimizer's name, for errors.
        rule: a function declared with `rule`.
        slots: the names of its state, as it has them behind `p` and `g`.
        array_slots: the names of the state's numbers of an array.
        shared_slots: those of them that all arrays share.
        reductions: what is summed before.
        matrices: how matrices are updated, whose function takes some of the step's numbers.

    Raises:
        TypeError: the rule is not declared, or has other slots; a name means two things, or is not known in time.
    """
    _check_rule(owner, rule, slots)
    check_names(owner, rule, slots, array_slots, shared_slots, reductions)
    if not reductions and not matrices:
        return (Elementwise(rule, slots, Kernels(rule, len(slots), owner=owner)),)
    given = tuple(dict.fromkeys(name for each in reductions for name in each.results))
    for name in matrices.scalars if matrices else ():
        if name in {*slots, *array_slots, *given}:
            raise TypeError(f"{owner}: its function of matrices takes {name}, expected it in the slots of `Matrices`")
    per_array = PerArray(array_slots, given, is_summed=True) if reductions else NO_SUMS
    scalars = scalars_of(rule, slots, array_slots, reductions, matrices)
    every = "p", "g", *slots, *array_slots, *given, *scalars
    summed, before = list[Summed](), tuple[str, ...]()
    for each in reductions:
        own = each.rule, each.sums, each.functions, slots, per_array, before, scalars
        summed.append(Summed(ReductionKernels(*own, each.over_all, NOTHING, owner)))
        before += each.results
    why = "sums over arrays before its rule" if reductions else "updates matrices by a function"
    last = Kernels(adapted(rule, every), len(slots), NOTHING, owner, per_array, why)
    return *summed, Elementwise(rule, slots, last, per_array)


def matrix_stages(owner: str, matrices: Matrices, scalars: tuple[str, ...]) -> tuple[Any, ...]:
    """The stages around the function of matrices. Between them, the update is their only slot."""
    per_array, update = PerArray(is_summed=True), ("update",)
    prepared = ReductionKernels(keep_gradient, (), (), update, per_array, (), scalars, False, NOTHING, owner)
    last = Kernels(adapted(take_update, ("p", "g", "update", *scalars)), 1, owner=owner, per_array=per_array)
    return Prepared(prepared), Elementwise(take_update, update, last, per_array)


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


def scalars_of(
    rule: Rule,
    slots: tuple[str, ...],
    array_slots: tuple[str, ...],
    reductions: Sequence[Reduction],
    matrices: Matrices | None,
) -> tuple[str, ...]:
    """The names of the step's numbers, in the order in which the stages name them first."""
    others = {"p", "g", "size", *slots, *array_slots, *(name for each in reductions for name in each.results)}
    found: dict[str, None] = {}
    for each in reductions:
        for function in (each.rule, *each.functions):
            found |= {name: None for name in arguments_of(function) if name not in others | set(each.sums)}
    found |= {name: None for name in arguments(rule) if name not in others}
    return tuple(found | dict.fromkeys(matrices.scalars if matrices else ()))
