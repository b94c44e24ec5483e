"""The numbers of a step: one row for each kind of name, and what makes them."""

from typing import Any, Protocol

Kind = tuple[Any, int]  # what tells names apart in a step: their cohort, and the number of their group, 0 for none


class Numbers(Protocol):
    """What makes an optimizer's own numbers of a step."""

    @property
    def carry(self) -> float | None:
        """What is carried into the step, None for nothing."""

    def hyperparameters(self) -> dict[str, Any]:
        """The fields' values by name."""

    def scalars(self, t: int) -> tuple[float, ...]:
        """The numbers of step `t`."""

    def next_carry(self, t: int) -> float | None:
        """What is carried on from step `t`."""


def numbers_of(numbers: Numbers, t: int, carry: float | None) -> tuple[Any, float | None]:
    """What `scalars` returns for step `t`, and what is carried on from it.

    Meanwhile the attribute `carry` is what is carried on. The caller takes it away again.

    Args:
        numbers: what makes them.
        t: the step.
        carry: what the step before has carried on, None for nothing.

    Raises:
        TypeError: `next_carry` returns no number.
    """
    if carry is not None:
        attributes = vars(numbers)
        attributes["carry"] = carry
        attributes["carry"] = carry = _carried(numbers, t)
    return numbers.scalars(t), carry


def _carried(numbers: Numbers, t: int) -> float:
    carry = numbers.next_carry(t)
    try:
        if isinstance(carry, str) or carry is None:
            raise TypeError
        return float(carry)
    except (TypeError, ValueError):
        raise TypeError(f"{type(numbers).__name__}.next_carry({t}): expected a number, got {carry!r}") from None


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
        self.carries: list[float | None] = []
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
