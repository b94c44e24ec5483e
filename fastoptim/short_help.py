"""Keeps `help(fastoptim)` short."""

import inspect
from pathlib import Path


class ShortHelp(list[str]):
    """A module's `__all__`, in which pydoc finds no class.

    It would print each class with all that it inherits: 2,800 lines. The module's docstring lists the classes instead.
    """

    def __contains__(self, name: object) -> bool:
        frame = inspect.currentframe()
        asker = frame.f_back.f_code.co_filename if frame is not None and frame.f_back is not None else ""
        return super().__contains__(name) and not (Path(asker).name == "pydoc.py" and str(name)[:1].isupper())
