"""Which statistics are measured."""

from collections.abc import Mapping
from typing import Any

from fastoptim.kernels.measures import NAMES
from fastoptim.settings.fields import Field


class Names(Field):
    """Names of statistics: one, or several in a list or tuple, each once."""

    def check(self, value: Any, fields: Mapping[str, Field]) -> tuple[str, ...]:
        names = (value,) if isinstance(value, str) else value
        expected = f"some of {', '.join(NAMES)}"
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise self.refusal(expected, value)
        for name in names:
            if name not in NAMES:
                raise self.refusal(expected, name)
        if len(set(names)) < len(names):
            raise self.refusal("each name once", value)
        return tuple(names)
