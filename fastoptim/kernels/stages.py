"""What a step is made of: stages, each of which goes over all arrays before the next one begins."""

from typing import Any, NamedTuple, Protocol, Self

from fastoptim.kernels import Kernels
from fastoptim.kernels.fuse import Fused
from fastoptim.kernels.rule import Rule, arguments, is_rule


class Stage(Protocol):
    """A part of a step."""

    @property
    def kernels(self) -> Kernels:
        """What runs it over the segments of a table."""

    @property
    def scalar_count(self) -> int:
        """How many numbers of a step it takes."""

    def including(self, fused: Fused) -> Self:
        """The same with options in the same pass."""


class Elementwise(NamedTuple):
    """A rule, applied to each element by itself, fused with the options around it.

    Attributes:
        rule: the function of one element.
        slots: the names of its state.
        kernels: what runs it.
    """

    rule: Rule
    slots: tuple[str, ...]
    kernels: Kernels

    @classmethod
    def of(cls, owner: str, rule: Any, slots: tuple[str, ...], writes_state: bool = True) -> "Elementwise":
        """The stage of a rule.

        Args:
            owner: the optimizer's name, for errors.
            rule: a function declared with `rule`.
            slots: the names of its state, as it has them behind `p` and `g`.
            writes_state: whether it returns the new state, too. One that returns `p` alone leaves the state as it is.

        Raises:
            TypeError: the rule is not declared, or has other slots.
        """
        if not is_rule(rule):
            raise TypeError(f"{owner}: its rule {rule!r} is not declared, put @fastoptim.rule before it")
        names = arguments(rule)[2:]
        if names[: len(slots)] != slots:
            raise TypeError(f"{owner}: its slots are {slots}, but its rule has {names} behind p and g")
        return cls(rule, slots, Kernels(rule, len(slots), owner=owner, writes_state=writes_state))

    @property
    def scalar_count(self) -> int:
        """How many numbers of a step the rule takes."""
        return self.kernels.scalar_count

    def including(self, fused: Fused) -> Self:
        """The same with options in the same pass."""
        return self._replace(kernels=self.kernels.including(fused))
