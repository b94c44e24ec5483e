"""Several contenders in turn, each in a process of its own: a turn of one, a turn of the next, and so on."""

from collections.abc import Callable, Iterable, Mapping
from statistics import median
from typing import Any, NamedTuple, TypeVar

from bench.children import Child, ChildError, Children
from bench.limits import Turns, doubt
from bench.neighbours import Neighbours
from bench.turns import Effort, Measured

Answer = TypeVar("Answer")
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


Found = dict[str, Result | ChildError]


def measure_surely(jobs: Mapping[str, Job], baseline: str, effort: Effort, children: Children) -> Found:
    """Measure together, and again where results are inconclusive; the try with the fewest of those is taken, whole.

    Which one is taken depends on how the turns spread, and not on who is fast in them.
    """
    tries = []
    for _ in range(effort.tries):
        found = measure_together(jobs, baseline, effort, children)
        results = [each.measured for name, each in found.items() if isinstance(each, Result) and name != baseline]
        doubts = sum(doubt(Turns.of(each.turns, each.baseline), baseline, each.neighbours) != "" for each in results)
        tries.append((doubts, found))
        if not doubts:
            break
    return min(tries, key=lambda each: each[0])[1]


def measure_together(jobs: Mapping[str, Job], baseline: str, effort: Effort, children: Children) -> Found:
    """Measure each contender in turn with all others. The baseline's job is among them.

    Half of the rounds begin with the last contender. Whoever fails is left out from then on.

    Raises:
        ChildError: the baseline has failed.
    """
    neighbours = Neighbours(children.cpu)
    group = _Group(baseline, children)
    chosen = group.each(jobs, lambda name: _fastest(name, jobs[name], effort, children))
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    rounds = 0
    for _ in range(effort.layouts):
        made = group.each(chosen, lambda name: chosen[name].make(jobs[name].function, jobs[name].arguments, effort))
        rounds = rounds or _rounds(effort, list(made.values()))
        for i in range(rounds):
            names = list(chosen) if i % 2 == 0 else list(reversed(chosen))
            for name, turn in group.each(names, lambda name: chosen[name].turn()).items():
                seconds[name].append(turn)
    group.each(chosen, lambda name: chosen[name].drop())
    share = neighbours.share()
    return group.failed | {
        name: Result(Measured(seconds[name], seconds[baseline], share), chosen[name].threads)
        for name in chosen
        if name not in group.failed
    }


class _Group:
    """Contenders that are asked one after the other.

    Attributes:
        failed: those that could not answer; they are not asked again.
    """

    def __init__(self, baseline: str, children: Children) -> None:
        self._baseline, self._children = baseline, children
        self.failed: Found = {}

    def each(self, names: Iterable[str], ask: Callable[[str], Answer]) -> dict[str, Answer]:
        """The answers by name."""
        answers = {}
        for name in names:
            if name not in self.failed:
                try:
                    answers[name] = ask(name)
                except ChildError as error:
                    if name == self._baseline:
                        raise
                    self.failed[name] = error
                    self._children.drop(name)
        return answers


def _rounds(effort: Effort, turn_seconds: list[float]) -> int:
    """How many rounds fit, for each allocation of the arrays."""
    wanted = round(effort.seconds * len(turn_seconds) / sum(turn_seconds))
    return -(-min(max(effort.rounds[0], wanted), effort.rounds[1]) // effort.layouts)


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
