"""What an optimizer sums over arrays before its rule, as mathematics."""

import ast
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from site_pages.latex import SUM_OF, UnprintableError
from site_pages.scalars import tree_of
from site_pages.symbols import symbol

Equations = list[tuple[str, str]]
Print = Callable[[list[str], Mapping[str, str], list[ast.stmt]], Equations]


class Sums(NamedTuple):
    """A reduction.

    Attributes:
        elements: what is computed of each element before.
        sums: over the elements.
        results: of the sums.
        over_all: whether they are over all arrays together.
    """

    elements: Equations
    sums: Equations
    results: Equations
    over_all: bool


def sums_of(reduction: Any, slots: tuple[str, ...], symbols: dict[str, str], equations: Print) -> Sums:
    """The equations of a reduction.

    Args:
        reduction: see `fastoptim.Reduction`.
        slots: the names of the state.
        symbols: of all names that are known; what the reduction computes is added, or has a new symbol.
        equations: from names of results, symbols and a function's body to equations.

    Raises:
        UnprintableError: there is something in it that has no form as mathematics here.
    """
    tree = tree_of(reduction.rule)
    own = [x.arg for x in tree.args.args if x.arg in slots]
    *statements, end = tree.body
    if not isinstance(end, ast.Return) or end.value is None:
        raise UnprintableError(ast.unparse(end))
    results = end.value.elts if isinstance(end.value, ast.Tuple) else [end.value]
    summed = [ast.Call(ast.Name(SUM_OF), [x], []) for x in results[len(own) :]]
    body = [*statements, ast.Return(ast.Tuple([*results[: len(own)], *summed]))]
    made = equations([*own, *reduction.sums], symbols, body)
    count = len(made) - len(reduction.sums)
    symbols |= {name: symbol(name, "t") for name in (*own, *reduction.sums)}
    found: Equations = []
    for function in reduction.functions:
        found += equations([function.__name__], symbols, tree_of(function).body)
        symbols[function.__name__] = symbol(function.__name__, "t")
    return Sums(made[:count], made[count:], found, reduction.over_all)
