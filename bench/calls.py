"""What `bench.ways` measures: a step, what precedes it, and what happens on the machine meanwhile.

Only what every version of fastoptim has is used here and in the files of ways: `bench.ways` runs them with other
checkouts, too.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle
from typing import Any, NamedTuple

import fastoptim
from bench.turns import Effort, Step, Stopwatch, measure_in_turn
from bench.workloads import Workload
from fastoptim.cli.plain_numpy import PlainNumpy

CLOCK = Stopwatch()  # of what `measure_way` measures


class Calls(NamedTuple):
    """One way of calling.

    Attributes:
        step: what is measured. It updates all arrays once.
        prepare: what precedes each step and is not measured.
    """

    step: Step
    prepare: Step | None = None


class Way(NamedTuple):
    """A way of calling, and what it is compared with.

    Attributes:
        make: new arrays and a new optimizer.
        numpy: the name of the way in which NumPy does the same.
        busy: whether another process computes meanwhile.
    """

    make: Callable[[], Calls]
    numpy: str | None = None
    busy: bool = False


def same_dict(work: Workload, **options: Any) -> Calls:
    (params, grads), opt = work.data(), fastoptim.Adam(**options)
    turns = cycle(grads)
    return Calls(lambda: opt.update(params, next(turns)))


def plain_numpy(work: Workload) -> Calls:
    params, grads = work.data()
    plain, turns = PlainNumpy(fastoptim.Adam(), params), cycle(grads)
    return Calls(lambda: plain.update(next(turns)))


BUSY = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    sum(range(100_000))
"""


@contextmanager
def surroundings(way: Way) -> Iterator[None]:
    """What happens on the machine while a way is measured."""
    if not way.busy:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", BUSY, str(os.getpid())])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def beside_numpy(ways: Mapping[str, Way]) -> dict[str, str]:
    """By the name of each way that NumPy has too, NumPy's."""
    return {name: way.numpy for name, way in ways.items() if way.numpy}


def measure_way(
    benchmark: Any, ways: Mapping[str, Way], name: str, other: str, effort: Effort, ratio_to: str = "numpy", **info: Any
) -> None:
    """Benchmark a way in turn with another one. `CLOCK.now` has to be the benchmark's timer."""

    def counted(calls: Calls) -> Step:
        def step() -> None:
            if calls.prepare:
                calls.prepare()
            CLOCK.run(calls.step)

        return step

    benchmark.group = other
    with surroundings(ways[name]):
        steps = counted(ways[name].make()), counted(ways[other].make())
        measured = measure_in_turn(benchmark, *steps, effort, CLOCK.now, CLOCK.now)
    if measured:
        benchmark.extra_info.update(contender=name, **measured.info(ratio_to), **info)
