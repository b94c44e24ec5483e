"""An optimizer's step as mathematics: what its rule and its `scalars` say, in the notation of papers."""

import ast
import copy
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from site_pages.latex import UnprintableError, latex
from site_pages.scalars import Replaced, assigned, scalars, tree_of, value_of
from site_pages.symbols import indexed, symbol


class Formula(NamedTuple):
    """Equations in LaTeX, each a left and a right side.

    Attributes:
        numbers: of the step, one for all elements.
        rule: for each element.
    """

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
    stage = cls.variant_stages[variant]
    tree, known = tree_of(stage.rule), {name: name in variant for key in cls.variants for name in key} | known
    p, g, *others = [x.arg for x in tree.args.args]
    slots, names = others[: len(stage.slots)], others[len(stage.slots) :]
    read = scalars(cls, known)
    values = dict(zip(names, read.returned, strict=True))
    inside = {name: value for name, value in values.items() if _is_short(value)}
    numbers = {name: value for name, value in values.items() if name not in inside}
    carried = {} if cls.carry is None else {CARRY: value_of(cls, "next_carry", known)}
    named = {name: value for name, value in read.named.items() if name not in numbers and not _is_short(value)}
    symbols = {name: symbol(name, "t") for name in numbers}
    symbols |= {name: symbol(name, "t-1") for name in (p, *slots)} | {g: symbol(g, "t")}
    made = _Rule([p, *slots], symbols, inside).equations([*_decay(cls, p, g), *tree.body])
    return Formula(_numbers(numbers, named, carried), made)


CARRY = "carry"


def _numbers(
    numbers: Mapping[str, ast.expr], named: Mapping[str, ast.expr], carried: Mapping[str, ast.expr]
) -> list[tuple[str, str]]:
    """The equations of a step's numbers, each behind those that it needs.

    Args:
        numbers: those of the rule.
        named: numbers with a name of their own, which others consist of. Those that are not needed are left out.
        carried: what is carried on from the step, if anything is.
    """
    left = {name: indexed(name) for name in named}
    now, before = ({CARRY: symbol(CARRY, index)} for index in ("t", "t-1"))
    last = _ByName(named)
    found = [(symbol(name, "t"), latex(last.visit(x), left | before)) for name, x in carried.items()]
    found += [(symbol(name, "t"), latex(last.visit(x), left | now)) for name, x in numbers.items()]
    needed = last.used
    for i, (name, value) in reversed([*enumerate(named.items())]):
        if name in needed:
            earlier = _ByName(dict([*named.items()][:i]))
            found.insert(0, (left[name], latex(earlier.visit(copy.deepcopy(value)), left | now)))
            needed |= earlier.used
    return found


class _ByName(ast.NodeTransformer):
    """Puts names in the place of the expressions that they stand for, and of what an optimizer carries."""

    def __init__(self, named: Mapping[str, ast.expr]) -> None:
        self.names = {ast.dump(value): name for name, value in named.items()}
        self.used: set[str] = set()

    def visit(self, node: ast.AST) -> Any:
        name = CARRY if isinstance(node, ast.Attribute) and node.attr == CARRY else self.names.get(ast.dump(node))
        if name is None:
            return self.generic_visit(node)
        self.used.add(name)
        return ast.Name(name, ast.Load())


def _decay(cls: Any, p: str, g: str) -> list[ast.stmt]:
    """The weight decay of a class that has this option on by default: it comes before the rule."""
    decay, decoupled = (cls.__signature__.parameters[name] for name in ("weight_decay", "decoupled"))
    if decay.kind is not decay.KEYWORD_ONLY or decay.default == 0:
        return []
    step = (
        f"{p} = {p} - self.lr * self.weight_decay * {p}"
        if decoupled.default
        else f"{g} = {g} + self.weight_decay * {p}"
    )
    return ast.parse(step).body


def _is_short(value: ast.expr) -> bool:
    """Whether a number needs no name of its own: `self.lr`, `1 - self.beta1`, a constant."""
    match value:
        case ast.BinOp(left=ast.Constant(), right=ast.Attribute()) | ast.Attribute() | ast.Constant():
            return True
    return False


class _Rule:
    """Goes through a rule's statements; `symbols` has what each of its variables is called at the time."""

    def __init__(self, outputs: list[str], symbols: dict[str, str], inside: Mapping[str, ast.expr]) -> None:
        self.outputs, self.symbols, self.inputs = outputs, symbols, set(symbols)
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
                is_last = not left[name] and (name in final or name not in self.inputs)
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
