"""How compiled passes are called: by their address, from one launcher that all rules share.

A **pass** is a compiled function `(table, scalars, start, stop)` of four int64: two addresses, whatever the pass takes
them for, and the part of the work that is to be done. Numba compiles parallel loops slowly. So there is one parallel
loop for all passes, and a new rule costs one small compilation.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from fastoptim.kernels import jit, memory, threads
from fastoptim.kernels.errors import explaining, explaining_functions
from fastoptim.kernels.jit import compiled, name_apart
from fastoptim.kernels.memory import WORD, word_at
from fastoptim.kernels.rule import fingerprint

Array = np.ndarray[Any, Any]

SIGNATURE = types.void(*(types.int64,) * 4)
# Words of a launch: the pass, its table, its scalars, the work there is, and the work that a share is cut by.
PASS, PASS_TABLE, SCALARS, WORK, SHARE = range(5)
FIELDS = 5


class Pass:
    """A pass, compiled or loaded from numba's cache when its address is first asked for.

    Args:
        function: to be compiled.
        content: what it was made for.
        what: a description of it for the log.
        rule: the user's rule in it, for errors.
        functions: the user's other functions in it, for errors.
        options: of the compiler.
    """

    def __init__(
        self,
        function: Callable[..., None],
        *content: object,
        what: str,
        rule: Any = None,
        functions: Sequence[Callable[..., Any]] = (),
        **options: Any,
    ) -> None:
        name_apart(function, *content)
        self._explaining = nullcontext if rule is None else partial(explaining, rule)
        self._functions = functions
        self.dispatcher = compiled(function, what, no_cfunc_wrapper=False, **options)
        self._address = 0

    @property
    def address(self) -> int:
        """Where the machine code is.

        Raises:
            RuleError: the rule in it, or another function, cannot be compiled.
        """
        if not self._address:
            with self._explaining(), explaining_functions(self._functions):
                self.dispatcher.compile(SIGNATURE)
            result = self.dispatcher.overloads[SIGNATURE.args]
            self._address = result.library.get_pointer_to_function(result.fndesc.llvm_cfunc_wrapper_name)
        return self._address


@intrinsic
def _call(typing_context: Any, address: Any, table: Any, scalars: Any, start: Any, stop: Any) -> Any:
    """Call the pass at an address."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        word = ir.IntType(64)
        function = ir.FunctionType(ir.VoidType(), [word] * 4)
        builder.call(builder.inttoptr(values[0], function.as_pointer()), values[1:])
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 5), generate


def _run_serial(launch: Any, count: Any) -> None:
    for _ in range(count):
        _call(word_at(launch), word_at(launch + WORD), word_at(launch + 2 * WORD), 0, word_at(launch + 3 * WORD))
        launch += FIELDS * WORD


def _run_parallel(launch: Any, workers: Any) -> None:
    address, table, scalars = word_at(launch), word_at(launch + WORD), word_at(launch + 2 * WORD)
    work, line = word_at(launch + 3 * WORD), word_at(launch + 4 * WORD)
    share = (work + workers * line - 1) // (workers * line) * line
    for worker in prange(workers):
        start = worker * share
        stop = min(start + share, work)
        if start < stop:
            _call(address, table, scalars, start, stop)


for _function in _run_serial, _run_parallel:
    name_apart(_function, f"{fingerprint(memory, jit):x}")
run_serial = compiled(_run_serial, "the launcher of all kernels")
run_parallel = compiled(_run_parallel, "the parallel launcher of all kernels", parallel=True)


class Launch(NamedTuple):
    """One call of a pass, made ready.

    Attributes:
        address: of the pass.
        table, scalars: what it takes, kept alive by whoever made the launch.
        work: how much there is to do: elements, say.
        line: threads get multiples of so much work, so that no two of them write to one cache line.
        elements: how many elements that is, for the choice between one thread and all.
        kind: tells apart what the pass does at another speed.
    """

    address: int
    table: int
    scalars: int
    work: int
    line: int
    elements: int
    kind: int = 0


class Launches:
    """Calls of passes, one after another, each on as many threads as pay.

    Attributes:
        words: of each call, which `run_changed` reads anew.
    """

    def __init__(self, launches: list[Launch], serial_limit: int) -> None:
        self.words: Array = np.array([launch[:FIELDS] for launch in launches], np.int64).reshape(-1, FIELDS)
        self._address = int(self.words.ctypes.data)
        self._elements = [launch.elements for launch in launches]
        self._keys = [(launch.address, launch.kind) for launch in launches]
        self._limit = serial_limit
        self.is_serial = all(elements <= serial_limit for elements in self._elements)

    def compile(self, is_changing: bool = False) -> None:
        """Have the launchers ready, so that `run` cannot fail, nor `run_changed` if the calls are changing ones."""
        run_serial.compile((types.int64, types.int64))
        if not self.is_serial or is_changing:
            run_parallel.compile((types.int64, types.int64))

    @property
    def serial_run(self) -> Callable[[], None]:
        """`run`, for calls that one thread makes: one compiled function, with its arguments."""
        return partial(run_serial, self._address, len(self._elements))

    def run(self) -> None:
        """Make all calls."""
        if self.is_serial:  # then every microsecond counts
            run_serial(self._address, len(self._elements))
        else:
            self.run_changed(self._elements)

    def run_changed(self, elements: Sequence[int]) -> None:
        """Make all calls, which are of so many elements now."""
        if max(elements, default=0) <= self._limit:
            run_serial(self._address, len(elements))
            return
        for i, own in enumerate(elements):
            launch = self._address + i * FIELDS * WORD
            if own <= self._limit:
                run_serial(launch, 1)
            else:
                threads.run(run_serial, run_parallel, launch, self._keys[i], own)
