"""What an algorithm says: its rule, its state's names, and the numbers of a step."""

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np

from fastoptim.kernels import Kernels
from fastoptim.kernels.matrices import Matrices
from fastoptim.kernels.rule import Rule
from fastoptim.kernels.stages import Elementwise, Reduction, evaluation_stage, matrix_stages, stages_of
from fastoptim.settings.carry import Carry
from fastoptim.settings.carry import declared as declared_carry
from fastoptim.settings.documented import documented
from fastoptim.settings.fields import AlwaysOff, Field, Refused, Switch
from fastoptim.settings.options import Options
from fastoptim.settings.rows import WrongScalarsError, numbers_of
from fastoptim.settings.state_format import StateFormat

A = TypeVar("A", bound="Algorithm")
_numbers = itertools.count()
# Options that are refused beside evaluation parameters. `averaged` can only give one average. And evaluation parameters
# follow from the state: what an option does to a parameter after the rule does not reach them.
BESIDE_EVALUATION = {
    "ema": "the optimizer has evaluation parameters of its own, see `averaged`",
    **dict.fromkeys(["cautious", "bounds", "nonnegative"], "the parameters that `averaged` gives would not hold to it"),
}

Stages = tuple[Any, ...]  # the last one is elementwise
OF_THE_STAGES: dict[str, Callable[[Stages], Any]] = {
    "rule": lambda stages: stages[-1].rule,
    "slots": lambda stages: stages[-1].slots,
    "kernels": lambda stages: stages[-1].kernels,
    "stages": lambda stages: stages,
}


class _OfTheStages:
    """An attribute of the stages: a class has that of its own rule, an optimizer that of its variant."""

    def __init__(self, read: Callable[[Stages], Any]) -> None:
        self._read = read

    def __get__(self, instance: Any, owner: Any) -> Any:
        return self._read(owner.variant_stages[()] if instance is None else instance.stages_of(instance.variant))


