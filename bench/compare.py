"""Two saved runs, which were made at different times: what can be said about the code in spite of that.

The turns of one run say how far its own median may be off. They do not say how far two runs of the same code lie apart:
a process has other addresses, the machine another mood. Contenders whose code has not changed do say that. NumPy,
PyTorch and Optax of the same versions are in both runs, and what changed for them is no change of our code.
"""

from collections.abc import Sequence
from math import log, sqrt
from statistics import fmean, median, quantiles, stdev
from typing import NamedTuple

from bench.contenders import OURS, TABLE
from bench.limits import Turns
from bench.runs import Case, Key, Run, RunError
from bench.verdicts import Change, Status, Verdict, status

CONTROLS = 4  # of a step or of all: fewer tell nothing
FLOOR = 0.02  # a ratio's standard deviation from run to run, as a part of it, is never taken to be less
MANY = 1000  # degrees of freedom, where the floor is taken: it is not known from a few controls

PARTS = 3  # a run's turns, in this order, are as many parts: arrays were allocated anew for each
NORMAL = 1.349  # the width of the middle half of a normal distribution, in standard deviations
MEDIAN = 1.2533  # the standard error of a median, in that of a mean


class Row(NamedTuple):
    """One case in both runs. `change` is None where nothing could be compared; `why` says why it is inconclusive."""

    key: Key
    old: Case
    new: Case
    change: Change | None
    verdict: Verdict
    why: str
    control: bool


class Comparison(NamedTuple):
    """All cases that two runs have in common."""

    rows: list[Row]

    @property
    def status(self) -> Status:
        """What is said about our code: contenders that serve as controls do not count."""
        return status(row.verdict for row in self.rows if not row.control)


def compare(old: Run, new: Run, effect: float) -> Comparison:
    """Compare each case of two runs; a change of the speed below `effect`, 0.1 for 10 %, is none.

    Raises:
        RunError: the runs have nothing in common.
    """
    keys = [key for key in new.cases if key in old.cases]
    if not keys:
        raise RunError("the two runs have no case in common")
    pairs = {key: (old.cases[key], new.cases[key]) for key in keys}
    elsewhere = (old.cpu, old.threads) != (new.cpu, new.threads)
    doubts = {key: "another machine" if elsewhere else _doubt(*pair) for key, pair in pairs.items()}
    controls = {key for key in keys if _is_control(key[2], old, new)}
    moved = {key: _log_ratio(pairs[key][1]) - _log_ratio(pairs[key][0]) for key in keys if not doubts[key]}
    ours = [key for key in keys if key not in controls]
    rows = []
    for key, pair in pairs.items():
        change, verdict = None, Verdict.INCONCLUSIVE
        if pair[0].turns == pair[1].turns and pair[0].turns.seconds:  # one measurement, and not two
            change, verdict, doubts[key] = Change(0.0, 0.0, 1, 1), Verdict.SAME, ""
        elif key in moved:
            others = {name: moved[name] for name in controls - {key} if name in moved}
            if len(others) < CONTROLS:
                doubts[key] = f"{len(others)} controls of {CONTROLS}"
                rows.append(Row(key, *pair, None, verdict, doubts[key], key in controls))
                continue
            between = _between(key, others)
            error = sqrt(sum(_error(case.turns) ** 2 for case in pair) + 2 * between**2)
            degrees = len(others) if between > FLOOR else MANY
            change = Change(moved[key], error, degrees, max(1, len(ours)))
            verdict = change.verdict(effect)
            if verdict is Verdict.INCONCLUSIVE:
                doubts[key] = "the interval is too wide"
        rows.append(Row(key, *pair, change, verdict, doubts[key], key in controls))
    return Comparison(rows)


def _doubt(old: Case, new: Case) -> str:
    found = [f"{name}: {case.doubt}" for name, case in (("old", old), ("new", new)) if case.doubt]
    return "; ".join(found)


def _is_control(contender: str, old: Run, new: Run) -> bool:
    """Whether it is another library's, of the same version in both runs."""
    if contender not in TABLE or contender.startswith(OURS):
        return False
    return all(old.versions.get(each) == new.versions.get(each) for each in TABLE[contender].packages)


def _log_ratio(case: Case) -> float:
    return log(median(case.turns.ratios))


def _between(key: Key, controls: dict[Key, float]) -> float:
    """How far runs of the same code lie apart: as far as the controls', all of them or those of the same step.

    Controls are compared with zero and not with their mean: where all of them moved, it was the ceiling.
    """
    same = [change for name, change in controls.items() if name[:2] == key[:2]]
    return max(FLOOR, *(_deviation(each) for each in (same, list(controls.values())) if each))


def _deviation(changes: Sequence[float]) -> float:
    """The standard deviation of one run, from the changes between two."""
    return sqrt(fmean(change**2 for change in changes) / 2)


def _error(turns: Turns) -> float:
    """The standard error of the median of the logarithms: by the turns' middle half, or by the parts if they differ."""
    logs = [log(ratio) for ratio in turns.ratios]
    low, _, high = quantiles(logs, n=4, method="inclusive")
    by_turns = MEDIAN * (high - low) / NORMAL / sqrt(len(logs))
    size = len(logs) // PARTS
    parts = [median(logs[i * size : (i + 1) * size]) for i in range(PARTS)] if size else []
    return max(by_turns, stdev(parts) / sqrt(PARTS) if parts else 0.0)
