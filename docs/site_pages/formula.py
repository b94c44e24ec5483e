"""An optimizer's step as mathematics: what its rule and its `scalars` say, in the notation of papers."""

import ast
import copy
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from site_pages.latex import UnprintableError, latex
from site_pages.scalars import Replaced, WithCarry, assigned, carried, carry_names, scalars, tree_of
from site_pages.symbols import symbol


class Formula(NamedTuple):
    """Equations in LaTeX, each a left and a right side.

    Attributes:
        carry: what is carried from step to step.
        numbers: of the step, one for all elements.
        rule: for each element.
    """

    carry: list[tuple[str, str]]
    numbers: list[tuple[str, str]]
    rule: list[tuple[str, str]]


def formula(cls: Any, variant: tuple[str, ...] = (), **known: bool) -> Formula:
    """The step of an optimizer.

    Args:
        cls: its class.
        variant: the hyperparameters that are on and choose the rule.
        known: other switches, by name.

    Raises:
        UnprintableError: the rule or `scalars` has something that has no form as mathematics here.
    """
    stage = cls.variant_stages[variant][-1]
    known = {name: name in variant for key in cls.variants for name in key} | known
    earlier = WithCarry(carry_names(cls), {"carry": "t-1"})
    carry = [(symbol(name, "t"), latex(earlier.visit(x), earlier.symbols)) for name, x in carried(cls).items()]
    outputs = "p", *stage.slots
    return Formula(carry, *_formula(cls, stage, scalars(cls.scalars, known), "t-1", outputs))


def evaluation(cls: Any) -> Formula:
    """The parameters that an optimizer computes to evaluate with, called x.

    Raises:
        UnprintableError: as `formula`.
    """
    return Formula([], *_formula(cls, cls.evaluation_stage, scalars(cls.evaluation_scalars, {}), "t", ("x",)))


def _formula(
    cls: Any, stage: Any, returned: list[ast.expr], index: str, outputs: tuple[str, ...]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The numbers of a stage and its equations, where parameter and state have this index and become the outputs."""
    carry = WithCarry(carry_names(cls), {"carry": "t", "carry_before": "t-1"})
    tree = tree_of(stage.rule)
    p, g, *others = [x.arg for x in tree.args.args]
    slots, names = others[: len(stage.slots)], others[len(stage.slots) :]
    values = {name: carry.visit(x) for name, x in zip(names, returned, strict=True)}
    inside = {name: value for name, value in values.items() if _is_short(value)}
    numbers = [(symbol(name, "t"), latex(x, carry.symbols)) for name, x in values.items() if name not in inside]
    symbols = {name: symbol(name, "t") for name in names if name not in inside}
    symbols |= {name: symbol(name, index) for name in (p, *slots)} | {g: symbol(g, "t")}
    return numbers, _Rule(list(outputs), symbols | carry.symbols, inside).equations(tree.body)


def _is_short(value: ast.expr) -> bool:
    """Whether a number needs no name of its own: `self.lr`, `1 - self.beta1`, a constant."""
    match value:
        case ast.BinOp(left=ast.Constant(), right=ast.Attribute()) | ast.Attribute() | ast.Name() | ast.Constant():
            return True
    return False


class _Rule:
    """Goes through a rule's statements; `symbols` has what each of its variables is called at the time."""

    def __init__(self, outputs: list[str], symbols: dict[str, str], inside: Mapping[str, ast.expr]) -> None:
        self.outputs, self.symbols = outputs, symbols
        self.inside = Replaced(inside, {})

    def equations(self, body: list[ast.stmt]) -> list[tuple[str, str]]:
        *statements, end = body
        if not isinstance(end, ast.Return) or end.value is None:
            raise UnprintableError(ast.unparse(end))
        results = end.value.elts if isinstance(end.value, ast.Tuple) else [end.value]
        assignments = [_assigned(statement) for statement in statements]
        names = [name for pairs in assignments for name, _ in pairs]
        final = {  # variables that are returned as they are: they are called what they become
            result.id: symbol(output, "t")
            for output, result in zip(self.outputs, results, strict=True)
            if isinstance(result, ast.Name) and result.id in names
        }
        left, times = Counter(names), Counter[str]()
        found = []
        for pairs in assignments:
            texts = [self.text(value) for _, value in pairs]  # before any of the statement's names is another
            for (name, _), text in zip(pairs, texts, strict=True):
                left[name] -= 1
                times[name] += 1
                is_last = not left[name] and (name in final or name not in self.outputs)
                last = final.get(name) or symbol(name, "t")
                self.symbols[name] = last if is_last else symbol(name, "t", primes=times[name])
                found.append((self.symbols[name], text))
        for output, result in zip(self.outputs, results, strict=True):
            if not (isinstance(result, ast.Name) and result.id in final):
                found.append((symbol(output, "t"), self.text(result)))
        return found

    def text(self, value: ast.expr) -> str:
        return latex(self.inside.visit(copy.deepcopy(value)), self.symbols)


def _assigned(statement: ast.stmt) -> list[tuple[str, ast.expr]]:
    found = assigned(statement)
    if found is None:
        raise UnprintableError(ast.unparse(statement))
    return found
