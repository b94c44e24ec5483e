"""A rule: one optimizer's arithmetic for one element. All loops, devices and layouts are built from it."""

import inspect
import sys
import zlib
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import numpy as np
from numba.extending import register_jitable

Rule = Callable[..., Any]
MOST_ARGUMENTS = 24  # of a rule: numba compiles a chain of functions for them, and runs out of stack soon after
LIBRARIES = {*sys.stdlib_module_names, "numpy", "numba"}  # whose functions change with their releases alone


def rule(function: Rule) -> Rule:
    """Declare `function(p, g, *state, *scalars) -> (p, *state)` to be an optimizer's rule.

    `p` is one element of a parameter, `g` of its gradient, `state` one number for each of the optimizer's slots,
    `scalars` the step's numbers; all have the parameter's dtype. A rule without state returns `p` alone.

    Use `+ - * /`, `abs`, comparisons, `a if c else b` and `math.sqrt`: IEEE 754 defines their every bit, which is why
    results do not depend on threads or device. A literal makes float32 float64, which is refused when the kernel is
    compiled: write `x * x` for `x**2`, and take `1 - beta` as a scalar.

    The function stays a plain Python function that `@njit` code may call too.

    Raises:
        TypeError: if the parameters are not positional ones that begin with `p, g`, or are more than 24.
    """
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) > MOST_ARGUMENTS:
        raise TypeError(
            f"rule {function.__name__}: it has {len(parameters)} arguments, expected at most {MOST_ARGUMENTS}"
        )
    if any(x.kind is not x.POSITIONAL_OR_KEYWORD for x in parameters) or arguments(function)[:2] != ("p", "g"):
        raise TypeError(
            f"rule {function.__name__}{inspect.signature(function)}: expected (p, g, *state, *scalars), each by name"
        )
    _declared.add(function)
    jitable: Rule = register_jitable(function)
    return jitable


_declared: WeakSet[Rule] = WeakSet()


def is_rule(function: object) -> bool:
    """Whether a function was declared with `rule`: compiled code can only call those."""
    return function in _declared


def arguments(function: Rule) -> tuple[str, ...]:
    """The names of the arguments, in order."""
    return tuple(inspect.signature(function).parameters)


def fingerprint(*sources: Any) -> int:
    """A checksum of the source of functions and modules, and of what the functions use from their own modules.

    Numba's cache sees edits to the file that holds the loops, not to the one that holds a rule; with this number in
    the loops' closure it sees both.
    """
    pending = list(sources)
    seen: set[Any] = set()
    checksum = 0
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        checksum = zlib.crc32(_text(current), checksum)
        if inspect.isfunction(current):
            for name, value in sorted(_used(current).items()):
                value = getattr(value, "py_func", value)  # what @njit compiled
                if inspect.isfunction(value) and value.__module__.partition(".")[0] not in LIBRARIES:
                    pending.append(value)
                elif isinstance(value, bool | int | float | np.generic):
                    checksum = zlib.crc32(f"{name}={value!r}".encode(), checksum)
    return checksum


def _used(function: Rule) -> dict[str, Any]:
    """What a function takes from its module, and from modules that are imported there, by name."""
    variables = inspect.getclosurevars(function)
    used = {**variables.globals, **variables.nonlocals}
    for module_name, module in list(used.items()):
        if inspect.ismodule(module):
            attributes = set(function.__code__.co_names) & set(vars(module))
            used |= {f"{module_name}.{name}": getattr(module, name) for name in attributes}
    return used


def _text(source: Any) -> bytes:
    try:
        return inspect.getsource(source).encode()
    except (OSError, TypeError):  # defined at a prompt or by exec
        code = source.__code__
        return repr((code.co_code, code.co_consts, code.co_names)).encode()
