"""What `scalars(t)` computes, as expressions of the hyperparameters and `t`: read from its code, not run."""

import ast
import copy
import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from site_pages.latex import UnprintableError
from site_pages.symbols import indexed, symbol


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


class Numbers(NamedTuple):
    """What `scalars` computes, as expressions of the hyperparameters and `t`.

    Attributes:
        returned: what it returns.
        named: by name, those of its variables that have an index, as `rho_t` has.
    """

    returned: list[ast.expr]
    named: dict[str, ast.expr]


def scalars(cls: Any, switches: Mapping[str, bool], method: str = "scalars") -> Numbers:
    """What `scalars` of an optimizer computes. What it calls of the class's other methods is put in its place.

    Args:
        cls: the optimizer's class.
        switches: hyperparameters that are known, by name.
        method: another one that returns numbers: `evaluation_scalars`, or `next_carry`.

    Raises:
        UnprintableError: it has loops, or something else that is not known here.
    """
    reader, is_one = _Reader(cls, switches), method == "next_carry" and not isinstance(cls.carry, tuple)
    split = (lambda value: [value]) if is_one else _elements
    return Numbers(reader.returned(tree_of(getattr(cls, method)).body, {}, split), reader.named)


def carry_names(cls: Any) -> tuple[str, ...]:
    """What the numbers that an optimizer carries are called; none where nothing is carried."""
    if not isinstance(cls.carry, tuple):
        return () if cls.carry is None else ("carry",)
    return getattr(cls.carry, "_fields", tuple(f"carry{i}" for i in range(1, len(cls.carry) + 1)))


class WithCarry(ast.NodeTransformer):
    """Puts variables in the place of `self.carry`, `self.carry.x` and `self.carry[0]`, and of `self.carry_before`.

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


class _Reader:
    """Goes through the statements of a class's methods.

    Attributes:
        named: the variables with an index that it has seen.
    """

    def __init__(self, cls: Any, switches: Mapping[str, bool]) -> None:
        self.cls, self.switches = cls, switches
        self.named: dict[str, ast.expr] = {}
        self._inside: list[str] = []  # methods that call each other

    def returned(
        self, body: list[ast.stmt], names: Mapping[str, ast.expr], taken_apart: Callable[[ast.expr], list[ast.expr]]
    ) -> list[ast.expr]:
        """What statements return, where `names` are the variables so far."""
        names = dict(names)
        for i, statement in enumerate(body):
            replaced, rest = _WithMethods(self, names), body[i + 1 :]
            if isinstance(statement, ast.Return) and statement.value is not None:
                return taken_apart(replaced.visit(copy.deepcopy(statement.value)))
            if isinstance(statement, ast.If):
                known = replaced.decided(statement.test)
                branches = [statement.body, statement.orelse]
                if known is not None:
                    return self.returned([*branches[not known], *rest], names, taken_apart)
                test = replaced.visit(copy.deepcopy(statement.test))
                return _either(test, *(self.returned([*branch, *rest], names, taken_apart) for branch in branches))
            found = assigned(statement)
            if found is None:
                raise UnprintableError(ast.unparse(statement))
            new = {name: replaced.visit(copy.deepcopy(value)) for name, value in found}
            self.named |= {name: value for name, value in new.items() if indexed(name)}
            names |= new
        raise UnprintableError(f"{self.cls.__name__}: a method without a return")

    def called(self, method: str, arguments: list[ast.expr]) -> ast.expr:
        """What a method returns for these arguments."""
        if method in self._inside:
            raise UnprintableError(f"{method} calls itself")
        tree = tree_of(getattr(self.cls, method, None))  # type: ignore[arg-type]  # it says that there is no source
        _, *names = [x.arg for x in tree.args.args]
        self._inside.append(method)
        (value,) = self.returned(tree.body, dict(zip(names, arguments, strict=True)), lambda value: [value])
        self._inside.pop()
        return value


class _WithMethods(Replaced):
    """Puts what the class's own methods return in the place of their calls, too."""

    def __init__(self, reader: _Reader, names: Mapping[str, ast.expr]) -> None:
        super().__init__(names, reader.switches)
        self.reader = reader

    def visit_Call(self, node: ast.Call) -> ast.expr:
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=method), args=arguments, keywords=[]):
                return self.reader.called(method, [self.visit(x) for x in arguments])
        self.generic_visit(node)
        return node


def _elements(node: ast.expr) -> list[ast.expr]:
    match node:
        case ast.Tuple(elts=elements):
            return [x for element in elements for x in _spread(element)]
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return _either(test, _elements(body), _elements(orelse))
        case ast.Call(func=ast.Name(), args=elements, keywords=named):  # a named tuple
            return [*elements, *(x.value for x in named)]
    raise UnprintableError(ast.unparse(node))


def _spread(element: ast.expr) -> list[ast.expr]:
    return _elements(element.value) if isinstance(element, ast.Starred) else [element]


def _either(test: ast.expr, one: list[ast.expr], other: list[ast.expr]) -> list[ast.expr]:
    if len(one) != len(other):
        raise UnprintableError(f"{len(one)} numbers or {len(other)}")
    same = [ast.dump(a) == ast.dump(b) for a, b in zip(one, other, strict=True)]
    return [a if equal else ast.IfExp(test, a, b) for a, b, equal in zip(one, other, same, strict=True)]