class Algorithm(Options):
    """What a subclass declares beside its hyperparameters.

    Attributes:
        rule: a function declared with `fastoptim.rule`.
        slots: the names of the state, as the rule has them behind `p` and `g`.
        variants: other rules by the hyperparameters that choose them: `{("amsgrad",): other}`, or `(other, slots)` if
            its state is another one. It is the rule while these hyperparameters are on, and no others of those that are
            named here. A switch is on when it is True; a number when it is positive or a schedule, here or in a group.
        variant: of an optimizer, the names of those that are on, in the order of their declaration.
        reductions: what is summed over each array before the rule, see `Reduction`.
        array_slots: names of the state's numbers that each array has one of. Behind them, after the class is made, come
            those of `shared_slots`. Arrays that `matrices` updates have none.
        shared_slots: names of numbers of the state that all arrays share.
        nonnegative_slots: names of slots whose numbers are never negative, as those of a second moment. In 8 bits,
            their roots are kept.
        parameter_slots: names of slots that hold parameters, for which 8 bits are too coarse: they stay float32.
        matrices: how matrices are updated, where they do not follow the rule.
        stages: what a step is made of: the reductions, and the rule, element by element.
        matrix_stages: what is around the function of `matrices`.
        kernels: the rule's kernels, to call them yourself.
        evaluation: a rule `(p, g, *slots, *numbers) -> p` for the parameters that a model is judged with, where these
            are others than those it is trained with. It has the slots of the rule, leaves the state as it is, and takes
            `p` for `g`. `with opt.averaged(params):` puts its results in the place of the parameters for a while.
        carry: a number that `scalars` needs from all steps before, such as a product of momentums; or a tuple of
            numbers, which may be a named one. A class that has one sets it to what it is before the first step, and
            `next_carry` returns what it is after each step. Each name has its own: it is counted, saved and restored
            with the name's steps. `scalars` reads it as `self.carry`.
        carry_before: while `scalars` is asked, the carry before the step, where `carry` is the one after it.
        full_batch: whether steps need the gradient of all data, as the noise of small batches misleads them.
    """

    rule: ClassVar[Rule]
    slots: ClassVar[tuple[str, ...]] = ()
    variants: ClassVar[Mapping[tuple[str, ...], Rule | tuple[Rule, tuple[str, ...]]]] = {}
    # An optimizer has its own. Type checkers would take an annotated one for a hyperparameter.
    variant: ClassVar[tuple[str, ...]] = ()
    reductions: ClassVar[tuple[Reduction, ...]] = ()
    array_slots: ClassVar[tuple[str, ...]] = ()
    shared_slots: ClassVar[tuple[str, ...]] = ()
    nonnegative_slots: ClassVar[tuple[str, ...]] = ()
    parameter_slots: ClassVar[tuple[str, ...]] = ()
    matrices: ClassVar[Matrices | None] = None
    stages: ClassVar[Stages] = ()
    matrix_stages: ClassVar[Stages] = ()
    kernels: ClassVar[Kernels]
    variant_stages: ClassVar[Mapping[tuple[str, ...], Stages]]
    _number: ClassVar[int]
    _shaping: ClassVar[frozenset[str]] = frozenset()  # names of the fields that say which state a matrix has
    evaluation: ClassVar[Rule | None] = None
    evaluation_stage: ClassVar[Elementwise | None] = None
    carry: ClassVar[Carry] = None
    carry_before: ClassVar[Carry] = None
    full_batch: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        own = vars(cls)
        if "rule" in own:  # what belongs to a base class's rule does not belong to this one
            cls.variants, cls.reductions = own.get("variants", {}), own.get("reductions", ())
            cls.shared_slots, cls.matrices = own.get("shared_slots", ()), own.get("matrices")
            cls.array_slots = *own.get("array_slots", ()), *cls.shared_slots
            cls.nonnegative_slots = own.get("nonnegative_slots", ())
            cls.parameter_slots = own.get("parameter_slots", ())
        elif found := own.keys() & {"reductions", "array_slots", "shared_slots", "matrices"}:
            raise TypeError(
                f"{cls.__name__}: expected its `rule` beside {', '.join(sorted(found))}, as they go together"
            )
        if "rule" in own or "variants" in own:
            cls._mark_choosing_fields()
        if "evaluation" in own:
            cls._refuse_options()
        super().__init_subclass__(**kwargs)
        if "rule" in own or ("variants" in own and hasattr(cls, "variant_stages")):
            cls.variant_stages = cls._stages_of_variants()
            if cls.matrices is not None:
                scalars = cls.variant_stages[()][-1].kernels.scalar_names
                cls.matrix_stages = matrix_stages(cls.__name__, cls.matrices, scalars)
            cls._for_others = cls.matrices.for_others if cls.matrices is not None else {}
            shaping = cls.matrices.hyperparameters if cls.matrices is not None else ()
            cls._shaping = frozenset({"groups", *shaping} if shaping else ())
            for attribute, read in OF_THE_STAGES.items():
                setattr(cls, attribute, _OfTheStages(read))
        if {"rule", "variants", "slots", "evaluation"} & own.keys():
            cls._declare_evaluation()
        if hasattr(cls, "variant_stages"):
            cls._check_kinds_of_slots()
            cls.__doc__ = documented(cls, Options.__doc__, cls._signature)
        cls.carry = cls.carry_before = declared_carry(cls.carry, cls.__name__)
        cls._number = next(_numbers)  # the class is complete

    @classmethod
    def _check_kinds_of_slots(cls) -> None:
        """Refuse names in its own `nonnegative_slots` and `parameter_slots` that are no slots, or are in both."""
        known = sorted({slot for stages in cls.variant_stages.values() for slot in stages[-1].slots})
        for attribute in vars(cls).keys() & {"nonnegative_slots", "parameter_slots"}:
            found = getattr(cls, attribute)
            if isinstance(found, str) or any(slot not in known for slot in found):
                names = ", ".join(map(repr, known)) or "none"
                raise TypeError(f"{cls.__name__}.{attribute}: expected a tuple of slots ({names}), found {found!r}")
        for slot in {*cls.nonnegative_slots} & {*cls.parameter_slots}:
            raise TypeError(f"{cls.__name__}: expected {slot!r} to be nonnegative or a parameter, found it in both")

    @classmethod
    def _mark_choosing_fields(cls) -> None:
        """Let the fields that choose a rule know it. A base class's switch that chooses none here is always off."""
        own, choosing = vars(cls), {name for key in cls.variants for name in key}
        fields = {**cls._fields, **{name: x for name, x in own.items() if isinstance(x, Field)}}
        for name in sorted(choosing - fields.keys()):
            raise TypeError(f"{cls.__name__}.variants: expected names of hyperparameters, found {name!r}")
        for name, field in fields.items():
            if field.chooses_rule == (name in choosing):
                continue
            if name not in choosing and isinstance(field, Switch):
                changed: Field = AlwaysOff(False)
                changed.name = name
            else:
                changed = copy.copy(field)
                changed.chooses_rule = name in choosing
            default = own.get(name, field)
            setattr(cls, name, changed if isinstance(default, Field) else changed.with_default(default, cls._fields))

    @classmethod
    def _refuse_options(cls) -> None:
        """Refuse options that do not go together with evaluation parameters."""
        for name, why in BESIDE_EVALUATION.items():
            field = Options._fields[name]
            setattr(cls, name, field if cls.evaluation is None else Refused(name, field.default, why))

    @classmethod
    def _declare_evaluation(cls) -> None:
        rule, cls.evaluation_stage = cls.evaluation, None
        if rule is None:
            return
        owner = f"{cls.__name__}.evaluation"
        cls.evaluation = staticmethod(rule)
        cls.evaluation_stage = evaluation_stage(owner, rule, cls.slots)
        if cls.matrices is not None:
            raise TypeError(f"{owner}: expected no `matrices`, which have no state that the rule could take")
        for variant, stages in cls.variant_stages.items():
            if stages[-1].slots != cls.slots:
                raise TypeError(f"{owner}: its slots are {cls.slots}, but with {variant} they are {stages[-1].slots}")

    @classmethod
    def _stages_of_variants(cls) -> dict[tuple[str, ...], Stages]:
        """The stages of the class's own rule, and those of its variants, by the names that are on."""
        declared = vars(cls).get("rule", cls.rule)
        others = cls.array_slots, cls.shared_slots, cls.reductions, cls.matrices
        stages: dict[tuple[str, ...], Stages] = {}
        stages[()] = stages_of(cls.__name__, getattr(declared, "__func__", declared), cls.slots, *others)
        for key, value in cls.variants.items():
            rule, slots = value if isinstance(value, tuple) else (value, cls.slots)
            if cls.matrices is not None and slots != cls.slots:
                raise TypeError(
                    f"{cls.__name__}.variants: expected the slots {cls.slots}, as it has matrices; got {slots}"
                )
            names = tuple(name for name in cls._fields if name in key)
            stages[names] = stages_of(f"{cls.__name__} with {', '.join(names)}", rule, slots, *others)
        return stages

    @classmethod
    def variant_of(cls, values: Mapping[str, Any]) -> tuple[str, ...]:
        """The names of the hyperparameters that choose the rule and are on in these values, or in one of the groups."""
        members = [values, *(values.get("groups") or {}).values()]
        choosing = (field for field in cls._fields.values() if field.chooses_rule)
        return tuple(x.name for x in choosing if any(x.is_on(each[x.name]) for each in members if x.name in each))

    @classmethod
    def stages_of(cls, variant: tuple[str, ...]) -> Stages:
        """The stages of a variant.

        Raises:
            ValueError: there is none for these hyperparameters.
        """
        try:
            return cls.variant_stages[variant]
        except KeyError:
            known = ", or ".join(" and ".join(names) for names in cls.variant_stages if names)
            found = " and ".join(variant)
            raise ValueError(f"{cls.__name__}: expected {known} to be on, or none of them; found {found}") from None

    def is_matrix(self, name: Any, shape: tuple[int, ...]) -> bool:
        """Whether a parameter is updated by the function of `matrices`."""
        return self.matrices is not None and len(shape) == 2

    @property
    def stored_slots(self) -> tuple[str, ...]:
        """The slots that all parameters have, each as long as the parameter."""
        return () if self.matrices is not None else self.slots

    def state_format(self, dtype: np.dtype[Any] | None) -> StateFormat:
        """How the stored slots lie in memory, for a dtype of those of float32."""
        return StateFormat(dtype, frozenset(self.nonnegative_slots), frozenset(self.parameter_slots))

    @property
    def shaped_slots(self) -> tuple[str, ...]:
        """The slots of other shapes, or of some parameters alone."""
        of_elements = () if self.matrices is None else (*self.slots, *self.matrices.slots)
        return tuple(dict.fromkeys((*of_elements, *self.array_slots)))

    def state_shape(self, slot: str, name: Any, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """The shape of a parameter's state in one of the `shaped_slots`, None where it has none."""
        if self.matrices is not None and self.is_matrix(name, shape):
            return self.matrices.state_shape(slot, shape, lambda field: self.value_for(name, field))
        if slot in self.array_slots:
            return ()
        return shape if slot in self.slots else None

    def scalars(self, t: int) -> tuple[float, ...]:
        """The numbers of step `t` (1 is the first) that the rule has behind its state, computed in float64.

        It is called once for each step and each kind of name: names differ in their group, in how many steps they have
        made, and in what they carry. Meanwhile the attributes have the kind's values: those of its group, and what
        schedules say. So it has to be a pure function of `t`, the hyperparameters, `carry` and `carry_before`. It may
        not count calls, keep numbers for later, or assign attributes.

        Returns:
            A tuple of floats, in the order of the rule's last arguments.
        """
        raise NotImplementedError(f"{type(self).__name__}.scalars(t): expected a tuple of the rule's last arguments")

    def next_carry(self, t: int) -> Carry:
        """The carry after step `t`, where `self.carry` is the one before it. Pure, and called before `scalars`."""
        return self.carry

    def evaluation_scalars(self, t: int) -> tuple[float, ...]:
        """The numbers that the rule `evaluation` has behind the state, after step `t`.

        It is as pure as `scalars`, and sees the attributes as that one did at step `t`.
        """
        return ()

    def successive_scalars(self) -> Iterator[tuple[float, ...]]:
        """What `scalars` returns for step 1, 2, 3, ..., without end, with what is carried from one to the next.

        For kernels that are called by hand. Numbers that are assigned meanwhile hold from the next step. Schedules are
        not asked: assign what they say.
        """
        carry = type(self).carry
        for t in itertools.count(1):
            scalars, carry = numbers_of(self, t, carry)
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
