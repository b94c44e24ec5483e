"""Functions that take what they need by name out of what there is."""

import inspect
import zlib
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

from numba import types
from numba.extending import overload

from fastoptim.kernels.jit import jitable
from fastoptim.kernels.rule import fingerprint


def arguments_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of a function's arguments, in order."""
    return tuple(inspect.signature(function).parameters)


def adapted(function: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    """The same function of other arguments: it takes all of `names`, in this order, and hands on those it has itself.

    If a name is there twice, the last one counts.
    """
    last = {name: i for i, name in enumerate(names)}
    taken = [name if last[name] == i else f"_{i}" for i, name in enumerate(names)]
    own = FunctionType(function.__code__, function.__globals__, function.__name__, None, function.__closure__)
    # A name of its own: there may be other functions of this name, or this one as it was before an edit.
    content = f"{fingerprint(function):x}", f"{zlib.crc32(','.join(taken).encode()):x}"
    variables = {"own": jitable(content[0])(own), "__name__": __name__}
    text = f"def {function.__name__}({', '.join(taken)}):\n    return own({', '.join(arguments_of(function))})\n"
    exec(text, variables)  # numba needs named arguments, and so does whoever asks for a rule's names
    made: Callable[..., Any] = jitable(*content)(variables[function.__name__])
    vars(made)["adapted_from"] = function  # for errors
    return made


def one_float(returned: Any) -> Any:
    """What a function of sums returned, as a float. Anything but a number is refused when it is compiled."""
    return float(returned)


@overload(one_float, strict=False)
def _one_float_overload(returned: Any) -> Callable[..., Any]:
    check_float(returned)
    return lambda returned: float(returned)


def check_float(returned: Any) -> None:
    """Refuse a type that is no number.

    Raises:
        TypeError
    """
    if not isinstance(returned, types.Float | types.Integer | types.Boolean):
        raise TypeError(f"the function returned {returned}; expected one float")
