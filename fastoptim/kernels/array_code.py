"""The source of a rule for one element, translated to code for whole NumPy arrays."""

import ast
import builtins
import inspect
import math
import textwrap
from collections.abc import Callable
from copy import deepcopy
from functools import wraps
from types import BuiltinFunctionType, FunctionType
from typing import Any, NamedTuple

import numpy as np

Function = Callable[..., Any]

FOR_BOTH = (abs,)  # functions of Python that take arrays, too
WHERE, NOT, COPY = "np.where", "np.logical_not", "np.array"  # names with a dot are no variables'
FOUND = {WHERE: np.where, NOT: np.logical_not, COPY: np.array}
ONLY = "only assignments to names, + - * /, comparisons, `a if c else b`, calls and a `return` at the end"
COMPARISONS = ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE
ALLOWED = (
    ast.Assign, ast.Return, ast.Expr, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Name, ast.Constant, ast.Tuple,
    ast.operator, ast.unaryop, ast.expr_context, *COMPARISONS,
)  # fmt: skip


class Translation(NamedTuple):
    """A function for arrays that is not compiled yet.

    Attributes:
        function: the one for numbers.
        definition: the new one, without annotations and decorators; its last statement is a `return`.
        namespace: what it finds outside of itself.
        has_conditionals: whether anything in it chooses between two values.
    """

    function: Function
    definition: ast.FunctionDef
    namespace: dict[str, Any]
    has_conditionals: bool

    def compiled(self) -> Function:
        """The function for arrays."""
        module = ast.fix_missing_locations(ast.Module([self.definition], []))
        exec(compile(module, self.function.__code__.co_filename, "exec"), self.namespace)  # tracebacks show the rule
        made: Function = wraps(self.function)(self.namespace[self.definition.name])
        # Both sides of a conditional are computed: the one that is not taken may divide by zero.
        return np.errstate(all="ignore")(made) if self.has_conditionals else made


def translated(function: Function, rule: Function | None = None, callers: tuple[Function, ...] = ()) -> Translation:
    """A rule, or a function that `rule` calls through `callers`, for arrays.

    Raises:
        ValueError: the function has no source, or holds something that has no counterpart for arrays.
    """
    rule = rule or function
    definition = _definition(function, rule)
    converter = _Converter(function, rule, callers)
    body = [converter.visit(statement) for statement in definition.body]
    if not isinstance(definition.body[-1], ast.Return):
        raise converter.refusal(definition.body[-1], "its last statement to be `return`")
    definition.body, definition.decorator_list, definition.returns = body, [], None
    for argument in definition.args.args:
        argument.annotation = None
    namespace: dict[str, Any] = {**converter.names, **converter.replaced, **FOUND}
    return Translation(function, definition, namespace, converter.has_conditionals)


def _definition(function: Function, rule: Function) -> ast.FunctionDef:
    expected = f"{_place(function, rule)}: expected the source of a function made with `def`"
    try:
        parsed = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, TypeError, SyntaxError) as error:
        raise ValueError(f"{expected}, found none in a file") from error
    if not isinstance(parsed, ast.FunctionDef):
        raise ValueError(f"{expected}, found `{ast.unparse(parsed)}`")
    ast.increment_lineno(parsed, function.__code__.co_firstlineno - 1)
    return parsed


def _place(function: Function, rule: Function) -> str:
    called = "" if function is rule else f", in {function.__name__}, which it calls"
    return f"rule {rule.__name__} for arrays{called}"


