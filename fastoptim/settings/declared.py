"""The base that makes a constructor, a `repr` and checked attributes from the fields that a class declares."""

import inspect
from collections.abc import Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform

from fastoptim.settings.fields import Field, option
from fastoptim.settings.hints import INSTEAD, hint


@dataclass_transform(field_specifiers=(option,))  # anything else that a field is set to is its default to type checkers
class Declared:
    """Base of classes whose fields are declared in their body: `lr: Number = nonnegative(0.01)`.

    Fields are the constructor's arguments, in this order, and attributes. Other attributes can be assigned only if the
    class has them, or if they begin with an underscore.
    """

    _fields: ClassVar[dict[str, Field]] = {}
    _annotated: ClassVar[frozenset[str]] = frozenset()
    _signature: ClassVar[inspect.Signature]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._refuse_reserved_names()
        found: dict[str, Field] = {}
        for base in reversed(cls.__mro__):
            for name, value in list(vars(base).items()):
                plain = not hasattr(value, "__get__") or isinstance(value, FunctionType)
                if name in found and not isinstance(value, Field) and plain:
                    value = found[name].with_default(value, found)  # `lr = 0.1` in a subclass
                    setattr(base, name, value)
                if isinstance(value, Field):
                    if name in found and found[name].kw_only != value.kw_only:
                        del found[name]  # it was a keyword, and stands where it is declared now
                    found[name] = value
                else:  # a property, say
                    found.pop(name, None)
        cls._fields = dict(sorted(found.items(), key=lambda item: item[1].kw_only))
        cls._annotated = frozenset(name for base in cls.__mro__ for name in inspect.get_annotations(base))
        kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
        cls._signature = inspect.Signature(
            [inspect.Parameter(name, kinds[x.kw_only], default=x.default) for name, x in cls._fields.items()]
        )
        _, *taken = inspect.signature(cls.__init__).parameters.values()
        if [x.kind for x in taken] == [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]:
            cls.__signature__ = cls._signature  # type: ignore[attr-defined]  # what help() and inspect look at

    @classmethod
    def _refuse_reserved_names(cls) -> None:
        """Refuse fields that would hide what a class of this package has."""
        ours = [base for base in cls.__mro__[1:] if base.__module__.startswith(f"{__package__.partition('.')[0]}.")]
        for name in (name for name, value in vars(cls).items() if isinstance(value, Field)):
            others = [base for base in ours if not isinstance(vars(base).get(name), Field)]
            if any(name in vars(base) or name in inspect.get_annotations(base) for base in others):
                raise TypeError(f"{cls.__name__}: {name} is an attribute of every optimizer, expected another name")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            values = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            wrong = next((name for name in kwargs if name not in self._fields), None)
            if wrong is not None and hasattr(type(self), wrong) and wrong in self._annotated:
                declaration = f"{wrong}: Number = nonnegative({getattr(type(self), wrong)!r})"
                raise TypeError(
                    f"{type(self).__name__}.{wrong} is a plain attribute. For a hyperparameter: {declaration}"
                ) from None
            if wrong is not None:
                raise TypeError(self._unknown(wrong, "argument")) from None
            raise TypeError(f"{type(self).__name__}{self._signature}: {error}") from None
        values.apply_defaults()
        for name, value in values.arguments.items():
            setattr(self, name, value)

    if not TYPE_CHECKING:  # which should find attributes that are not there

        def __setattr__(self, name: str, value: Any) -> None:
            field = self._fields.get(name)
            if field is not None:
                old, new = self.__dict__.get(name), field.check(value, self._fields)
                self.__dict__[name] = new
                try:
                    self._assigned(field, old, new)
                except BaseException:  # nothing is half done
                    self.__dict__[name] = old
                    raise
            elif name.startswith("_") or name in self._annotated or hasattr(type(self), name):
                super().__setattr__(name, value)
            else:
                raise AttributeError(self._unknown(name))

        def __delattr__(self, name: str) -> None:
            if name in self._fields:
                raise AttributeError(f"{type(self).__name__}.{name} is a hyperparameter: expected it to be assigned")
            super().__delattr__(name)

    def _unknown(self, name: str, what: str = "attribute") -> str:
        own = [field.name for field in self._fields.values() if not field.kw_only]
        options = [field.name for field in self._fields.values() if field.kw_only]
        others = {key: _own_fields(other) for key, other in self._relatives().items()}
        meant = INSTEAD.get(name, "") if what == "attribute" else ""
        meant = meant or hint(name, [*own, *options], others)
        text = (
            f"{type(self).__name__} has no {what} {name!r}{f': {meant}' * bool(meant)}. "
            f"Its hyperparameters are {', '.join(own) or 'none'}; its options {', '.join(options)}"
        )
        if what == "attribute":
            text += ". An attribute of your own is declared in the class's body, or begins with an underscore"
        return text

    @classmethod
    def _relatives(cls) -> "Mapping[str, type[Declared]]":
        """Other classes by name, for hints: what this class does not have, one of them may have."""
        return {}

    def _assigned(self, field: Field, old: Any, new: Any) -> None:
        """Called when a field was assigned."""

    def hyperparameters(self) -> dict[str, Any]:
        """Their values by name, in order."""
        return {name: getattr(self, name) for name in self._fields}

    def not_initialised(self) -> TypeError:
        """The error where a subclass's `__init__` did not call this class's."""
        cls = type(self)
        code = getattr(cls.__init__, "__code__", None)
        where = f" ({code.co_filename}, line {code.co_firstlineno})" if code else ""
        return TypeError(f"{cls.__name__}.__init__{where} has to call super().__init__() before anything else")

    def __repr__(self) -> str:
        values = ", ".join(
            f"{name}={value!r}"
            for name, value in self.hyperparameters().items()
            if not self._fields[name].kw_only or value != self._fields[name].default
        )
        return f"{type(self).__name__}({values})"


def _own_fields(cls: type[Declared]) -> list[str]:
    """The names of a class's hyperparameters, without the options."""
    fields: Mapping[str, Field] = vars(cls)["_fields"]
    return [name for name, field in fields.items() if not field.kw_only]
