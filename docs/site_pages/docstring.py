"""What an optimizer's docstrings say: its paper, a summary, its arguments."""

import inspect
import re
import sys
from typing import Any, NamedTuple

HEADING = re.compile(r"^(Args|Attributes|Raises|Returns):$", re.MULTILINE)


class Described(NamedTuple):
    """A class's docstring.

    Attributes:
        summary: its first paragraph.
        details: what follows, up to the arguments.
        arguments: names (there may be several, with commas) and what is said of them.
    """

    summary: str
    details: str
    arguments: list[tuple[str, str]]


def described(cls: Any) -> Described:
    """The docstring of an optimizer's class, taken apart."""
    text, *sections = HEADING.split(inspect.cleandoc(cls.__doc__ or ""))
    summary, _, details = text.strip().partition("\n\n")
    arguments = dict(zip(sections[::2], sections[1::2], strict=True)).get("Args", "")
    found = re.findall(r"^    ([\w, ]+): (.*(?:\n     .*)*)", arguments, re.MULTILINE)
    return Described(_one_line(summary), details, [(names, _one_line(said)) for names, said in found])


def citation(cls: Any) -> str:
    """The paper, as the module says it in its docstring; nothing for a class from elsewhere."""
    module = cls.__module__
    if not module.startswith("fastoptim."):
        return ""
    text = _one_line(inspect.cleandoc(sys.modules[module].__doc__ or ""))
    return re.sub(r"https?://(\S+?)(?=[.,]?(?:\s|$))", lambda found: f"[{found[1]}]({found[0]})", text)


def paper(cls: Any) -> str:
    """Authors and year with the paper's address, in short."""
    text = citation(cls).partition(". ")[2]
    address = re.search(r"\]\((\S+)\)", text)
    authors = text.partition(', "')[0]
    return f"[{authors}]({address[1]})" if address else authors


def _one_line(text: str) -> str:
    return " ".join(text.split())
