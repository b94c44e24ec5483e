"""A checkpoint of parameters and state, on the disk: in turn with safetensors' own writer, which sums up nothing.

Files are written to the folder for temporary ones, which the variable TMPDIR names.
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
from bench.turns import QUICK, Effort, measure_in_turn
from bench.workloads import Arrays

LAYERS, QUICK_LAYERS = 84, 2  # of a million parameters: with Adam's two moments 1 GB
SHAPE = 1000, 1000

# The memory that saving takes at its peak, beyond what was in use before; nothing where the system does not say. Not by
# getrusage, whose peak begins as that of the process that started this one. A parameter is its own gradient: the memory
# of others, freed, would be used again unseen.
EXTRA_MEMORY = """
import os, sys, numpy, fastoptim
def kilobytes(which):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(which))
params = {{f"layer{{i}}": numpy.ones({shape}, "float32") for i in range({layers})}}
opt = fastoptim.Adam()
opt.update(params, params)
if os.path.exists("/proc/self/clear_refs"):
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew
    before = kilobytes("VmRSS")
    fastoptim.save({path!r}, params, opt)
    print(1024 * (kilobytes("VmHWM") - before))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is not kept, as pytest keeps its own."""
    with TemporaryDirectory() as name:
        yield Path(name)


def save_file(path: Path, arrays: Arrays) -> None:
    """What safetensors has, with the file on the disk when it returns, as after `fastoptim.save`."""
    import_module("safetensors.numpy").save_file(arrays, path)
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def test_save(folder: Path, benchmark: Any, effort: Effort, machine: dict[str, Any]) -> None:
    pytest.importorskip("safetensors", reason="checkpoints need safetensors, which is not installed")
    layers = QUICK_LAYERS if effort is QUICK else LAYERS
    params = {f"layer{i}": np.ones(SHAPE, np.float32) for i in range(layers)}
    opt = fastoptim.Adam()
    opt.update(params, params)
    arrays = params | {f"{slot}/{name}": array for slot, named in opt.state.items() for name, array in named.items()}
    size = sum(array.nbytes for array in arrays.values())
    step = partial(fastoptim.save, folder / "ours.safetensors", params, opt)
    baseline = partial(save_file, folder / "theirs.safetensors", arrays)
    benchmark.group = "save"
    measured = measure_in_turn(benchmark, step, baseline, replace(effort, settle_seconds=0.0))
    if measured:
        program = EXTRA_MEMORY.format(shape=SHAPE, layers=layers, path=str(folder / "memory.safetensors"))
        extra = run(program)
        benchmark.extra_info.update(
            work="save",
            contender=f"{size / 1e9:.3g} GB",
            bytes=size,
            gb_per_s=size / measured.seconds / 1e9,
            ratio_to_save_file=measured.ratio,
            memory=int(extra) / size if extra else None,
            neighbours=measured.neighbours,
            **machine,
        )
