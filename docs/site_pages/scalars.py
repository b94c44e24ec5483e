"""What `scalars(t)` computes, as expressions of the hyperparameters and `t`: read from its code, not run."""

import ast
import copy
import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from site_pages.latex import UnprintableError
from site_pages.symbols import symbol


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
    return _returned(tree_of(method).body, {}, switches, _elements)


def carried(cls: Any) -> dict[str, ast.expr]:
    """The expressions that an optimizer's `next_carry` returns, by name; none where nothing is carried.

    Raises:
        UnprintableError: it has something that is not known here.
    """
    if cls.carry is None:
        return {}
    split = _elements if isinstance(cls.carry, tuple) else lambda node: [node]
    values = _returned(tree_of(cls.next_carry).body, {}, {}, split)
    return dict(zip(carry_names(cls), values, strict=True))


def carry_names(cls: Any) -> tuple[str, ...]:
    """What the numbers that an optimizer carries are called."""
    if not isinstance(cls.carry, tuple):
        return ("carry",)
    return getattr(cls.carry, "_fields", tuple(f"carry{i}" for i in range(1, len(cls.carry) + 1)))


class WithCarry(ast.NodeTransformer):
    """Puts variables in the place of `self.carry`, `self.carry.x` and `self.carry[0]`, and what comes before a step.

    Args:
        names: of the numbers that are carried.
        indices: by attribute, such as `carry`, the index of its numbers.

    Attributes:
        symbols: of the variables.
    """

    def __init__(self, names: tuple[str, ...], indices: Mapping[str, str]) -> None:
        self.names, self.indices = names, indices
        self.symbols = {f"{name} {index}": symbol(name, index) for name in names for index in indices.values()}

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        match node:
            case ast.Attribute(value=ast.Attribute(attr=which), attr=name) if which in self.indices:
                return ast.Name(f"{name} {self.indices[which]}")
            case ast.Attribute(attr=which) if which in self.indices:
                return ast.Name(f"{self.names[0]} {self.indices[which]}")
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        match node:
            case ast.Subscript(value=ast.Attribute(attr=which), slice=ast.Constant(value=int(i))):
                if which in self.indices:
                    return ast.Name(f"{self.names[i]} {self.indices[which]}")
        return node


def _returned(
    body: list[ast.stmt],
    names: Mapping[str, ast.expr],
    switches: Mapping[str, bool],
    split: Callable[[ast.expr], list[ast.expr]],
) -> list[ast.expr]:
    names = dict(names)
    for i, statement in enumerate(body):
        replaced, rest = Replaced(names, switches), body[i + 1 :]
        if isinstance(statement, ast.Return) and statement.value is not None:
            return split(replaced.visit(copy.deepcopy(statement.value)))
        if isinstance(statement, ast.If):
            known = replaced.decided(statement.test)
            test = replaced.visit(copy.deepcopy(statement.test))
            branches = [statement.body, statement.orelse]
            if known is not None:
                return _returned([*branches[not known], *rest], names, switches, split)
            return _either(test, *(_returned([*branch, *rest], names, switches, split) for branch in branches))
        found = assigned(statement)
        if found is None:
            raise UnprintableError(ast.unparse(statement))
        names |= {name: replaced.visit(copy.deepcopy(value)) for name, value in found}
    raise UnprintableError("scalars: no return")


def _elements(node: ast.expr) -> list[ast.expr]:
    match node:
        case ast.Tuple(elts=elements):
            return [x for element in elements for x in _spread(element)]
        case ast.Call(func=ast.Name(), args=elements, keywords=named):  # a named tuple
            return [*elements, *(x.value for x in named)]
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
