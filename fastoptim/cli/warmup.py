"""`fastoptim warmup`: compiles kernels into numba's cache."""

import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np

from fastoptim import Optimizer
from fastoptim.cli.info import cache_folder
from fastoptim.kernels.cpu import SERIAL_LIMIT
from fastoptim.kernels.notice import logger


def run(optimizers: Sequence[Optimizer], dtypes: Sequence[str]) -> int:
    """Compile what is not cached yet, saying so line by line; return the exit code.

    Args:
        optimizers: whose kernels are compiled. Each set of options is another kernel.
        dtypes: of the parameters.
    """
    folder = cache_folder()
    work = [(f"{_name(opt)} {dtype}", partial(kernels, opt, dtype)) for opt in optimizers for dtype in dtypes]
    width, digits = max(len(label) for label, _ in work), len(str(len(work)))
    begin, before = perf_counter(), _cached(folder)
    with _without_notices():
        for i, (label, compile_all) in enumerate(work, start=1):
            print(f"[{i:{digits}}/{len(work)}] {label:<{width}} ", end="", flush=True)
            start, had = perf_counter(), _cached(folder)
            compile_all()
            count = "" if folder is None else f"  {_cached(folder) - had or 'nothing'} compiled"
            print(f"{perf_counter() - start:5.1f} s{count}", flush=True)
    seconds = f"{perf_counter() - begin:.1f} s"
    if folder is None:
        print(f"all compiled in {seconds}, and lost: no folder can be written, so every process compiles anew")
    else:
        print(f"{_cached(folder) - before} kernels compiled in {seconds}; the rest were cached already\nin {folder}")
    return 0


def kernels(opt: Optimizer, dtype: str) -> None:
    """Compile what updates need, on one thread and on all, and any public kernels for scalars in a tuple."""
    for shape in 1, SERIAL_LIMIT + 1, (2, 2):  # the last one is a matrix
        opt.warmup({"p": np.zeros(shape, dtype)})
    scalars = next(opt.successive_scalars())
    for kernel in (opt.kernels.cpu, opt.kernels.cpu_serial) if opt.kernels.are_public else ():
        kernel(np.zeros(1, dtype), np.zeros(1, dtype), np.zeros((len(opt.slots), 1), dtype), scalars)


def _name(opt: Optimizer) -> str:
    """The class, and the options that are not at their defaults."""
    defaults = inspect.signature(type(opt)).parameters
    changed = [name for name, value in opt.hyperparameters().items() if value != defaults[name].default]
    return f"{type(opt).__name__} with {', '.join(changed)}" if changed else type(opt).__name__


def _cached(folder: Path | None) -> int:
    """How many kernels there are in the cache."""
    return 0 if folder is None else sum(1 for _ in folder.glob("*.nbc"))


@contextmanager
def _without_notices() -> Iterator[None]:
    """Within it, nothing is logged about kernels that are being compiled: the command itself says that."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
