"""Expressions of Python as LaTeX."""

import ast
import itertools
from collections.abc import Mapping

from site_pages.symbols import symbol

SUM, PRODUCT, POWER, ATOM = range(4)  # how tightly an expression holds together
COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Gt: ">",
    ast.Lt: "<",
    ast.GtE: r"\ge",
    ast.LtE: r"\le",
    ast.Eq: "=",
    ast.NotEq: r"\ne",
}
SUM_OF = "sum of"  # called with what is summed; the name is no variable's
FUNCTIONS = {"exp", "log", "max", "min", "cos", "sin", "tanh"}


class UnprintableError(Exception):
    """Code that has no form as mathematics here."""


def latex(node: ast.expr, names: Mapping[str, str]) -> str:
    """An expression as LaTeX.

    Args:
        node: its syntax tree. What is read from an object, as in `self.lr`, is known by its name alone.
        names: the variables' symbols.

    Raises:
        UnprintableError: there is something in it that is not known here.
    """
    return _Printer(names).text(node, SUM)


class _Printer:
    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names

    def text(self, node: ast.expr, level: int) -> str:
        """The expression, in parentheses where it holds together less than `level`."""
        text, own = self.printed(node)
        return text if own >= level else rf"\left({text}\right)"

    def printed(self, node: ast.expr) -> tuple[str, int]:
        match node:
            case ast.Name(id=name):
                return self.names.get(name) or symbol(name), ATOM
            case ast.Attribute(attr=name):
                return symbol(name), ATOM
            case ast.Constant(value=bool() as value):
                return rf"\text{{{value}}}", ATOM
            case ast.Constant(value=int() | float() as value):
                return _number(value)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return f"-{self.text(operand, PRODUCT)}", SUM
            case ast.BinOp(op=ast.Add() | ast.Sub(), left=left, right=right):
                sign = "+" if isinstance(node.op, ast.Add) else "-"
                return f"{self.text(left, SUM)} {sign} {self.text(right, PRODUCT)}", SUM
            case ast.BinOp(op=ast.Mult()):
                return self.product(_factors(node))
            case ast.BinOp(op=ast.Div(), left=left, right=right):
                return rf"\frac{{{self.text(left, SUM)}}}{{{self.text(right, SUM)}}}", PRODUCT
            case ast.BinOp(op=ast.Pow(), left=left, right=right):
                return f"{self.text(left, ATOM)}^{{{self.text(right, SUM)}}}", POWER
            case ast.Call(func=ast.Name(id=name), args=[inside]) if name == SUM_OF:
                return rf"\sum {self.text(inside, PRODUCT)}", SUM
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=arguments, keywords=[]):
                return self.called(name, [self.text(x, SUM) for x in arguments])
            case ast.IfExp():
                return self.cases(node), ATOM
        raise UnprintableError(ast.unparse(node))

    def product(self, factors: list[ast.expr]) -> tuple[str, int]:
        """Factors side by side, equal ones that follow each other as a power."""
        runs: list[tuple[ast.expr, int]] = []
        for factor in factors:
            if runs and ast.dump(runs[-1][0]) == ast.dump(factor):
                runs[-1] = factor, runs[-1][1] + 1
            else:
                runs.append((factor, 1))
        if len(runs) == 1:
            return self.power(*runs[0])
        texts = [self.factor(*run, is_last=i == len(runs) - 1) for i, run in enumerate(runs)]
        product = texts[0]
        for before, text in itertools.pairwise(texts):
            if text[0].isdigit():
                product += rf" \cdot {text}"
            elif before.startswith(r"\text") or text.startswith(r"\text"):
                product += rf" \, {text}"
            else:
                product += f" {text}"
        return product, PRODUCT

    def factor(self, node: ast.expr, times: int, is_last: bool) -> str:
        text, level = self.power(node, times)
        is_open = isinstance(node, ast.IfExp) and not is_last  # nothing shows where cases end
        return rf"\left({text}\right)" if level < PRODUCT or is_open else text

    def power(self, node: ast.expr, times: int) -> tuple[str, int]:
        match node:
            case ast.Call(func=ast.Name(id="sqrt") | ast.Attribute(attr="sqrt"), args=[inside]) if times == 2:
                return self.printed(inside)
        return (f"{self.text(node, ATOM)}^{{{times}}}", POWER) if times > 1 else self.printed(node)

    def called(self, name: str, arguments: list[str]) -> tuple[str, int]:
        if name == "sqrt":
            return rf"\sqrt{{{arguments[0]}}}", ATOM
        if name in ("abs", "fabs"):
            return rf"\left|{arguments[0]}\right|", ATOM
        function = f"\\{name}" if name in FUNCTIONS else rf"\text{{{name}}}"
        return rf"{function}\left({', '.join(arguments)}\right)", ATOM

    def cases(self, node: ast.expr) -> str:
        rows = []
        while isinstance(node, ast.IfExp):
            rows.append(rf"{self.text(node.body, SUM)} & \text{{if }} {self.condition(node.test)}")
            node = node.orelse
        rows.append(rf"{self.text(node, SUM)} & \text{{otherwise}}")
        lines = r" \\ ".join(rows)
        return rf"\begin{{cases}} {lines} \end{{cases}}"

    def condition(self, node: ast.expr) -> str:
        match node:
            case ast.Attribute(attr=name):
                return rf"\texttt{{{name}}}"
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return rf"\text{{not }} {self.condition(operand)}"
            case ast.BoolOp(op=op, values=values):
                word = r" \text{ and } " if isinstance(op, ast.And) else r" \text{ or } "
                return word.join(map(self.condition, values))
            case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in COMPARISONS for op in ops):
                parts = [
                    f"{COMPARISONS[type(op)]} {self.text(other, SUM)}" for op, other in zip(ops, others, strict=True)
                ]
                return " ".join([self.text(left, SUM), *parts])
        raise UnprintableError(ast.unparse(node))


def _factors(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return [*_factors(node.left), *_factors(node.right)]
    return [node]


def _number(value: float) -> tuple[str, int]:
    digits, _, exponent = repr(value).partition("e")
    if not exponent:
        return digits.removesuffix(".0"), ATOM
    power = f"10^{{{int(exponent)}}}"
    return (power, POWER) if digits == "1" else (rf"{digits} \cdot {power}", PRODUCT)
