"""Other hyperparameters for some of the names."""

from collections.abc import Iterator, Mapping
from typing import Any

from fastoptim.settings.fields import Field, Switch

# The options that may differ from name to name. An optimizer may declare a hyperparameter of the same name. Then the
# option is off, with this value.
OFF = {
    "weight_decay": 0.0,
    "decoupled": False,
    "clip_value": None,
    "maximize": False,
    "bounds": None,
    "nonnegative": False,
}


class ReadOnly(Mapping[Any, Any]):
    """A dict that cannot be written into: the optimizer would not notice. Unlike a mapping proxy, it can be pickled."""

    def __init__(self, values: Mapping[Any, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, key: Any) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)


class Groups(Field):
    """From a glob pattern to hyperparameters by name, or None. What is read cannot be written into."""

    def check(self, value: Any, fields: Mapping[str, Field]) -> Any:
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.refusal("a mapping from glob patterns to hyperparameters, or None", value)
        may_differ = [name for name, x in fields.items() if _may_differ(x)]
        checked: dict[str, Any] = {}
        for pattern, values in value.items():
            if not isinstance(pattern, str) or not isinstance(values, Mapping):
                raise self.refusal("a mapping from glob patterns to hyperparameters", {pattern: values})
            own = {}
            for name, each in values.items():
                if name not in may_differ:
                    raise ValueError(f"groups[{pattern!r}]: expected one of {', '.join(may_differ)}, got {name!r}")
                try:
                    own[name] = fields[name].check(each, fields)
                except ValueError as error:
                    raise ValueError(f"groups[{pattern!r}]: {error}") from None
            checked[pattern] = ReadOnly(own)
        return ReadOnly(checked)


def _may_differ(field: Field) -> bool:
    """Whether groups may have other values of a field."""
    chooses_for_all = field.is_common or (field.chooses_rule and isinstance(field, Switch))
    return (not field.kw_only or field.name in OFF) and not chooses_for_all
