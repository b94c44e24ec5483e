"""What an algorithm says: its rule, its state's names, and the numbers of a step."""

from typing import Any, ClassVar

from fastoptim.kernels import Kernels
from fastoptim.kernels.rule import Rule
from fastoptim.kernels.stages import Elementwise, Stage
from fastoptim.settings.options import Options
from fastoptim.settings.rows import WrongScalarsError


class Algorithm(Options):
    """What a subclass declares beside its hyperparameters.

    Attributes:
        rule: a function declared with `fastoptim.rule`.
        slots: the names of the state, as the rule has them behind `p` and `g`.
        stages: what a step is made of; by default the rule, element by element.
        kernels: the rule's kernels, to call them yourself.
        carry: a number that `scalars` needs from all steps before, such as a product of momentums. A class that has one
            sets it to the number before the first step, and `next_carry` returns the number after each step. Each name
            has its own: it is counted, saved and restored with the name's steps. `scalars` reads it as `self.carry`.
    """

    rule: ClassVar[Rule]
    slots: ClassVar[tuple[str, ...]] = ()
    stages: ClassVar[tuple[Stage, ...]] = ()
    kernels: ClassVar[Kernels]
    carry: ClassVar[float | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "rule" in vars(cls):
            elementwise = Elementwise.of(cls.__name__, cls.rule, cls.slots)
            cls.stages, cls.kernels = (elementwise,), elementwise.kernels
            cls.rule = staticmethod(cls.rule)  # an attribute of the class that is no method

    def scalars(self, t: int) -> tuple[float, ...]:
        """The numbers of step `t` (1 is the first) that the rule has behind its state, computed in float64.

        It is called once for each step and each kind of name: names differ in their group, in how many steps they have
        made, and in what they carry. Meanwhile the attributes have the kind's values: those of its group, and what
        schedules say. So it has to be a pure function of `t`, the hyperparameters and `carry`. It may not count calls,
        keep numbers for later, or assign attributes.

        Returns:
            A tuple of floats, in the order of the rule's last arguments.
        """
        raise NotImplementedError(f"{type(self).__name__}.scalars(t): expected a tuple of the rule's last arguments")

    def next_carry(self, t: int) -> float | None:
        """The carry after step `t`, where `self.carry` is the one before it. Pure, and called before `scalars`."""
        return self.carry

    def complaint(self, error: WrongScalarsError) -> ValueError:
        """What is wrong with what `scalars` returned, in a sentence."""
        code = getattr(type(self).scalars, "__code__", None)
        where = f" ({code.co_filename}, line {code.co_firstlineno})" if code else ""
        names = self.kernels.scalar_names
        expected = f"expected {len(names)} float{'s' * (len(names) != 1)} ({', '.join(names)})"
        return ValueError(f"{type(self).__name__}.scalars({error.t}): {expected}, got {error.returned}{where}")
