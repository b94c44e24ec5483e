"""What one way of using an optimizer takes in memory, measured in a new process: `bench.memory` starts it.

Every array is filled: the system gives memory only to what was written. The kernels run on small arrays before, so that
the compiler's memory is not counted.
"""

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastoptim
from bench.workloads import Array, Arrays

SIDE = 1000  # of each array
SMALL = {"small": np.ones((500, 500), np.float32)}  # large enough for all threads and for staged copies
CALLS = 2  # of `update`, times `accumulate`
KINDS: dict[str, Callable[[Array], Array]] = {
    "": np.ones_like,
    "fortran": lambda param: np.asfortranarray(np.ones_like(param)),
    "float64": lambda param: np.ones(param.shape, np.float64),
    "float16": lambda param: np.ones(param.shape, np.float16),
}


class Memory(NamedTuple):
    """Bytes, beyond parameters and gradients.

    Attributes:
        held: what stays.
        peak: the most that there was at once.
        predicted: what `opt.memory(params)` says that stays; None if the version has no such method.
    """

    held: int
    peak: int
    predicted: int | None


def _bytes(which: str) -> int:
    """A line of the process's status, VmRSS or VmHWM, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(which))


def measured(call: Callable[[], object]) -> tuple[int, int]:
    """What stays after a call, and its peak."""
    with suppress(OSError):  # without it, the peak is right where nothing before has taken more
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _bytes("VmRSS")
    call()
    return _bytes("VmRSS") - before, _bytes("VmHWM") - before


def predicted(opt: Any, params: Arrays) -> int | None:
    """What stays beyond the parameters, by the optimizer's own account."""
    if not hasattr(opt, "memory"):
        return None
    found = opt.memory(params)
    return int(found.total - found.params)


def updates(optimizer: str, options: dict[str, Any], kind: str, count: int, path: str) -> Memory:
    """Of some updates."""
    params, grads = _arrays(count, kind)
    opt = _warmed(optimizer, options, kind)
    found = measured(lambda: _update(opt, params, grads))
    return Memory(*found, predicted(opt, params))


def saving(optimizer: str, options: dict[str, Any], kind: str, count: int, path: str) -> Memory:
    """Of a checkpoint, beyond parameters and state."""
    params, grads = _arrays(count, kind)
    opt = _warmed(optimizer, options, kind)
    fastoptim.save(path, SMALL, _warmed(optimizer, options, kind))  # imports
    _update(opt, params, grads)
    return Memory(*measured(lambda: fastoptim.save(path, params, opt)), 0)


def loading(optimizer: str, options: dict[str, Any], kind: str, count: int, path: str) -> Memory:
    """Of restoring a checkpoint in a new process, which has no state yet."""
    params, _ = _arrays(count, kind)
    opt = _warmed(optimizer, options, kind)
    found = measured(lambda: fastoptim.load(path).restore(params, opt))
    return Memory(*found, predicted(opt, params))


def resuming(optimizer: str, options: dict[str, Any], kind: str, count: int, path: str) -> Memory:
    """Of restoring a checkpoint where state is there already."""
    params, grads = _arrays(count, kind)
    opt = _warmed(optimizer, options, kind)
    _update(opt, params, grads)
    return Memory(*measured(lambda: fastoptim.load(path).restore(params, opt)), 0)


def _arrays(count: int, kind: str) -> tuple[Arrays, Arrays]:
    params = {f"W{i}": np.ones((SIDE, SIDE), np.float32) for i in range(count)}
    return params, {name: KINDS[kind](param) for name, param in params.items()}


def _warmed(optimizer: str, options: dict[str, Any], kind: str) -> fastoptim.Optimizer:
    """A new optimizer whose kernels have run."""
    cls = getattr(fastoptim, optimizer)
    params = {name: param.copy() for name, param in SMALL.items()}
    _update(cls(**options), params, {name: KINDS[kind](param) for name, param in params.items()})
    made: fastoptim.Optimizer = cls(**options)
    return made


def _update(opt: fastoptim.Optimizer, params: Arrays, grads: Arrays) -> None:
    for _ in range(CALLS * opt.accumulate):
        opt.update(params, grads)


if __name__ == "__main__":
    what, *arguments = json.loads(sys.argv[1])
    print(json.dumps(globals()[what](*arguments)))
