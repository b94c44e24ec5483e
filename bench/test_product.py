"""A step after a matrix product, as in every network: threads of BLAS spin on behind it, where ours would begin.

And larger ones than those that wait for nobody, after a product and beside another process, in turn with NumPy there.
"""

from typing import Any

import numpy as np
import pytest

from bench.calls import CLOCK, beside_numpy, measure_way
from bench.contenders import CONTENDERS
from bench.large_calls import LARGE
from bench.recipes import RECIPES
from bench.turns import Effort, measure_in_turn
from bench.workloads import WORKLOADS

WORK, RECIPE = "mnist_mlp", "adam"
BATCH, INPUTS, OUTPUTS = 128, 784, 50  # the first layer's gradient is the last product before the update
NUMPYS = "fastoptim", "fastoptim-flat", "numpy"  # whose networks have NumPy's products


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
            **measured.info("undisturbed"),
            **machine,
        )


@pytest.mark.benchmark(timer=CLOCK.now)
@pytest.mark.parametrize(("name", "other"), beside_numpy(LARGE).items())
def test_large(name: str, other: str, benchmark: Any, effort: Effort, machine: dict[str, Any]) -> None:
    measure_way(benchmark, LARGE, name, other, effort, work="large", **machine)
