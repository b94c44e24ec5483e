"""What can be said about a change: faster, slower, no change, or nothing."""

from collections.abc import Iterable, Sequence
from enum import IntEnum, StrEnum
from functools import lru_cache
from math import exp, log, sqrt
from statistics import median, stdev
from typing import NamedTuple

from bench.limits import FEWEST

ALPHA = 0.001  # how often a whole report may call something changed that is not, if its noise is as it is taken to be
OUTSIDE = 0.1  # how often a change lies outside its interval
EFFECT = 10.0  # percent: a smaller change is none


class Verdict(StrEnum):
    """About one case."""

    SAME = "no change"
    FASTER = "faster"
    SLOWER = "slower"
    INCONCLUSIVE = "inconclusive"


STYLES = {Verdict.FASTER: "green", Verdict.SLOWER: "bold red", Verdict.INCONCLUSIVE: "yellow", Verdict.SAME: ""}


class Status(IntEnum):
    """A command's exit status."""

    FINE = 0
    SLOWER = 1
    INCONCLUSIVE = 2
    ERROR = 3


EXIT = (
    "Exit status: 0 no change, or faster; 1 something is slower; 2 nothing is slower, but something is inconclusive; 3 "
)
EXIT += "an error."


class Change(NamedTuple):
    """A change of a speed, and how far it may be off.

    Attributes:
        log: the logarithm of the new speed divided by the old one.
        error: its standard error.
        degrees: how many numbers the error is known from, less what was estimated besides.
        tests: how many changes are judged at once.
    """

    log: float
    error: float
    degrees: int
    tests: int

    def verdict(self, effect: float) -> Verdict:
        """What can be said, if changes below `effect`, 0.1 for 10 %, are none.

        A change has to be beyond the effect, and so far from zero that no report of this size shows such a change by
        chance. No change is found where the interval, narrower than that one, lies within the effect.
        """
        limit, half = log(1 + effect), self.half
        if abs(self.log) + half < limit:
            return Verdict.SAME
        if abs(self.log) > max(limit, student(self.degrees, ALPHA / self.tests) * self.error):
            return Verdict.FASTER if self.log > 0 else Verdict.SLOWER
        return Verdict.INCONCLUSIVE

    @property
    def half(self) -> float:
        """Half the width of its interval."""
        return student(self.degrees, OUTSIDE) * self.error if self.error else 0.0

    def __str__(self) -> str:
        """In percent of the speed, and the interval."""
        low, middle, high = (exp(self.log + x) - 1 for x in (-self.half, 0.0, self.half))
        return f"{middle:+.1%} [{low:+.0%}, {high:+.0%}]"


def status(verdicts: Iterable[Verdict]) -> Status:
    """What a command says about all of them."""
    found = set(verdicts)
    if Verdict.SLOWER in found:
        return Status.SLOWER
    return Status.INCONCLUSIVE if Verdict.INCONCLUSIVE in found else Status.FINE


def paired(logs: Sequence[float], tests: int) -> Change | None:
    """The change of which each round has measured one logarithm; None for less than `FEWEST` rounds.

    It is the rounds' median, its error that of their mean: an outlier does not move the median, but widens the error.
    """
    if len(logs) < FEWEST:
        return None
    return Change(median(logs), stdev(logs) / sqrt(len(logs)), len(logs) - 1, tests)


@lru_cache(maxsize=256)  # every case of a report asks for the same
def student(degrees: int, outside: float) -> float:
    """How far from zero Student's t lies with the probability `outside`, on both sides together."""
    from scipy.special import stdtrit  # an extra, see bench.needs

    return float(stdtrit(degrees, 1 - outside / 2))
