"""`fastoptim warmup`: compiles every kernel into numba's cache."""

from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher

from fastoptim import Optimizer
from fastoptim.cli.info import cache_folder
from fastoptim.kernels import headers
from fastoptim.kernels.cpu import SERIAL_LIMIT


def run(optimizers: Sequence[type[Optimizer]], dtypes: Sequence[str]) -> int:
    """Compile what is not cached yet, saying so line by line; return the exit code."""
    longest = max(len(cls.__name__) for cls in optimizers)
    sets: list[tuple[str, Any, Callable[[], None]]] = [  # label, what holds the compiled functions, what compiles them
        (f"{cls.__name__:<{longest}} {dtype}", cls.kernels.loops, partial(kernels, cls, np.dtype(dtype)))
        for cls in optimizers
        for dtype in dtypes
    ]
    sets.append(("argument checks", headers, partial(checks, optimizers[0], np.dtype(dtypes[0]))))
    width, digits = max(len(label) for label, _, _ in sets), len(str(len(sets)))
    begin, all_compiled, all_loaded = perf_counter(), 0, 0
    for i, (label, owner, compile_set) in enumerate(sets, start=1):
        print(f"[{i:{digits}}/{len(sets)}] {label:<{width}} ", end="", flush=True)
        start = perf_counter()
        compiled, loaded = _count(owner, compile_set)
        print(f"{perf_counter() - start:5.1f} s  {_words(compiled, loaded)}", flush=True)
        all_compiled, all_loaded = all_compiled + compiled, all_loaded + loaded
    total = all_compiled + all_loaded
    print(f"{total} kernels in {perf_counter() - begin:.1f} s, {all_loaded} of them already cached")
    print(f"in {cache_folder() or 'no folder: every process compiles anew'}")
    return 0


def kernels(cls: type[Optimizer], dtype: np.dtype[Any]) -> None:
    """Compile an optimizer's own loops, and the public kernels for scalars as `Optimizer.scalars` gives them."""
    for size in SERIAL_LIMIT, SERIAL_LIMIT + 1:  # for one thread, and for all
        cls.kernels.loops.compile(dtype, size)
    scalars = cls().scalars(1)
    for kernel in cls.kernels.cpu, cls.kernels.cpu_serial:
        kernel(np.zeros(1, dtype), np.zeros(1, dtype), np.zeros((len(cls.slots), 1), dtype), scalars)


def checks(cls: type[Optimizer], dtype: np.dtype[Any]) -> None:
    """Compile what looks at the arguments of `update`: all optimizers and dtypes share it."""
    optimizer, params = cls(), {"p": np.zeros(1, dtype)}
    for _ in range(2):  # the first update looks at everything in Python
        optimizer.update(params, params)


def _count(owner: Any, compile_set: Callable[[], None]) -> tuple[int, int]:
    """How many of the compiled functions that `owner` holds had to be compiled, and how many were cached."""
    before = _misses_and_hits(owner)
    compile_set()
    after = _misses_and_hits(owner)
    return after[0] - before[0], after[1] - before[1]


def _misses_and_hits(owner: Any) -> tuple[int, int]:
    stats = [value.stats for value in vars(owner).values() if isinstance(value, Dispatcher)]
    return sum(sum(x.cache_misses.values()) for x in stats), sum(sum(x.cache_hits.values()) for x in stats)


def _words(compiled: int, loaded: int) -> str:
    return ", ".join(f"{count} {word}" for count, word in ((compiled, "compiled"), (loaded, "cached")) if count)
