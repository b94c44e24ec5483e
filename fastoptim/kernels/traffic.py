"""Which of its numbers a rule reads, and which it changes: what a pass over them has to read and write in memory."""

import ast
import inspect
import textwrap
from collections.abc import Sequence
from types import CodeType
from typing import Any, NamedTuple, cast

from fastoptim.kernels.fuse import Fused
from fastoptim.kernels.jit import jitable
from fastoptim.kernels.rule import Rule, arguments
from fastoptim.kernels.table import GRAD, PARAM
from fastoptim.kernels.unroll import select


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


class Written(NamedTuple):
    """What a pass over elements writes.

    Attributes:
        returned: the columns of the operands that the function of an element returns.
        changed: those of them that may get other numbers.
    """

    returned: tuple[int, ...]
    changed: tuple[int, ...]

    def alone(self, element: Rule) -> Rule:
        """`(p, g, *numbers) -> ` what may be another number, of a function that returns all."""
        if self.changed == self.returned:
            return element
        chosen = select(tuple(self.returned.index(column) for column in self.changed))

        @jitable(element.__name__, *self.changed)
        def changed(p: Any, g: Any, *numbers: Any) -> Any:
            return chosen(element(p, g, *numbers))

        return cast(Rule, changed)


def used_of(rule: Rule, slots: int) -> Used:
    """What a rule with so many slots reads of an element's operands, and which of them it may change."""
    names = arguments(rule)[: 2 + slots]
    return used_by(getattr(rule, "adapted_from", rule), names, (names[PARAM], *names[GRAD + 1 :]))


def written_by(rule: Rule, slots: int, fused: Fused, writes_state: bool) -> Written:
    """What a pass writes that runs a rule with options. Without `writes_state`, that is the parameter alone."""
    if not writes_state:
        return Written((PARAM,), (PARAM,))
    behind = fused.ema + fused.compensation + fused.copy  # which options change, as they do the parameter
    names, writes = arguments(rule)[: 2 + slots], used_of(rule, slots).writes
    kept = {i for i, name in enumerate(names) if name not in writes} - {PARAM}
    returned = PARAM, *range(GRAD + 1, GRAD + 1 + slots + behind)
    return Written(returned, tuple(column for column in returned if column not in kept))


def _is_of(definition: ast.FunctionDef, rule: Rule) -> bool:
    """Whether a function is made of this text: the file may have been edited since."""
    definition.decorator_list.clear()
    (own,) = (x for x in compile(ast.Module([definition], []), "", "exec").co_consts if isinstance(x, CodeType))
    code = rule.__code__
    return (own.co_code, own.co_consts, own.co_varnames, own.co_names) == (
        code.co_code, code.co_consts, code.co_varnames, code.co_names
    )  # fmt: skip
