"""What an algorithm says: its rule, its state's names, and the numbers of a step."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from fastoptim.kernels.stages import Elementwise
from fastoptim.settings.fields import Switch
from fastoptim.settings.options import Options
from fastoptim.settings.rows import WrongScalarsError


class _OfTheRule:
    """`rule`, `kernels` and `stages`: of a class, its own; of an optimizer, those that its switches choose."""

    def __init__(self, read: Callable[[Elementwise], Any]) -> None:
        self._read = read

    def __get__(self, instance: Any, owner: Any) -> Any:
        return self._read(owner.elementwise if instance is None else instance.chosen)


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
    """

    rule: ClassVar[Any]
    slots: ClassVar[tuple[str, ...]] = ()
    stages: ClassVar[Any] = ()
    kernels: ClassVar[Any]
    elementwise: ClassVar[Elementwise]
    _by_switch: ClassVar[Mapping[str, Elementwise]] = {}
    carry: ClassVar[float | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        name, slots = cls.__name__, cls.slots
        if "rule" in vars(cls):
            cls.elementwise, cls._by_switch = Elementwise.of(name, vars(cls)["rule"], slots), {}
            cls.rule = _OfTheRule(lambda chosen: chosen.rule)
            cls.kernels = _OfTheRule(lambda chosen: chosen.kernels)
            cls.stages = _OfTheRule(lambda chosen: (chosen,))
        rules = {key: x.rule for key, x in vars(cls).items() if isinstance(x, Switch) and x.rule is not None}
        own = {key: Elementwise.of(name, each, slots) for key, each in rules.items()}
        cls._by_switch = {**cls._by_switch, **own}

    @property
    def chosen(self) -> Elementwise:
        """The class's rule, or that of the switch that is on.

        Raises:
            ValueError: the switch is one of a base class, and the rule is not.
        """
        for name, field in self._fields.items():
            if isinstance(field, Switch) and field.rule is not None and getattr(self, name):
                if name not in self._by_switch:
                    raise ValueError(f"{name}: expected False, as {type(self).__name__} has a rule of its own")
                return self._by_switch[name]
        return self.elementwise

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


A = TypeVar("A", bound=Algorithm)


def subclasses(base: type[A]) -> dict[str, type[A]]:
    """The subclasses that have a rule, by name. Names that begin with an underscore are left out.

    Of two classes with one name, the one that was defined last counts.
    """
    found: dict[str, type[A]] = {}
    pending = [base]
    while pending:
        classes = pending.pop(0).__subclasses__()
        found |= {cls.__name__: cls for cls in classes if hasattr(cls, "rule") and not cls.__name__.startswith("_")}
        pending += classes
    return found
