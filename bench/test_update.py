"""One step of every recipe: each contender on each workload, in turn with the others and the ceiling."""

from typing import Any

import pytest

from bench.conftest import Together
from bench.contenders import CONTENDERS
from bench.recipes import RECIPES
from bench.replay import CLOCK, replay
from bench.steps import CEILING, jobs, selected
from bench.summary import cases
from bench.workloads import WORKLOADS

HAS = {
    recipe: [name for name, contender in CONTENDERS.items() if contender.has(RECIPES[recipe].make())]
    for recipe in RECIPES
}
SUMMARY = cases()


CASES = [
    pytest.param(*case, id="-".join(case), marks=[pytest.mark.summary] * (case in SUMMARY))
    for work in WORKLOADS
    for recipe, contenders in HAS.items()
    if RECIPES[recipe].suits(work)
    for case in [(work, recipe, contender) for contender in contenders]
]


@pytest.mark.benchmark(timer=CLOCK.now)
@pytest.mark.parametrize(("work", "recipe", "contender"), CASES)
def test_update(
    work: str, recipe: str, contender: str, benchmark: Any, together: Together, machine: Any, request: Any
) -> None:
    benchmark.group = f"{work} {recipe}"
    names = selected(request, work=work, recipe=recipe)
    result = replay(benchmark, together(jobs(work, recipe, names), CEILING)[contender])
    moved = RECIPES[recipe].traffic.bytes * WORKLOADS[work].size
    benchmark.extra_info.update(
        work=work,
        optimizer=recipe,
        contender=contender,
        elements=WORKLOADS[work].size,
        bytes=moved,
        gb_per_s=moved / result.measured.seconds / 1e9,
        threads_taken=result.threads,
        **result.measured.info(CEILING),
        **machine,
    )
