"""An optimizer's step as mathematics: what its rule and its `scalars` say, in the notation of papers."""

import ast
import copy
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from site_pages.latex import UnprintableError, latex
from site_pages.scalars import Replaced, WithCarry, assigned, carry_names, scalars, tree_of
from site_pages.sums import Sums, sums_of
from site_pages.symbols import indexed, symbol


class Formula(NamedTuple):
    """Equations in LaTeX, each a left and a right side.

    Attributes:
        numbers: of the step, one for all elements.
        rule: for each element.
        sums: what is summed over arrays before the rule.
    """

    numbers: list[tuple[str, str]]
    rule: list[tuple[str, str]]
    sums: tuple[Sums, ...] = ()


def formula(cls: Any, variant: tuple[str, ...] = (), **known: bool) -> Formula:
    """The step of an optimizer.

    Args:
        cls: its class.
        variant: the hyperparameters that are on and choose the rule.
        known: other switches, by name.

    Raises:
        UnprintableError: the rule or `scalars` has something that has no form as mathematics here.
    """
    known = {name: name in variant for key in cls.variants for name in key} | known
    before = WithCarry(carry_names(cls), {"carry": "t-1"})
    returned = scalars(cls, known, "next_carry").returned if cls.carry is not None else []
    carried = {name: before.visit(x) for name, x in zip(carry_names(cls), returned, strict=True)}
    return _formula(cls, cls.variant_stages[variant][-1], known, carried)


def evaluation(cls: Any) -> Formula:
    """The parameters that an optimizer computes to evaluate with, called x.

    Raises:
        UnprintableError: as `formula`.
    """
    return _formula(cls, cls.evaluation_stage, {}, {}, "evaluation_scalars")


def _formula(
    cls: Any, stage: Any, known: Mapping[str, bool], carried: Mapping[str, ast.expr], method: str = "scalars"
) -> Formula:
    """The numbers of a stage, and its equations."""
    is_step = method == "scalars"
    tree, read = tree_of(stage.rule), scalars(cls, known, method)
    carry = WithCarry(carry_names(cls), {"carry": "t", "carry_before": "t-1"})
    p, g, *others = [x.arg for x in tree.args.args]
    slots, names = others[: len(stage.slots)], stage.kernels.scalar_names
    values = {name: carry.visit(x) for name, x in zip(names, read.returned, strict=True)}
    inside = {name: value for name, value in values.items() if _is_short(value)}
    numbers = {name: value for name, value in values.items() if name not in inside}
    every = {name: carry.visit(x) for name, x in read.named.items()}
    named = {name: value for name, value in every.items() if name not in numbers and not _is_short(value)}
    symbols = {name: symbol(name, "t") for name in numbers} | carry.symbols
    state = p, *slots, *cls.array_slots
    symbols |= {name: symbol(name, "t-1" if is_step else "t") for name in state} | {g: symbol(g, "t")}
    sums = tuple(
        sums_of(
            each, stage.slots, symbols, lambda names, known, body: _Rule(names, dict(known), inside).equations(body)
        )
        for each in (cls.reductions if is_step else ())
    )
    body = [*_decay(cls, p, g), *tree.body] if is_step else tree.body
    made = _Rule([p, *slots] if is_step else ["x"], symbols, inside).equations(body)
    return Formula(_numbers(numbers, named, carried, carry.symbols), made, sums)


def _numbers(
    numbers: Mapping[str, ast.expr],
    named: Mapping[str, ast.expr],
    carried: Mapping[str, ast.expr],
    symbols: Mapping[str, str],
) -> list[tuple[str, str]]:
    """The equations of a step's numbers, each behind those that it needs.

    Args:
        numbers: those of the rule.
        named: numbers with a name of their own, which others consist of. Those that are not needed are left out.
        carried: what is carried on from the step, if anything is.
        symbols: of what is carried.
    """
    left = {**symbols, **{name: indexed(name) for name in named}}
    first, last, of_rule = _ByName({**named, **numbers}), _ByName(named), {name: symbol(name, "t") for name in numbers}
    found = [(symbol(name, "t"), latex(first.visit(x), left | of_rule)) for name, x in carried.items()]
    found += [(symbol(name, "t"), latex(last.visit(x), left)) for name, x in numbers.items()]
    needed = first.used | last.used
    for i, (name, value) in reversed([*enumerate(named.items())]):
        if name in needed:
            earlier = _ByName(dict([*named.items()][:i]))
            found.insert(0, (left[name], latex(earlier.visit(copy.deepcopy(value)), left)))
            needed |= earlier.used
    return found


class _ByName(ast.NodeTransformer):
    """Puts names in the place of the expressions that they stand for."""

    def __init__(self, named: Mapping[str, ast.expr]) -> None:
        self.names = {ast.dump(value): name for name, value in named.items()}
        self.used: set[str] = set()

    def visit(self, node: ast.AST) -> Any:
        name = self.names.get(ast.dump(node))
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
        case ast.BinOp(left=ast.Constant(), right=ast.Attribute()) | ast.Attribute() | ast.Name() | ast.Constant():
            return True
    return False


class _Rule:
    """Goes through a rule's statements; `symbols` has what each of its variables is called at the time."""

    def __init__(self, outputs: list[str], symbols: dict[str, str], inside: Mapping[str, ast.expr]) -> None:
        self.outputs, self.symbols, self.inputs = outputs, symbols, {*symbols, *outputs}
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
        return [(left, right) for left, right in found if left != right]  # what stays as it is

    def text(self, value: ast.expr) -> str:
        return latex(self.inside.visit(copy.deepcopy(value)), self.symbols)


def _assigned(statement: ast.stmt) -> list[tuple[str, ast.expr]]:
    found = assigned(statement)
    if found is None:
        raise UnprintableError(ast.unparse(statement))
    return found
