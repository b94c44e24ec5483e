"""`fastoptim warmup`: compiles every kernel into numba's cache."""

from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher

from fastoptim import Optimizer
from fastoptim.cli.info import cache_folder
from fastoptim.kernels.cpu import SERIAL_LIMIT
from fastoptim.kernels.guard import accept_arrays
from fastoptim.kernels.launch import run_parallel, run_serial
from fastoptim.kernels.storage import storage_of


def run(optimizers: Sequence[type[Optimizer]], dtypes: Sequence[str]) -> int:
    """Compile what is not cached yet, saying so line by line; return the exit code."""
    longest = max(len(cls.__name__) for cls in optimizers)
    sets: list[tuple[str, Sequence[Dispatcher], Callable[[], None]]] = []
    for cls in optimizers:
        for dtype in map(np.dtype, dtypes):
            own = cls.kernels.on_cpu.dispatchers_for(dtype, 2 + len(cls.slots))
            sets.append((f"{cls.__name__:<{longest}} {dtype}", own, partial(kernels, cls, dtype)))
    shared = [accept_arrays, run_serial, run_parallel]
    sets.append(("what all share", shared, partial(updates, optimizers[0], np.dtype(dtypes[0]))))
    width, digits = max(len(label) for label, _, _ in sets), len(str(len(sets)))
    begin, all_compiled, all_loaded = perf_counter(), 0, 0
    for i, (label, dispatchers, compile_set) in enumerate(sets, start=1):
        print(f"[{i:{digits}}/{len(sets)}] {label:<{width}} ", end="", flush=True)
        start = perf_counter()
        compiled, loaded = _count(dispatchers, compile_set)
        print(f"{perf_counter() - start:5.1f} s  {_words(compiled, loaded)}", flush=True)
        all_compiled, all_loaded = all_compiled + compiled, all_loaded + loaded
    total = all_compiled + all_loaded
    print(f"{total} kernels in {perf_counter() - begin:.1f} s, {all_loaded} of them already cached")
    print(f"in {cache_folder() or 'no folder: every process compiles anew'}")
    return 0


def kernels(cls: type[Optimizer], dtype: np.dtype[Any]) -> None:
    """Compile an optimizer's pass, and the public kernels for scalars as `Optimizer.scalars` gives them."""
    scalars, compiled = cls().scalars(1), cls.kernels.on_cpu.pass_for((storage_of(dtype),) * (2 + len(cls.slots)))
    assert compiled.address
    for kernel in cls.kernels.cpu, cls.kernels.cpu_serial:
        kernel(np.zeros(1, dtype), np.zeros(1, dtype), np.zeros((len(cls.slots), 1), dtype), scalars)


def updates(cls: type[Optimizer], dtype: np.dtype[Any]) -> None:
    """Compile what looks at the arrays and calls the passes, on one thread and on all: the same for all optimizers."""
    for size in 1, SERIAL_LIMIT + 1:
        params = {"p": np.zeros(size, dtype)}
        cls().update(params, params)


def _count(dispatchers: Sequence[Dispatcher], compile_set: Callable[[], None]) -> tuple[int, int]:
    """How many of the functions had to be compiled, and how many were cached."""
    before = _misses_and_hits(dispatchers)
    compile_set()
    after = _misses_and_hits(dispatchers)
    return after[0] - before[0], after[1] - before[1]


def _misses_and_hits(dispatchers: Sequence[Dispatcher]) -> tuple[int, int]:
    stats = [dispatcher.stats for dispatcher in dispatchers]
    return sum(sum(x.cache_misses.values()) for x in stats), sum(sum(x.cache_hits.values()) for x in stats)


def _words(compiled: int, loaded: int) -> str:
    return ", ".join(f"{count} {word}" for count, word in ((compiled, "compiled"), (loaded, "cached")) if count)
