"""Two things measured in turn: what changes in a shared machine from one second to the next changes for both."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

from bench.limits import BASELINES
from bench.neighbours import Neighbours

Step = Callable[[], object]
Clock = Callable[[], float]


class Stopwatch:
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


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        seconds: for all rounds of one case together.
        rounds: the fewest and the most rounds. From five on, the middle half of them tells how far they spread.
        layouts: how often the arrays of contenders are allocated anew: where they lie in memory decides on the speed of
            some, and one allocation would give its own answer.
        tries: how often contenders are measured at most, where results are inconclusive.
        round_seconds: what a round takes at least, by repeating fast steps in it.
        settle_seconds: for unmeasured steps after each change of turn, as long as one takes less than that. They bring
            the arrays back into the caches, and another library's threads stop spinning for more work meanwhile.
    """

    seconds: float = 0.3
    rounds: tuple[int, int] = (9, 30)
    layouts: int = 3
    tries: int = 2
    round_seconds: float = 0.01
    settle_seconds: float = 0.005


QUICK = Effort(seconds=0.0, rounds=(1, 1), layouts=1, tries=1, round_seconds=0.001, settle_seconds=0.0)


class Turn:
    """A step and how often to repeat it."""

    def __init__(self, step: Step, effort: Effort, clock: Clock = perf_counter) -> None:
        self.step, self.clock = step, clock
        step()  # compiles, allocates
        self.seconds = self.measure(1)
        if self.seconds < effort.round_seconds:  # one short call tells too little
            self.seconds = self.measure(int(effort.round_seconds / self.seconds))
        self.calls = max(1, round(effort.round_seconds / self.seconds))
        self.settling = int(effort.settle_seconds / self.seconds)
        self.rounds = min(max(effort.rounds[0], round(effort.seconds / (self.calls * self.seconds))), effort.rounds[1])

    def measure(self, calls: int) -> float:
        """Seconds per call."""
        repetitions = range(calls)
        start = self.clock()
        for _ in repetitions:
            self.step()
        return (self.clock() - start) / calls

    def settle(self) -> None:
        """Calls that do not count."""
        for _ in range(self.settling):
            self.step()


class Measured(NamedTuple):
    """What was measured.

    Attributes:
        turns: the seconds of one step in each round.
        baseline: the same of what was measured in turn with it.
        neighbours: the part of the machine's CPU time that others have taken meanwhile, or None if unknown.
    """

    turns: list[float]
    baseline: list[float]
    neighbours: float | None

    @property
    def seconds(self) -> float:
        """Of one step, the median."""
        return median(self.turns)

    def info(self, baseline: str) -> dict[str, Any]:
        """What a saved run says about it. `baseline` is one of `BASELINES`: what it was measured in turn with."""
        if baseline not in BASELINES:
            raise ValueError(f"expected a baseline of {list(BASELINES)}, got {baseline!r}")
        return {
            f"ratio_to_{baseline}": median(b / own for own, b in zip(self.turns, self.baseline, strict=True)),
            "turns": {"seconds": self.turns, "baseline": self.baseline},
            "neighbours": self.neighbours,
        }


def measure_in_turn(
    benchmark: Any,
    step: Step,
    baseline: Step,
    effort: Effort,
    clock: Clock = perf_counter,
    baseline_clock: Clock = perf_counter,
) -> Measured | None:
    """Benchmark `step`; between its rounds, measure `baseline`. Returns None if benchmarks are disabled.

    `clock` is the benchmark's timer, where it has another one: for steps of which only a part counts.
    `baseline_clock` is the same for `baseline`.
    """
    mine, other = Turn(step, effort, clock), Turn(baseline, effort, baseline_clock)
    baselines: list[float] = []

    def change_turn() -> None:
        other.settle()
        baselines.append(other.measure(other.calls))
        mine.settle()

    neighbours = Neighbours()
    change_turn()
    benchmark.pedantic(mine.step, rounds=mine.rounds, iterations=mine.calls, teardown=change_turn)
    if benchmark.disabled:
        return None
    rounds = list(benchmark.stats.stats.data)
    around = [(before + after) / 2 for before, after in pairwise(baselines)]
    return Measured(rounds, around[: len(rounds)], neighbours.share())
