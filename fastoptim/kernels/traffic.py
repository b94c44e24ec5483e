"""Which of its numbers a rule reads, and which it changes: what a pass over them has to read and write in memory."""

import ast
import inspect
import textwrap
from collections.abc import Sequence
from types import CodeType
from typing import NamedTuple

from fastoptim.kernels.rule import Rule


class Used(NamedTuple):
    """The names of an element's numbers that a rule needs from memory, and of those that it gives new values to."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]


def used_by(rule: Rule, names: Sequence[str], returned: Sequence[str]) -> Used:
    """What a rule reads and changes, as its source says. Without a source, or with several returns, it is everything.

    A number that is returned as it came is neither changed nor read for that: the compiler leaves both out.

    Args:
        rule: the function of one element.
        names: of the numbers that lie in memory.
        returned: the names of the first ones that the rule returns, in order.
    """
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(rule))).body
        assert isinstance(definition, ast.FunctionDef)
        last = definition.body[-1]
        assert isinstance(last, ast.Return)
        assert sum(isinstance(node, ast.Return) for node in ast.walk(definition)) == 1
        assert _is_of(definition, rule)
    except (OSError, TypeError, SyntaxError, ValueError, AssertionError):
        return Used(tuple(names), tuple(returned))
    found = [node for statement in definition.body for node in ast.walk(statement) if isinstance(node, ast.Name)]
    assigned = {node.id for node in found if isinstance(node.ctx, ast.Store)}
    results = last.value.elts if isinstance(last.value, ast.Tuple) else [last.value]
    kept = {
        result: name
        for name, result in zip(returned, results, strict=False)
        if isinstance(result, ast.Name) and result.id == name and name not in assigned
    }
    read = {node.id for node in found if node not in kept}
    unchanged = set(kept.values())
    return Used(tuple(x for x in names if x in read), tuple(x for x in returned if x not in unchanged))


def _is_of(definition: ast.FunctionDef, rule: Rule) -> bool:
    """Whether a function is made of this text: the file may have been edited since."""
    definition.decorator_list.clear()
    (own,) = (x for x in compile(ast.Module([definition], []), "", "exec").co_consts if isinstance(x, CodeType))
    code = rule.__code__
    return (own.co_code, own.co_consts, own.co_varnames, own.co_names) == (
        code.co_code, code.co_consts, code.co_varnames, code.co_names
    )  # fmt: skip
