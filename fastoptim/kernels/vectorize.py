"""A rule for whole NumPy arrays, made from the source of the rule for one element.

That is what a step takes in plain NumPy, of any optimizer: the demo and the benchmarks compare the kernels with it.
"""

import ast
from collections.abc import Collection, Iterable

from fastoptim.kernels.array_code import Function, translated
from fastoptim.kernels.rule import arguments


def on_arrays(rule: Function) -> Function:
    """The same rule as a function of NumPy arrays: `(p, g, *state, *scalars) -> (p, *state)`.

    `p`, `g` and the state are arrays of one shape and dtype; the scalars are NumPy's, of that dtype too
    (`np.float32(lr)`), so that every operation rounds as it does for one element. The arrays are not changed: the
    results have the bits of the rule applied to each element.

    Functions of `math` become those of NumPy, `a if c else b` becomes `np.where(c, a, b)`, `a and b` becomes
    `np.where(a, b, a)`, and a function that the rule calls is changed in the same way.

    Raises:
        ValueError: the rule has no source (it was made by `exec`), or holds something that has no counterpart for
            arrays, as a loop has. The message names the rule and the line.
    """
    return translated(rule).compiled()


def in_place(rule: Function, slots: int) -> Function:
    """`on_arrays(rule)` that writes its results into `p` and the first `slots` arrays behind `g`, and returns None.

    The bits are the same, in as little as half the time. An assignment becomes operations in place where it can, as
    people write it: `m = beta * m + x` becomes `m *= beta; m += x`.

    Raises:
        ValueError: as `on_arrays` does; or the rule does not return `p` and so many arrays.
    """
    translation = translated(rule)
    definition = translation.definition
    p, _, *rest = arguments(rule)
    targets = [p, *rest[:slots]]
    *statements, last = definition.body
    assert isinstance(last, ast.Return)
    results = last.value.elts if isinstance(last.value, ast.Tuple) else [last.value] if last.value else []
    if len(results) != len(targets):
        raise ValueError(
            f"rule {rule.__name__} for arrays: expected its last line to return {len(targets)} "
            f"value{'s' * (slots > 0)} ({', '.join(targets)}), got `{ast.unparse(last)}` in line {last.lineno}"
        )
    body = [ast.copy_location(new, each) for each in statements for new in _statement(each, targets)]
    body += [ast.copy_location(new, last) for new in _results(targets, results)]
    definition.body = body or [ast.Pass()]
    return translation.compiled()


def _statement(statement: ast.stmt, targets: Collection[str]) -> list[ast.stmt]:
    if not isinstance(statement, ast.Assign):
        return [statement]
    match statement.targets:
        case [ast.Name(id=name)] if name in targets:
            return _write(name, statement.value)
        case [ast.Name(id=name)]:  # a name for an array must not see what is written into the array later
            return [_assign(name, _own(statement.value, targets))]
    # Several names at once: all values are there before the first is written.
    names = [node.id for each in statement.targets for node in ast.walk(each) if isinstance(node, ast.Name)]
    value = statement.value
    if isinstance(value, ast.Tuple):
        value = ast.Tuple([_own(each, targets) for each in value.elts], ast.Load())
    temporary = ast.Assign([_Renamed().visit(target) for target in statement.targets], _own(value, targets))
    written = [each for name in names for each in _statement(_assign(name, _load(_temporary(name))), targets)]
    return [temporary, *written]


def _results(targets: list[str], results: list[ast.expr]) -> list[ast.stmt]:
    """The statements for `return`: an array that another result is made of is written last."""
    first: list[ast.stmt] = []
    between: list[ast.stmt] = []
    last: list[ast.stmt] = []
    for i, (target, result) in enumerate(zip(targets, results, strict=True)):
        if isinstance(result, ast.Name) and result.id == target:
            continue
        if _mentions([*results[:i], *results[i + 1 :]], target):
            first.append(_assign(_temporary(target), _own(result, targets)))
            last += _write(target, _load(_temporary(target)))
        else:
            between += _write(target, result)
    return first + between + last


def _write(name: str, value: ast.expr) -> list[ast.stmt]:
    """Statements that write a value into the array of that name."""
    found = _operations(name, value)
    if found is not None:
        return found
    everything = ast.Subscript(_load(name), ast.Constant(...), ast.Store())
    return [ast.Assign([everything], value)]


def _operations(name: str, value: ast.expr) -> list[ast.stmt] | None:
    """The value as operations in place, if it is made so that they can be used."""
    if isinstance(value, ast.Name) and value.id == name:
        return []
    if not isinstance(value, ast.BinOp):
        return None
    left, right = value.left, value.right
    if isinstance(value.op, ast.Add | ast.Mult) and not _mentions([left], name):
        left, right = right, left  # gives the same bits
    before = _operations(name, left)
    if before is None or (before and _mentions([right], name)):  # which then is another number already
        return None
    return [*before, ast.AugAssign(ast.Name(name, ast.Store()), value.op, right)]


def _own(value: ast.expr, targets: Collection[str]) -> ast.expr:
    """The value, copied if it is one of the arrays that are written."""
    if isinstance(value, ast.Name) and value.id in targets:
        return ast.Call(ast.Attribute(value, "copy", ast.Load()), [], [])
    return value


def _mentions(values: Iterable[ast.expr], name: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == name for value in values for node in ast.walk(value))


def _temporary(name: str) -> str:
    return f"new.{name}"  # names with a dot are no variables'


def _load(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _assign(name: str, value: ast.expr) -> ast.Assign:
    return ast.Assign([ast.Name(name, ast.Store())], value)


class _Renamed(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(_temporary(node.id), node.ctx)
