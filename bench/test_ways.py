"""An update for each way of calling, in turn with NumPy doing the same."""

from typing import Any

import pytest

from bench.calls import CLOCK, beside_numpy, measure_way
from bench.small_calls import SMALL
from bench.turns import Effort


@pytest.mark.benchmark(timer=CLOCK.now)
@pytest.mark.parametrize(("name", "other"), beside_numpy(SMALL).items())
def test_way(name: str, other: str, benchmark: Any, effort: Effort, machine: dict[str, Any]) -> None:
    measure_way(benchmark, SMALL, name, other, effort, work="ways", **machine)
