"""A step after a matrix product, as in every network: threads of BLAS spin on behind it, where ours would begin."""

from time import perf_counter
from typing import Any

import numpy as np
import pytest

from bench.contenders import CONTENDERS
from bench.recipes import RECIPES
from bench.turns import Effort, Step, measure_in_turn
from bench.workloads import WORKLOADS

WORK, RECIPE = "mnist_mlp", "adam"
BATCH, INPUTS, OUTPUTS = 128, 784, 50  # the first layer's gradient is the last product before the update
NUMPYS = "fastoptim", "fastoptim-flat", "numpy"  # whose networks have NumPy's products


class Clock:
    """A clock that runs during some calls only."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        """Its time."""
        return self.seconds

    def run(self, step: Step) -> None:
        """Make a call that counts."""
        start = perf_counter()
        step()
        self.seconds += perf_counter() - start


CLOCK = Clock()


@pytest.mark.benchmark(timer=CLOCK.now)
@pytest.mark.parametrize("contender", NUMPYS)
def test_product(contender: str, benchmark: Any, effort: Effort, machine: dict[str, Any]) -> None:
    x, delta = np.ones((BATCH, INPUTS), np.float32), np.ones((BATCH, OUTPUTS), np.float32)
    update, undisturbed = (CONTENDERS[contender].make(WORKLOADS[WORK].data(), RECIPES[RECIPE].make()) for _ in range(2))

    def step() -> None:
        np.matmul(x.T, delta)
        CLOCK.run(update)

    benchmark.group = "after a product"
    measured = measure_in_turn(benchmark, step, undisturbed, effort, CLOCK.now)
    if measured:
        benchmark.extra_info.update(
            work="product",
            optimizer=RECIPE,
            contender=contender,
            ratio_to_undisturbed=measured.ratio,
            neighbours=measured.neighbours,
            **machine,
        )
