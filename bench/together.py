"""Several contenders in turn, each in a process of its own: a turn of one, a turn of the next, and so on."""

from collections.abc import Mapping
from statistics import median
from typing import Any, NamedTuple

from bench.children import Child, ChildError, Children
from bench.limits import Turns, doubt
from bench.neighbours import Neighbours
from bench.turns import Effort, Measured

TRIALS = 5  # turns for each number of threads


class Job(NamedTuple):
    """What a process has to measure.

    Attributes:
        function: "module:name" of what makes the step.
        arguments: its arguments, as JSON has them.
        threads: the numbers of threads to try. The fastest is taken.
    """

    function: str
    arguments: tuple[Any, ...]
    threads: tuple[int, ...]


class Result(NamedTuple):
    """What was measured of a contender, and with how many threads."""

    measured: Measured
    threads: int


def measure_surely(
    jobs: Mapping[str, Job], baseline: str, effort: Effort, children: Children
) -> dict[str, Result | ChildError]:
    """Measure together, and again where results are inconclusive; the try with the fewest of those is taken, whole.

    Which one is taken depends on how the turns spread, and not on who is fast in them.
    """
    tries = []
    for _ in range(effort.tries):
        found = measure_together(jobs, baseline, effort, children)
        results = [each.measured for name, each in found.items() if isinstance(each, Result) and name != baseline]
        doubts = sum(
            bool(doubt(Turns(tuple(each.turns), tuple(each.baseline)), baseline, each.neighbours)) for each in results
        )
        tries.append((doubts, found))
        if not doubts:
            break
    return min(tries, key=lambda each: each[0])[1]


def measure_together(
    jobs: Mapping[str, Job], baseline: str, effort: Effort, children: Children
) -> dict[str, Result | ChildError]:
    """Measure each contender in turn with all others. The baseline's job is among them.

    Half of the rounds begin with the last contender. Whoever fails is left out from then on.

    Raises:
        ChildError: the baseline has failed.
    """
    neighbours = Neighbours(children.cpu)
    failed: dict[str, Result | ChildError] = {}
    chosen: dict[str, Child] = {}
    for name, job in jobs.items():
        try:
            chosen[name] = _fastest(name, job, effort, children)
        except ChildError as error:
            _fail(name, error, baseline, failed, children)
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    for layout in range(effort.layouts):
        names = [name for name in chosen if name not in failed]
        round_seconds = 0.0
        for name in names:
            try:
                round_seconds += chosen[name].make(jobs[name].function, jobs[name].arguments, effort)
            except ChildError as error:
                _fail(name, error, baseline, failed, children)
        if layout == 0:
            rounds = min(max(effort.rounds[0], round(effort.seconds * len(names) / round_seconds)), effort.rounds[1])
            rounds = -(-rounds // effort.layouts)
        for i in range(rounds):
            for name in names if i % 2 == 0 else reversed(names):
                if name not in failed:
                    try:
                        seconds[name].append(chosen[name].turn())
                    except ChildError as error:
                        _fail(name, error, baseline, failed, children)
    for name, child in chosen.items():
        if name not in failed:
            child.drop()
    share = neighbours.share()
    return failed | {
        name: Result(Measured(turns, seconds[baseline], share), chosen[name].threads)
        for name, turns in seconds.items()
        if name not in failed
    }


def _fastest(name: str, job: Job, effort: Effort, children: Children) -> Child:
    """The contender's process with the number of threads that makes it fastest, by a few turns of each."""
    rivals = [children.get(name, threads) for threads in dict.fromkeys(job.threads)]
    if len(rivals) == 1:
        return rivals[0]
    for child in rivals:
        child.make(job.function, job.arguments, effort)
    turns = [[child.turn() for child in rivals] for _ in range(min(TRIALS, effort.rounds[0]))]
    for child in rivals:
        child.drop()
    return min(zip(rivals, zip(*turns, strict=True), strict=True), key=lambda pair: median(pair[1]))[0]


def _fail(
    name: str, error: ChildError, baseline: str, failed: dict[str, Result | ChildError], children: Children
) -> None:
    if name == baseline:
        raise error
    failed[name] = error
    children.drop(name)
