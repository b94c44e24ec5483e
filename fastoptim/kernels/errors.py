"""What is wrong with a rule, in a sentence: numba says it in a hundred lines."""

import dis
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any

from numba import njit, types

from fastoptim.kernels.adapt import arguments_of, check_float

# What numba's message has of interest, the most telling first.
TELLING = (
    r"the (?:rule|function) returned [^\n]*",
    r"NameError: [^\n]*",
    r"Untyped global name '[^']*'[^\n]*",
    r"Unknown attribute [^\n]*",
    r"Use of unsupported NumPy function [^\n]*",
    r"Cannot unify [^\n]*",
    r"No implementation of function Function\(<(?![^\n]*<locals>)[^\n]*\n\s*>>> [^\n]*",
)


class RuleError(TypeError):
    """A rule that cannot be compiled: which one, where, and why. What the compiler said is its cause."""


@contextmanager
def explaining(rule: Any, kind: str = "rule") -> Iterator[None]:
    """Within it, what the compiler raises becomes a `RuleError` that names the rule and the line.

    Args:
        rule: it, or what was made of it to take other arguments.
        kind: what it is called.
    """
    rule = getattr(rule, "adapted_from", rule)
    try:
        yield
    except (OSError, MemoryError):  # no fault of the rule
        raise
    except Exception as error:
        text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # colours of a terminal
        found = next((match[0] for pattern in TELLING if (match := re.search(pattern, text))), text.partition("\n")[0])
        where = f"{rule.__code__.co_filename}, line {_line(rule.__code__, found, text)}"
        why = " ".join(found.split())
        raise RuleError(f"the {kind} {rule.__name__} ({where}) cannot be compiled: {why}") from error


@contextmanager
def explaining_functions(functions: Sequence[Callable[..., Any]]) -> Iterator[None]:
    """Within it, what the compiler raises becomes a `RuleError` that names one of these functions of floats."""
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception:  # the compiler does not say which function it was: each by itself
        for function in functions:
            with explaining(function, "function"):
                alone, floats = njit(function), (types.float64,) * len(arguments_of(function))
                alone.compile(floats)
                check_float(alone.overloads[floats].signature.return_type)
        raise


def _line(code: Any, found: str, text: str) -> int:
    """The line of the rule that has a name of which the message speaks, or else the last one that numba names."""
    places = {x.argval: x.positions.lineno for x in dis.get_instructions(code) if x.positions and x.positions.lineno}
    for name in reversed(re.findall(r"'(\w+)'", found)):
        if name in places and name != code.co_name:
            return int(places[name])
    file = re.escape(PurePath(code.co_filename).name)
    last = max((line for _, _, line in code.co_lines() if line is not None), default=code.co_firstlineno)
    named = [int(one or other) for one, other in re.findall(rf'{file}", line (\d+)|{file} \((\d+)\)', text)]
    return next((line for line in reversed(named) if code.co_firstlineno <= line <= last), code.co_firstlineno)
