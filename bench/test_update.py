"""One step of every optimizer: each contender on each workload, in turn with the ceiling."""

from functools import lru_cache
from typing import Any

import pytest

from bench.ceiling import ceiling
from bench.contenders import CONTENDERS, OPTIMIZERS
from bench.turns import Effort, measure_in_turn
from bench.workloads import WORKLOADS, Data

CASES = [
    (work, optimizer, contender)
    for work in WORKLOADS
    for optimizer in OPTIMIZERS
    for contender in CONTENDERS
    if CONTENDERS[contender].has(OPTIMIZERS[optimizer])
]
FLOAT = 4  # bytes

data_of = lru_cache(maxsize=1)(lambda work: WORKLOADS[work].data())  # cases that share arrays follow each other


@pytest.mark.parametrize(("work", "optimizer", "contender"), CASES, ids=map("-".join, CASES))
def test_update(work: str, optimizer: str, contender: str, benchmark: Any, effort: Effort, machine: Any) -> None:
    size, slots = WORKLOADS[work].size, len(OPTIMIZERS[optimizer].slots)
    data: Data = data_of(work)
    step = CONTENDERS[contender].make(data, OPTIMIZERS[optimizer])
    benchmark.group = f"{work} {optimizer}"
    measured = measure_in_turn(benchmark, step, ceiling(size, slots), effort)
    if measured:
        moved = (3 + 2 * slots) * FLOAT * size  # parameter and state are read and written, the gradient is read
        benchmark.extra_info.update(
            work=work,
            optimizer=optimizer,
            contender=contender,
            elements=size,
            bytes=moved,
            gb_per_s=moved / measured.seconds / 1e9,
            ratio_to_ceiling=measured.ratio,
            neighbours=measured.neighbours,
            **machine,
        )
