"""What one waits for in a new process: importing, and the first update with kernels that were compiled before.

In turn with `import numba`, which fastoptim cannot be faster than.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.turns import Effort, Step, measure_in_turn
from bench.workloads import WORKLOADS

FIRST_UPDATE = """
import numpy, fastoptim
params, grads = ({{i: numpy.ones(shape, "float32") for i, shape in enumerate({shapes})}} for _ in range(2))
fastoptim.Adam().update(params, grads)
"""
PROGRAMS = {
    "import": "import fastoptim",
    "first-update-one-thread": FIRST_UPDATE.format(shapes=WORKLOADS["rl_mlp"].shapes),
    "first-update-all-threads": FIRST_UPDATE.format(shapes=WORKLOADS["mnist_mlp"].shapes),
}


def process(program: str) -> Step:
    """A function that runs a program in a new Python, from its start to its end."""
    root = Path(__file__).parents[1]
    return lambda: subprocess.run([sys.executable, "-c", program], cwd=root, check=True)


@pytest.mark.parametrize("program", PROGRAMS)
def test_start(program: str, benchmark: Any, effort: Effort, machine: dict[str, Any]) -> None:
    effort = replace(effort, settle_seconds=0.0)
    benchmark.group = "start"
    measured = measure_in_turn(benchmark, process(PROGRAMS[program]), process("import numba"), effort)
    if measured:
        benchmark.extra_info.update(
            work="start",
            contender=program,
            ratio_to_import_numba=measured.ratio,
            neighbours=measured.neighbours,
            **machine,
        )
