"""What the processes of contenders make, by names that can be sent to them, and which contenders a run has chosen."""

import numba
import pytest

from bench import ceiling as bare
from bench.ceiling import Step
from bench.contenders import CONTENDERS, OURS
from bench.recipes import RECIPES
from bench.together import Job
from bench.workloads import WORKLOADS

CEILING = "ceiling"


def contender(work: str, recipe: str, name: str) -> Step:
    """One contender's step."""
    return CONTENDERS[name].make(WORKLOADS[work].data(), RECIPES[recipe].make())


def ceiling(work: str, recipe: str) -> Step:
    """The ceiling of these steps."""
    return bare.ceiling(WORKLOADS[work].size, RECIPES[recipe].traffic)


def threads_of(name: str) -> tuple[int, ...]:
    """The numbers of threads that a contender tries. Ours, and the ceiling, choose by themselves from all."""
    every = numba.get_num_threads()
    return (every,) if name.startswith(OURS) or name == CEILING else (1, every)


def jobs(work: str, recipe: str, names: list[str]) -> dict[str, Job]:
    """The ceiling and these contenders, to be measured together."""
    made = {name: Job("bench.steps:contender", (work, recipe, name), threads_of(name)) for name in names}
    return {CEILING: Job("bench.steps:ceiling", (work, recipe), threads_of(CEILING))} | made


def selected(request: pytest.FixtureRequest, **same: str) -> list[str]:
    """The contenders of all cases of this test that the run has selected and that share these parameters."""
    return [
        str(item.callspec.params["contender"])
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.originalname == request.node.originalname
        and same.items() <= item.callspec.params.items()
    ]
