"""When a result is inconclusive: each limit has a name and a reason, and what breaks one is never shown as a number."""

from collections.abc import Iterable, Sequence
from math import inf, log
from statistics import median, quantiles
from typing import NamedTuple, Self

# Fewer turns have no middle half whose width would tell how far they spread.
FEWEST = 5
# The middle half of the turns' ratios lies within this factor. Beyond it, one of the two does not have one speed, and
# the median says which of several speeds came up more often.
SPREAD = 1.25
# The same for the baseline's own times. A ratio in turn corrects for a machine that changes, but the more it changes
# from turn to turn, the less the turns around a step say about the machine during that step.
MOVED = 1.5
# What reads and writes the same and computes nothing cannot take longer than what computes. A quarter is left for
# where arrays lie and for the scheduler.
POSSIBLE = 1.25
# The quotient of two medians and the median of the turns' quotients say the same about two steady speeds.
DISAGREE = 1.15
# Of the machine's CPU time, taken by other processes. At less than that, fewer than half of the turns of two threads on
# two cores meet them, and medians hold.
NEIGHBOURS = 0.2

# What there is to measure in turn with, and whether something can be much faster than that
BASELINES = {
    "ceiling": False,
    "undisturbed": False,
    "contiguous": False,
    "import_numba": True,  # the second update takes microseconds
    "numpy": True,
    "save_file": True,
    "load_file": True,
    "training_in_numpy": True,
}


class Turns(NamedTuple):
    """Seconds of one step in each turn, and of what was measured in turn with it."""

    seconds: tuple[float, ...]
    baseline: tuple[float, ...]

    @classmethod
    def of(cls, seconds: Iterable[float], baseline: Iterable[float]) -> Self:
        """Of the same number of each."""
        return cls(tuple(map(float, seconds)), tuple(map(float, baseline)))

    @property
    def ratios(self) -> list[float]:
        """The speed of the step divided by that of the baseline, for each turn."""
        return [b / own for own, b in zip(self.seconds, self.baseline, strict=True)]


def spread(values: Sequence[float]) -> float:
    """The factor within which the middle half lies."""
    if min(values) <= 0:
        return inf
    low, _, high = quantiles(values, n=4, method="inclusive")
    return high / low


def _times(factor: float) -> str:
    return f"{factor:.2g} x" if factor < 10 else f"{factor:.0f} x"


def disagree(one: float, other: float) -> bool:
    """Whether two figures of the same thing contradict each other."""
    return abs(log(one / other)) > log(DISAGREE)


def doubt(turns: Turns, baseline: str, neighbours: float | None) -> str:
    """Why a result is inconclusive, in a few words; empty if nothing speaks against it."""
    count = len(turns.seconds)
    if count < FEWEST:
        return "its turns were not saved" if count == 0 else f"{count} turns of {FEWEST}"
    if min(turns.seconds + turns.baseline) <= 0:
        return "a time of zero"
    ratios = turns.ratios
    ratio, by_times = median(ratios), median(turns.baseline) / median(turns.seconds)
    if not BASELINES[baseline] and max(ratio, by_times) > POSSIBLE:
        return f"{_times(max(ratio, by_times))} as fast as {baseline}"
    if (found := spread(ratios)) > SPREAD:
        return f"turns spread by {_times(found)}"
    if (found := spread(turns.baseline)) > MOVED:
        return f"{baseline} moved by {_times(found)}"
    if disagree(ratio, by_times):
        return f"turns say {ratio:.3g}, times {by_times:.3g}"
    if (neighbours or 0) > NEIGHBOURS:
        return f"others took {neighbours:.0%}"
    return ""


def lead(own: Turns, other: Turns) -> tuple[float, str]:
    """How many times as fast as the other the first is, by the times that are shown, and why that is inconclusive.

    Both were measured in the same rounds.
    """
    by_turns = [theirs / mine for mine, theirs in zip(own.seconds, other.seconds, strict=True)]
    by_times = median(other.seconds) / median(own.seconds)
    if (found := spread(by_turns)) > SPREAD:
        return by_times, f"the lead spreads by {_times(found)}"
    if disagree(median(by_turns), by_times):
        return by_times, f"the lead is {median(by_turns):.3g} by turns, {by_times:.3g} by times"
    return by_times, ""
