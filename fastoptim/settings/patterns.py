"""Glob patterns of names: those of `groups` and of `frozen`."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from fastoptim.settings.fields import Field


class Patterns(Field):
    """A glob pattern, or a list or tuple of them; kept as a tuple."""

    is_common = True

    if TYPE_CHECKING:

        def __get__(self, instance: Any, owner: Any = None) -> tuple[str, ...]: ...
        def __set__(self, instance: Any, value: str | Sequence[str]) -> None: ...

    def check(self, value: Any, fields: Mapping[str, Field]) -> tuple[str, ...]:
        patterns = (value,) if isinstance(value, str) else value
        if not isinstance(patterns, list | tuple) or not all(isinstance(pattern, str) for pattern in patterns):
            raise self.refusal("a glob pattern, or a list or tuple of them", value)
        return tuple(patterns)


def patterns(*default: str) -> Any:
    """Glob patterns of names. Each has to match one."""
    return Patterns(default)


def first_match(patterns: Iterable[str], name: Any) -> int | None:
    """The number of the first pattern that matches a name."""
    return next((i for i, pattern in enumerate(patterns) if fnmatchcase(str(name), pattern)), None)


def check_matched(option: str, patterns: Iterable[str], names: Iterable[Any], given: Iterable[Any]) -> None:
    """Refuse a pattern that matches nothing.

    Args:
        option: which one the patterns are of.
        patterns: of it.
        names: all names that are known.
        given: those of the call, for the error.

    Raises:
        ValueError
    """
    known = [str(name) for name in names]
    for pattern in patterns:
        if any(fnmatchcase(name, pattern) for name in known):
            continue
        hint = ""
        if pattern in known:
            hint = f". In a pattern [ begins a set of characters: write {pattern.replace('[', '[[]')!r}"
        raise ValueError(
            f"{option}[{pattern!r}]: expected a pattern that matches a name of params, which are "
            f"{', '.join(map(repr, given)) or 'none'}{hint}. A name that comes later may be there with a gradient of "
            "None until then"
        )
