"""What `scalars(t)` computes, as expressions of the hyperparameters and `t`: read from its code, not run."""

import ast
import copy
import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from site_pages.latex import UnprintableError


def tree_of(function: Callable[..., Any]) -> ast.FunctionDef:
    """The syntax tree of a function's source.

    Raises:
        UnprintableError: there is no source, as of a function that was typed at a prompt.
    """
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        raise UnprintableError(f"{function.__qualname__}: its source is not to be had") from None
    (tree,) = ast.parse(textwrap.dedent(source)).body
    if not isinstance(tree, ast.FunctionDef):
        raise UnprintableError(f"{function.__qualname__}: expected a function")
    return tree


def assigned(statement: ast.stmt) -> list[tuple[str, ast.expr]] | None:
    """The names and values of `a = x`, `a: T = x`, `a += x` and `a, b = x, y`; None for any other statement."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return [(name, value)]
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            return [(name, value)]
        case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
            return [(name, ast.BinOp(ast.Name(name), op, value))]
        case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
            if len(targets) == len(values) and all(isinstance(x, ast.Name) for x in targets):
                return [(x.id, value) for x, value in zip(targets, values, strict=True) if isinstance(x, ast.Name)]
        case ast.Expr(value=ast.Constant()):
            return []  # a docstring
    return None


class Replaced(ast.NodeTransformer):
    """Puts expressions in the place of names, and chooses where a switch that is known decides."""

    def __init__(self, names: Mapping[str, ast.expr], switches: Mapping[str, bool]) -> None:
        self.names, self.switches = names, switches

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return copy.deepcopy(self.names.get(node.id, node))

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        chosen = self.decided(node.test)
        if chosen is None:
            return ast.IfExp(*(self.visit(x) for x in (node.test, node.body, node.orelse)))
        replaced: ast.expr = self.visit(node.body if chosen else node.orelse)
        return replaced

    def decided(self, test: ast.expr) -> bool | None:
        """What is known of a condition."""
        match test:
            case ast.Attribute(attr=name):
                return self.switches.get(name)
            case ast.Compare(left=ast.Constant(value=str(name)), ops=[op], comparators=[ast.Attribute(attr="variant")]):
                known = self.switches.get(name)
                return None if known is None else known == isinstance(op, ast.In)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                known = self.decided(operand)
                return None if known is None else not known
        return None


def scalars(method: Callable[..., Any], switches: Mapping[str, bool]) -> list[ast.expr]:
    """The expressions that an optimizer's `scalars` returns, without variables of its own.

    Args:
        method: `scalars` of a class.
        switches: hyperparameters that are known, by name.

    Raises:
        UnprintableError: it has loops, or something else that is not known here.
    """
    return _returned(tree_of(method).body, {}, switches)


def _returned(body: list[ast.stmt], names: Mapping[str, ast.expr], switches: Mapping[str, bool]) -> list[ast.expr]:
    names = dict(names)
    for i, statement in enumerate(body):
        replaced, rest = Replaced(names, switches), body[i + 1 :]
        if isinstance(statement, ast.Return) and statement.value is not None:
            return _elements(replaced.visit(copy.deepcopy(statement.value)))
        if isinstance(statement, ast.If):
            known = replaced.decided(statement.test)
            test = replaced.visit(copy.deepcopy(statement.test))
            branches = [statement.body, statement.orelse]
            if known is not None:
                return _returned([*branches[not known], *rest], names, switches)
            return _either(test, *(_returned([*branch, *rest], names, switches) for branch in branches))
        found = assigned(statement)
        if found is None:
            raise UnprintableError(ast.unparse(statement))
        names |= {name: replaced.visit(copy.deepcopy(value)) for name, value in found}
    raise UnprintableError("scalars: no return")


def _elements(node: ast.expr) -> list[ast.expr]:
    match node:
        case ast.Tuple(elts=elements):
            return [x for element in elements for x in _spread(element)]
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return _either(test, _elements(body), _elements(orelse))
    raise UnprintableError(ast.unparse(node))


def _spread(element: ast.expr) -> list[ast.expr]:
    return _elements(element.value) if isinstance(element, ast.Starred) else [element]


def _either(test: ast.expr, one: list[ast.expr], other: list[ast.expr]) -> list[ast.expr]:
    if len(one) != len(other):
        raise UnprintableError(f"{len(one)} numbers or {len(other)}")
    same = [ast.dump(a) == ast.dump(b) for a, b in zip(one, other, strict=True)]
    return [a if equal else ast.IfExp(test, a, b) for a, b, equal in zip(one, other, same, strict=True)]
