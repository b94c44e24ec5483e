"""Stand-ins in Numba's simulator for what kernels call: they run there as Python, on NumPy's numbers."""

import inspect
import math
from collections.abc import Callable, Hashable
from types import CellType, CodeType, FunctionType
from typing import Any

import numpy as np

from fastoptim.kernels.cuda.stand_ins import STAND_INS
from fastoptim.kernels.rule import LIBRARIES

Function = Callable[..., Any]


def simulated(function: Function) -> Function:
    """The function with those of NumPy in place of those of `math`, also in all functions that it calls.

    `math` and `float` would make a Python float of float32. And Python refuses to divide a float by zero. What is made
    of LLVM's instructions has a stand-in of its own.
    """
    return np.errstate(all="ignore")(_replaced(function, {}))


def _copy(function: Any, made: dict[Any, Function]) -> Function:
    if function not in made:
        variables, cells = dict(function.__globals__), [CellType() for _ in function.__closure__ or ()]
        copy = FunctionType(function.__code__, variables, function.__name__, function.__defaults__, tuple(cells))
        copy.__kwdefaults__, made[function] = function.__kwdefaults__, copy  # known now: it may call itself
        used = _names(function.__code__) & {*variables, "float"}
        variables |= {name: _replaced(variables.get(name, float), made) for name in used}
        for cell, own in zip(cells, function.__closure__ or (), strict=True):
            cell.cell_contents = _replaced(own.cell_contents, made)
    return made[function]


def _replaced(value: Any, made: dict[Any, Function]) -> Any:
    """What stands for a variable of a function."""
    if callable(value) and isinstance(value, Hashable) and value in STAND_INS:
        return STAND_INS[value]
    if value is math:
        return np
    if value is float:
        return np.float64
    value = getattr(value, "py_func", value)  # what @njit compiled
    if inspect.isbuiltin(value) and value.__module__ == "math":
        return getattr(np, value.__name__)
    if inspect.isfunction(value) and value.__module__.partition(".")[0] not in LIBRARIES:
        return _copy(value, made)
    return value


def _names(code: CodeType) -> set[str]:
    """The names that a function takes from its module, and functions within it."""
    return {*code.co_names}.union(*(_names(x) for x in code.co_consts if isinstance(x, CodeType)))
