"""Keeps `help(fastoptim)` short."""

import inspect


class ShortHelp(list[str]):
    """A module's `__all__`, in which pydoc finds no class.

    It would print each class with all that it inherits: 2,800 lines. The module's docstring lists the classes instead.
    """

    def __contains__(self, name: object) -> bool:
        frame = inspect.currentframe()
        asker = frame.f_back.f_globals.get("__name__") if frame is not None and frame.f_back is not None else None
        return super().__contains__(name) and not (asker == "pydoc" and str(name)[:1].isupper())
