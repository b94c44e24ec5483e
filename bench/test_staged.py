"""Gradients of another layout or dtype than their parameters, which are copied on the way: staged copies.

In turn with NumPy, which copies them too, and with gradients that need no copy.
"""

from typing import Any

import pytest

from bench.calls import CLOCK, measure_way
from bench.large_calls import SIDES, STAGED
from bench.turns import Effort

KINDS = "contiguous", "fortran", "float64"


@pytest.mark.benchmark(timer=CLOCK.now)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", SIDES)
def test_staged(side: int, kind: str, benchmark: Any, effort: Effort, machine: dict[str, Any]) -> None:
    name = f"{side} x {side}, {kind} gradient"
    measure_way(benchmark, STAGED, name, f"NumPy, {name}", effort, work="staged", **machine)


@pytest.mark.benchmark(timer=CLOCK.now)
@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("side", SIDES)
def test_staged_and_not(side: int, kind: str, benchmark: Any, effort: Effort, machine: dict[str, Any]) -> None:
    name, other = (f"{side} x {side}, {each} gradient" for each in (kind, "contiguous"))
    measure_way(benchmark, STAGED, name, other, effort, work="layout", ratio_to="contiguous", **machine)
