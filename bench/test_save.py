"""A checkpoint of parameters and state, to the disk and back: in turn with safetensors, which has no checksum.

Files are written to the folder for temporary ones, which the variable TMPDIR names. The variable BENCH_SAVE_MB says how
large parameters and state are together, in megabytes.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

import fastoptim
from bench.processes import run
from bench.turns import QUICK, Effort, Measured, measure_in_turn
from bench.workloads import Arrays

MB, QUICK_MB = 1008, 24
SHAPE = 1000, 1000  # of a layer
LAYER_MB = 12  # with Adam's two moments

# The memory that a call takes at its peak, beyond what is resident before. Nothing is printed where the system does not
# tell. getrusage would not do: its peak begins as that of the process that started this one. A parameter is its own
# gradient: the memory of others, freed, would be used again unseen. The first optimizer has the kernels loaded before
# anything is measured.
MEASURED = """
import os, numpy, fastoptim
def kilobytes(which):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(which))
def measure(call, expected=0):
    if os.path.exists("/proc/self/clear_refs"):
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak begins anew
        before = kilobytes("VmRSS")
        call()
        print(1024 * (kilobytes("VmHWM") - before) - expected)
params = {{f"layer{{i}}": numpy.ones({shape}, "float32") for i in range({layers})}}
opt, first = fastoptim.Adam(), fastoptim.Adam()
first.update({{"": params["layer0"][:1]}}, {{"": params["layer0"][:1]}})
first = fastoptim.load, fastoptim.save  # and these imported
def resume():
    fastoptim.load({path!r}).restore(params, opt)
    opt.update(params, params)
state = 2 * sum(p.nbytes for p in params.values())
"""
SAVING = MEASURED + "opt.update(params, params)\nmeasure(lambda: fastoptim.save({path!r}, params, opt))"
RESUMING = {
    "new process": MEASURED + "measure(resume, state)",  # the state is still to be made
    "running process": MEASURED + "opt.update(params, params)\nmeasure(resume)",
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is not kept, as pytest keeps its own."""
    with TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture
def layers(effort: Effort) -> int:
    """How many arrays of parameters."""
    pytest.importorskip("safetensors", reason="checkpoints need safetensors, which is not installed")
    return max(1, int(os.environ.get("BENCH_SAVE_MB", QUICK_MB if effort is QUICK else MB)) // LAYER_MB)


def trained(layers: int) -> tuple[Arrays, fastoptim.Adam, Arrays]:
    """Parameters, their optimizer, and all the arrays that there are to save."""
    params = {f"layer{i}": np.ones(SHAPE, np.float32) for i in range(layers)}
    opt = fastoptim.Adam()
    opt.update(params, params)
    state = {f"{slot}/{name}": array for slot, named in opt.state.items() for name, array in named.items()}
    return params, opt, params | state


def extra_memory(program: str, layers: int, path: Path) -> float | None:
    """What a program prints, as a part of the parameters and the state."""
    extra = run(program.format(shape=SHAPE, layers=layers, path=str(path)))
    return int(extra) / (12 * layers * SHAPE[0] * SHAPE[1]) if extra else None


def save_file(path: Path, arrays: Arrays) -> None:
    """What safetensors has, with the file on the disk when it returns, as after `fastoptim.save`."""
    import_module("safetensors.numpy").save_file(arrays, path)
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def results(work: str, measured: Measured, baseline: str, arrays: Arrays) -> dict[str, Any]:
    """What both cases have to say."""
    size = sum(array.nbytes for array in arrays.values())
    return {
        "work": work,
        "contender": f"{size / 1e9:.3g} GB",
        "bytes": size,
        "gb_per_s": size / measured.seconds / 1e9,
        **measured.info(baseline),
    }


def test_save(folder: Path, layers: int, benchmark: Any, effort: Effort, machine: dict[str, Any]) -> None:
    params, opt, arrays = trained(layers)
    step = partial(fastoptim.save, folder / "ours.safetensors", params, opt)
    baseline = partial(save_file, folder / "theirs.safetensors", arrays)
    benchmark.group = "save"
    measured = measure_in_turn(benchmark, step, baseline, replace(effort, settle_seconds=0.0))
    if measured:
        benchmark.extra_info.update(
            **results("save", measured, "save_file", arrays),
            memory=extra_memory(SAVING, layers, folder / "memory.safetensors"),
            **machine,
        )


def test_load(folder: Path, layers: int, benchmark: Any, effort: Effort, machine: dict[str, Any]) -> None:
    """Into the arrays of a running process. safetensors makes new ones."""
    params, opt, arrays = trained(layers)
    ours, theirs = folder / "ours.safetensors", folder / "theirs.safetensors"
    fastoptim.save(ours, params, opt)
    save_file(theirs, arrays)

    def step() -> None:
        fastoptim.load(ours).restore(params, opt)

    baseline = partial(import_module("safetensors.numpy").load_file, theirs)
    benchmark.group = "load"
    measured = measure_in_turn(benchmark, step, baseline, replace(effort, settle_seconds=0.0))
    if measured:
        memory = {name: extra_memory(program, layers, ours) for name, program in RESUMING.items()}
        benchmark.extra_info.update(
            **results("load", measured, "load_file", arrays),
            memory=max((each for each in memory.values() if each is not None), default=None),
            memory_by_process=memory,
            **machine,
        )
