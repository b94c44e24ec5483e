"""One step of every recipe: each contender on each workload, in turn with the ceiling."""

from functools import lru_cache
from typing import Any

import pytest

from bench.ceiling import ceiling
from bench.contenders import CONTENDERS
from bench.recipes import RECIPES
from bench.turns import Effort, measure_in_turn
from bench.workloads import WORKLOADS, Data

CASES = [
    (work, recipe, contender)
    for work in WORKLOADS
    for recipe in RECIPES
    for contender in CONTENDERS
    if CONTENDERS[contender].has(RECIPES[recipe].make())
]

data_of = lru_cache(maxsize=1)(lambda work: WORKLOADS[work].data())  # cases that share arrays follow each other


@pytest.mark.parametrize(("work", "recipe", "contender"), CASES, ids=map("-".join, CASES))
def test_update(work: str, recipe: str, contender: str, benchmark: Any, effort: Effort, machine: Any) -> None:
    size, traffic = WORKLOADS[work].size, RECIPES[recipe].traffic
    data: Data = data_of(work)
    step = CONTENDERS[contender].make(data, RECIPES[recipe].make())
    benchmark.group = f"{work} {recipe}"
    measured = measure_in_turn(benchmark, step, ceiling(size, traffic), effort)
    if measured:
        moved = traffic.bytes * size
        benchmark.extra_info.update(
            work=work,
            optimizer=recipe,
            contender=contender,
            elements=size,
            bytes=moved,
            gb_per_s=moved / measured.seconds / 1e9,
            ratio_to_ceiling=measured.ratio,
            neighbours=measured.neighbours,
            **machine,
        )
