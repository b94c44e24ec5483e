"""The numbers of a step: one row for each kind of name, and what makes them."""

from typing import Any, Protocol

from fastoptim.settings.carry import Carry, carried

Kind = tuple[Any, int]  # what tells names apart in a step: their cohort, and the number of their group, 0 for none


class Numbers(Protocol):
    """What makes an optimizer's own numbers of a step."""

    @property
    def carry(self) -> Carry:
        """What is carried, None for nothing."""

    def hyperparameters(self) -> dict[str, Any]:
        """The fields' values by name."""

    def scalars(self, t: int) -> tuple[float, ...]:
        """The numbers of step `t`."""

    def next_carry(self, t: int) -> Carry:
        """What is carried on from step `t`."""

    def evaluation_scalars(self, t: int) -> tuple[float, ...]:
        """The numbers of the evaluation parameters after step `t`."""


def numbers_of(numbers: Numbers, t: int, carry: Carry) -> tuple[Any, Carry]:
    """What `scalars` returns for step `t`, and what is carried on from it.

    While `scalars` is asked, the attribute `carry` is what is carried on, and `carry_before` is what was carried into
    the step.

    Args:
        numbers: what makes them.
        t: the step.
        carry: what the step before has carried on, None for nothing.

    Raises:
        TypeError: `next_carry` returns something else than a carry.
    """
    if carry is None:
        return numbers.scalars(t), None
    attributes = vars(numbers)
    attributes["carry"] = attributes["carry_before"] = carry
    try:
        returned = numbers.next_carry(t)
        try:
            attributes["carry"] = after = carried(returned, carry)
        except TypeError as error:
            raise TypeError(f"{type(numbers).__name__}.next_carry({t}): {error}") from None
        return numbers.scalars(t), after
    finally:
        attributes.pop("carry", None)
        attributes.pop("carry_before", None)


def evaluation_numbers_of(numbers: Numbers, t: int, carry: Carry) -> tuple[Any, Carry]:
    """What `evaluation_scalars` returns after step `t`, which has carried on the attribute `carry`; and that carry."""
    attributes = vars(numbers)
    attributes["carry"] = carry
    try:
        return numbers.evaluation_scalars(t), carry
    finally:
        attributes.pop("carry", None)


class Rows:
    """The numbers of a step.

    Attributes:
        scalars: for each kind of name, one row behind the other: those of the rule, then those of the options. The last
            number of a row is `clip_coef`, where gradients are clipped by their norm.
        carries: for each kind, what the optimizer carries on, None if it carries nothing.
        returned: for each kind, what `scalars` returned.
    """

    __slots__ = ("carries", "returned", "scalars")

    def __init__(self) -> None:
        self.scalars: list[float] = []
        self.carries: list[Carry] = []
        self.returned: list[Any] = []

    @property
    def width(self) -> int:
        """How many numbers a row has; 1 where there is no row."""
        return len(self.scalars) // len(self.carries) if self.scalars else 1

    def set_clip_coef(self, coef: float) -> None:
        """Write the last number of each row."""
        width = self.width
        self.scalars[width - 1 :: width] = [coef] * len(self.carries)

    def without_clip_coef(self) -> list[float]:
        """All but the last number of each row, for a device that has it already."""
        width = self.width
        return [x for i, x in enumerate(self.scalars, 1) if i % width]


class WrongScalarsError(Exception):
    """What `scalars` returned is no tuple of the rule's numbers.

    Attributes:
        returned: it, in words.
        t: the step that it was asked for, None where that is not known.
        dtype: that which cannot hold them, None where they are wrong for any.
    """

    def __init__(self, returned: str, t: int | None = None, dtype: Any = None) -> None:
        super().__init__(returned, t, dtype)
        self.returned, self.t, self.dtype = returned, t, dtype
