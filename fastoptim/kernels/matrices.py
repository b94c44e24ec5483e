"""Steps of whole matrices: a function of NumPy's arrays, between two passes that know all options."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from fastoptim.kernels.adapt import arguments_of
from fastoptim.kernels.launch import Launch
from fastoptim.kernels.reductions import ReductionKernels, block_launch
from fastoptim.kernels.rule import rule

Shape = tuple[int, ...]


def same_shape(shape: Shape) -> Shape:
    """The shape of state that is as long as its parameter."""
    return shape


class Matrices(NamedTuple):
    """How an optimizer updates those of its arrays that are matrices. All others follow its rule.

    Attributes:
        function: `(p, g, *state, *scalars) -> ` what is taken from the parameter, an array of its shape. It takes the
            parameter and its gradient, the state's arrays and the step's numbers, all but the first two by name. `g` is
            what the options have made of the gradient, C-contiguous, as the state's arrays are; the function may write
            into it, and into these. It is not called for a matrix without elements. An error in it leaves the step
            half made.
        slots: from the names of a matrix's state to functions that return its shape, None for none. Such a function
            takes the matrix's shape, and by name what it needs of the hyperparameters that cannot be schedules. Where
            there is no state, the first function gets None.
        for_others: from names of hyperparameters to others, whose values they have for arrays that follow the rule:
            `{"lr": "adamw_lr"}`.
    """

    function: Callable[..., Any]
    slots: Mapping[str, Callable[..., Shape | None]]
    for_others: Mapping[str, str] = MappingProxyType({})

    @property
    def scalars(self) -> tuple[str, ...]:
        """The names of the step's numbers that the function takes."""
        return tuple(name for name in arguments_of(self.function)[2:] if name not in self.slots)

    def state_shape(self, slot: str, shape: Shape, value: Callable[[str], Any]) -> Shape | None:
        """The shape of a matrix's state, None for none; `value` returns a hyperparameter."""
        if slot not in self.slots:
            return None
        shape_of = self.slots[slot]
        return shape_of(shape, **{name: value(name) for name in arguments_of(shape_of)[1:]})

    @property
    def hyperparameters(self) -> frozenset[str]:
        """The names of those that say which state there is."""
        return frozenset(name for shape in self.slots.values() for name in arguments_of(shape)[1:])


@rule
def keep_gradient(p, g, update):  # type: ignore[no-untyped-def]
    """The gradient as the options have made it: the reduction's rule that writes it down for the function."""
    return g


@rule
def take_update(p, g, update):  # type: ignore[no-untyped-def]
    """The rule of the last pass."""
    return p - update, update


class Prepared(NamedTuple):
    """The stage before the function: it writes the gradient down."""

    kernels: ReductionKernels

    @property
    def values(self) -> int:
        """It sums nothing."""
        return 0

    def including(self, fused: Any) -> "Prepared":
        """The same with options in the same pass."""
        return Prepared(self.kernels.including(fused))

    def launches(self, groups: Any, order: int) -> list[Launch]:
        """The calls that run it on the host."""
        return [block_launch(self.kernels.on_blocks, group) for group in groups]
