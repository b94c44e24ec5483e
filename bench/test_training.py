"""The demo's whole training: how much of an optimizer's lead is left where a network is computed, too."""

from importlib.util import find_spec
from typing import Any

import numba
import pytest

from bench.conftest import Together
from bench.contenders import CONTENDERS
from bench.replay import CLOCK, replay
from bench.steps import selected
from bench.together import Job

if find_spec("sklearn") is None:
    pytest.skip("the digits need scikit-learn: pip install '.[demo]'", allow_module_level=True)

from bench.training import SEED, TRAININGS
from fastoptim.cli.training import digits

BASELINE = "numpy"
NAMES = [name for name in TRAININGS if name in CONTENDERS]


@pytest.mark.parametrize("contender", NAMES)
def test_everybody_trains_the_same(contender: str) -> None:
    losses = TRAININGS[contender](digits(SEED))
    assert losses == pytest.approx(TRAININGS[BASELINE](digits(SEED)), rel=2e-3)
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.benchmark(timer=CLOCK.now)
@pytest.mark.parametrize("contender", [name for name in NAMES if name != BASELINE])
def test_training(contender: str, benchmark: Any, together: Together, machine: Any, request: Any) -> None:
    benchmark.group = "training"
    threads = tuple(dict.fromkeys((1, numba.get_num_threads())))  # those of the network's products
    jobs = {
        name: Job("bench.training:training", (name,), threads) for name in (BASELINE, *selected(request))
    }  # in turn with NumPy, selected or not
    result = replay(benchmark, together(jobs, BASELINE)[contender])
    benchmark.extra_info.update(
        work="training",
        optimizer="adam",
        contender=contender,
        threads_taken=result.threads,
        **result.measured.info("training_in_numpy"),
        **machine,
    )
