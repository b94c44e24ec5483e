"""The numbers of a step: one row for each kind of name, and what makes them."""

from typing import Any, NamedTuple, Protocol

Kind = tuple[Any, int | None]  # what tells names apart in a step: their cohort, and the number of their group


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


class Row(NamedTuple):
    """The numbers of a step for the names of one kind.

    Attributes:
        scalars: those of the rule, and behind them those of the options.
        carry: what the optimizer carries on, None if it carries nothing.
        t: the step, 1 at the first.
        returned: what `scalars` returned.
    """

    scalars: tuple[float, ...]
    carry: float | None
    t: int
    returned: tuple[float, ...]


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
