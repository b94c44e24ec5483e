"""What one waits for in a new process: importing, and the first update with kernels that were compiled before.

In turn with `import numba`, which fastoptim cannot be faster than.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from bench.processes import run
from bench.turns import Effort, measure_in_turn
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


@pytest.mark.parametrize("program", PROGRAMS)
def test_start(program: str, benchmark: Any, effort: Effort, machine: dict[str, Any]) -> None:
    effort = replace(effort, settle_seconds=0.0)
    benchmark.group = "start"
    measured = measure_in_turn(benchmark, partial(run, PROGRAMS[program]), partial(run, "import numba"), effort)
    if measured:
        benchmark.extra_info.update(
            work="start",
            contender=program,
            ratio_to_import_numba=measured.ratio,
            neighbours=measured.neighbours,
            **machine,
        )
