"""What an algorithm says: its rule, its state's names, and the numbers of a step."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar

from fastoptim.kernels import Kernels
from fastoptim.kernels.rule import Rule
from fastoptim.kernels.stages import Elementwise, Stage
from fastoptim.settings.documented import documented
from fastoptim.settings.fields import AlwaysOff, Switch
from fastoptim.settings.options import Options
from fastoptim.settings.rows import WrongScalarsError, numbers_of

A = TypeVar("A", bound="Algorithm")
_numbers = itertools.count()


OF_THE_STAGE: dict[str, Callable[[Elementwise], Any]] = {
    "rule": lambda stage: stage.rule,
    "kernels": lambda stage: stage.kernels,
    "stages": lambda stage: (stage,),
}


class _OfTheStage:
    """An attribute that a class has from its own rule, and an optimizer from the rule that its switch chooses."""

    def __init__(self, read: Callable[[Elementwise], Any]) -> None:
        self._read = read

    def __get__(self, instance: Any, owner: Any) -> Any:
        return self._read(owner.own_stage if instance is None else instance.stage)


class Algorithm(Options):
    """What a subclass declares beside its hyperparameters.

    Attributes:
        rule: a function declared with `fastoptim.rule`. A switch may choose another one: `switch(False, rule=...)`.
        slots: the names of the state, as the rule has them behind `p` and `g`.
        stages: what a step is made of; by default the rule, element by element.
        kernels: the rule's kernels, to call them yourself.
        carry: a number that `scalars` needs from all steps before, such as a product of momentums. A class that has one
            sets it to the number before the first step, and `next_carry` returns the number after each step. Each name
            has its own: it is counted, saved and restored with the name's steps. `scalars` reads it as `self.carry`.
        full_batch: whether steps need the gradient of all data, as the noise of small batches misleads them.
    """

    rule: ClassVar[Rule]
    slots: ClassVar[tuple[str, ...]] = ()
    stages: ClassVar[tuple[Stage, ...]] = ()
    kernels: ClassVar[Kernels]
    own_stage: ClassVar[Elementwise]
    _number: ClassVar[int]
    _switched: ClassVar[tuple[str, Elementwise] | None] = None
    carry: ClassVar[float | None] = None
    full_batch: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "rule" in vars(cls):
            cls._keep_switches_off()
        super().__init_subclass__(**kwargs)
        name = cls.__name__
        if "rule" in vars(cls):
            declared = vars(cls)["rule"]
            cls.own_stage = Elementwise.of(name, getattr(declared, "__func__", declared), cls.slots)
            for attribute, read in OF_THE_STAGE.items():
                setattr(cls, attribute, _OfTheStage(read))
        for key, field in list(vars(cls).items()):
            if isinstance(field, Switch) and field.rule is not None:
                if cls._switched and cls._switched[0] != key:
                    found = f"{cls._switched[0]} and {key}"
                    raise TypeError(f"{name}: expected one switch that chooses a rule, found {found}")
                cls._switched = key, Elementwise.of(f"{name}({key}=True)", field.rule, cls.slots)
        if hasattr(cls, "own_stage"):
            cls.__doc__ = documented(cls, Options.__doc__, cls._signature)
        cls._number = next(_numbers)  # the class is complete

    @classmethod
    def _keep_switches_off(cls) -> None:
        """Keep off a base class's switch that chooses a variant of the base's rule: this class has another rule."""
        for key, field in cls._fields.items():
            own = vars(cls).get(key, False)
            if isinstance(field, Switch) and field.rule is not None and not isinstance(own, Switch):
                off = AlwaysOff(False)
                off.name = key
                setattr(cls, key, off.with_default(own, cls._fields))
                cls._switched = None

    @property
    def stage(self) -> Elementwise:
        """The class's rule, or that of the switch that is on."""
        if self._switched and vars(self).get(self._switched[0]):
            return self._switched[1]
        return self.own_stage

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

    def successive_scalars(self) -> Iterator[tuple[float, ...]]:
        """What `scalars` returns for step 1, 2, 3, ..., without end, with what is carried from one to the next.

        For kernels that are called by hand. Numbers that are assigned meanwhile hold from the next step. Schedules are
        not asked: assign what they say.
        """
        carry = type(self).carry
        for t in itertools.count(1):
            try:
                scalars, carry = numbers_of(self, t, carry)
            finally:
                vars(self).pop("carry", None)
            yield scalars

    def complaint(self, error: WrongScalarsError) -> ValueError:
        """What is wrong with what `scalars` returned, in a sentence."""
        code = getattr(type(self).scalars, "__code__", None)
        where = f" ({code.co_filename}, line {code.co_firstlineno})" if code else ""
        names = self.kernels.scalar_names
        expected = f"expected {len(names)} float{'s' * (len(names) != 1)} ({', '.join(names)})"
        return ValueError(f"{type(self).__name__}.scalars({error.t}): {expected}, got {error.returned}{where}")


def subclasses(base: type[A]) -> dict[str, type[A]]:
    """The subclasses that have a rule, by name, in the order in which they were defined.

    Names that begin with an underscore are left out. Of two classes with one name, the last one counts.
    """
    found: list[type[A]] = []
    pending = [base]
    while pending:
        classes = pending.pop().__subclasses__()
        complete = [cls for cls in classes if "_number" in vars(cls)]  # others were refused, and wait for their end
        found += [cls for cls in complete if hasattr(cls, "rule") and not cls.__name__.startswith("_")]
        pending += classes
    return {cls.__name__: cls for cls in sorted(found, key=lambda cls: cls._number)}
