"""What one waits for in a new process: importing, and the first update with kernels that were compiled before.

And, where nothing was compiled before, the first and the second update. In turn with `import numba`, which fastoptim
cannot be faster than.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from bench.first_updates import first_updates
from bench.processes import ROOT, run
from bench.turns import Effort, Stopwatch, measure_in_turn
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
CLOCK = Stopwatch()


@pytest.mark.parametrize("program", PROGRAMS)
def test_start(program: str, benchmark: Any, effort: Effort, machine: dict[str, Any]) -> None:
    effort = replace(effort, settle_seconds=0.0)
    benchmark.group = "start"
    measured = measure_in_turn(benchmark, partial(run, PROGRAMS[program]), partial(run, "import numba"), effort)
    if measured:
        benchmark.extra_info.update(
            work="start",
            contender=program,
            **measured.info("import_numba"),
            **machine,
        )


@pytest.mark.benchmark(timer=CLOCK.now)
@pytest.mark.parametrize("which", ["first", "second"])
def test_nothing_compiled(which: str, benchmark: Any, effort: Effort, machine: dict[str, Any]) -> None:
    kernels = 0.0

    def step() -> None:
        nonlocal kernels
        found = first_updates(ROOT)
        CLOCK.seconds += found[f"{which} update, cold"][1]
        kernels = found[f"kernels compiled for the {which}"][0]

    effort = replace(effort, rounds=(min(5, effort.rounds[0]), 5), round_seconds=0.0, settle_seconds=0.0)
    benchmark.group = "start"
    measured = measure_in_turn(benchmark, step, partial(run, "import numba"), effort, CLOCK.now)
    if measured:
        benchmark.extra_info.update(
            work="start",
            contender=f"{which} update, nothing compiled",
            **measured.info("import_numba"),
            compiled=kernels,
            **machine,
        )