class _Converter(ast.NodeTransformer):
    """Replaces what takes one number by what takes arrays.

    Attributes:
        names: what the function finds outside of itself.
        replaced: the functions that are called instead, by the names that the new code has for them.
        has_conditionals: whether anything chooses between two values.
    """

    def __init__(self, function: Function, rule: Function, callers: tuple[Function, ...]) -> None:
        self._function, self._rule, self._callers = function, rule, (*callers, function)
        outside = inspect.getclosurevars(function)
        self.names: dict[str, Any] = {**vars(builtins), **function.__globals__, **outside.nonlocals}
        self.replaced: dict[str, Function] = {}
        self.has_conditionals = False

    def refusal(self, node: ast.AST, expected: str) -> ValueError:
        line, text = getattr(node, "lineno", 0), ast.unparse(node).partition("\n")[0]
        place = _place(self._function, self._rule)
        return ValueError(f"{place}: expected {expected}, got `{text}` in line {line}")

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, ALLOWED):
            raise self.refusal(node, ONLY)
        return super().generic_visit(node)

    def visit_Return(self, node: ast.Return) -> ast.AST:
        """A called function returns no argument itself: `in_place` may write into that later."""
        self.generic_visit(node)
        values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value] if node.value else []
        if len(self._callers) > 1:
            values = [self._call(each, COPY, each) if isinstance(each, ast.Name) else each for each in values]
            node.value = ast.Tuple(values, ast.Load()) if isinstance(node.value, ast.Tuple) else values[0]
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        """`m += x` would change the caller's array: `m = m + x`."""
        if not isinstance(node.target, ast.Name):
            raise self.refusal(node, ONLY)
        before = ast.copy_location(ast.Name(node.target.id, ast.Load()), node)
        value = ast.copy_location(ast.BinOp(before, node.op, node.value), node)
        return self.visit(ast.copy_location(ast.Assign([node.target], value), node))

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        return self._where(node, self.visit(node.test), self.visit(node.body), self.visit(node.orelse))

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        """As Python has it: `a and b` is b where a is true, and else a."""
        *others, value = map(self.visit, node.values)
        for each in reversed(others):
            yes, no = (value, each) if isinstance(node.op, ast.And) else (each, value)
            value = self._where(node, each, yes, no)
        return value

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        if not isinstance(node.op, ast.Not):
            return self.generic_visit(node)
        return self._call(node, NOT, self.visit(node.operand))

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        if not all(isinstance(op, COMPARISONS) for op in node.ops):
            raise self.refusal(node, ONLY)
        if len(node.ops) == 1:
            return self.generic_visit(node)
        operands = [node.left, *node.comparators]
        pairs = zip(operands, node.ops, operands[1:], strict=False)
        every: list[ast.expr] = [ast.copy_location(ast.Compare(deepcopy(a), [op], [b]), node) for a, op, b in pairs]
        return self.visit(ast.copy_location(ast.BoolOp(ast.And(), every), node))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if node.keywords:
            raise self.refusal(node, "arguments by position")
        name = ast.unparse(node.func)
        self.replaced[name] = self._counterpart(node)
        return self._call(node, name, *map(self.visit, node.args))

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """A number of a module, as `math.pi`."""
        if not isinstance(self._value(node), float | int | np.generic):
            raise self.refusal(node, ONLY)
        return node

    def _where(self, node: ast.AST, test: ast.expr, yes: ast.expr, no: ast.expr) -> ast.expr:
        self.has_conditionals = True
        return self._call(node, WHERE, test, yes, no)

    def _call(self, node: ast.AST, name: str, *arguments: ast.expr) -> ast.Call:
        """A call in the place of a node, of what the new code finds by that name."""
        call = ast.Call(ast.Name(name, ast.Load()), list(arguments), [])
        return ast.copy_location(call, node)

    def _counterpart(self, node: ast.Call) -> Function:
        """The function for arrays of the one that is called."""
        called = self._value(node.func)
        function = getattr(called, "py_func", called)  # what numba's `njit` compiled
        if isinstance(function, np.ufunc) or function in FOR_BOTH:
            return called
        if isinstance(function, BuiltinFunctionType) and function.__module__ == math.__name__:
            found = getattr(np, function.__name__, None)
            if isinstance(found, np.ufunc):
                return found
        if not isinstance(function, FunctionType):
            raise self.refusal(node, f"a function that NumPy has for arrays, or one made with `def`; {ONLY}")
        if function in self._callers:
            raise self.refusal(node, "no function that calls itself")
        return translated(function, self._rule, self._callers).compiled()

    def _value(self, node: ast.expr) -> Any:
        """What a name, or a name in a module, stands for; None if that is not known."""
        if isinstance(node, ast.Attribute):
            return getattr(self._value(node.value), node.attr, None)
        return self.names.get(node.id) if isinstance(node, ast.Name) else None
