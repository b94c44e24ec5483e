"""Rounds of all ways of calling, each in a process of its own, of this checkout or of another one."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from math import log
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import NamedTuple

from bench.calls import Calls, surroundings
from bench.first_updates import COUNTS, FIRST, first_updates
from bench.large_calls import LARGE, STAGED
from bench.low_precision import LOW_PRECISION
from bench.processes import ROOT, keep_freed_memory
from bench.row_calls import ROWS
from bench.small_calls import SMALL
from bench.verdicts import Change, paired

WAYS = {**SMALL, **LARGE, **STAGED, **LOW_PRECISION, **ROWS}

STEPS = 300  # in a round
SECONDS = 0.6  # for the steps of one way in a round, where so many take longer ...
FEWEST = 3  # ... but at least so many
WARM_UP = 40  # steps at most
BATCHES = 10

# Imports fastoptim from one checkout, and measures it with the other one's bench.
CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
import fastoptim
if not fastoptim.__file__.startswith(sys.argv[1]):
    sys.exit(f"expected fastoptim of {sys.argv[1]}, got {fastoptim.__file__}")
sys.path[0] = sys.argv[2]
from bench.rounds import child
child(sys.argv[3:])
"""


class Times(NamedTuple):
    """Seconds of one step: of all threads together, and on the clock."""

    cpu: float
    wall: float


Round = dict[str, Times]


def measure(calls: Calls) -> Times:
    """The medians of many steps."""
    step, prepare = calls

    def prepared(steps: int) -> list[Times]:
        each = []
        for _ in range(steps):
            if prepare:
                prepare()
            cpu, wall = process_time(), perf_counter()
            step()
            each.append(Times(process_time() - cpu, perf_counter() - wall))
        return each

    def batch(steps: int) -> Times:
        cpu, wall = process_time(), perf_counter()
        for _ in range(steps):
            step()
        return Times((process_time() - cpu) / steps, (perf_counter() - wall) / steps)

    prepared(2)  # compiles, allocates
    wall = median(times.wall for times in prepared(FEWEST))
    steps = max(FEWEST, min(STEPS, int(SECONDS / wall)))
    prepared(min(WARM_UP, steps))
    # Looking at the clocks takes 1 us: single steps are measured only where they are long, or something precedes them.
    single = prepare is not None or steps < STEPS
    each = prepared(steps) if single else [batch(steps // BATCHES) for _ in range(BATCHES)]
    return Times(median(times.cpu for times in each), median(times.wall for times in each))


def child(names: Iterable[str]) -> None:
    """Measure these ways here and print them as JSON."""
    keep_freed_memory()
    found: Round = {}
    for name in names:
        if name not in FIRST:
            with surroundings(WAYS[name]):
                found[name] = measure(WAYS[name].make())
    print(json.dumps(found))


def one_round(checkout: Path, names: Sequence[str]) -> Round:
    """Measure a checkout in a new process."""
    command = [sys.executable, "-c", CHILD, str(checkout), str(ROOT), *names]
    done = subprocess.run(command, cwd=checkout, check=True, text=True, stdout=subprocess.PIPE)
    own = next(line for line in done.stdout.splitlines() if line.startswith("{"))  # libraries print there, too
    found = {name: Times(*times) for name, times in json.loads(own).items()}
    if any(name in FIRST for name in names):
        found |= {name: Times(*times) for name, times in first_updates(checkout).items() if name in names}
    return found


def in_turn(checkouts: Sequence[Path], names: Sequence[str], count: int) -> dict[Path, list[Round]]:
    """So many rounds of each checkout. Half of them begin with the first one, half with the last."""
    rounds: dict[Path, list[Round]] = {checkout: [] for checkout in checkouts}
    for i in range(count):
        for checkout in checkouts[:: 1 if i % 2 == 0 else -1]:
            rounds[checkout].append(one_round(checkout, names))
        print(f"round {i + 1} of {count} done; load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    return rounds


def judged(rounds: dict[Path, list[Round]]) -> dict[str, Change | None]:
    """By way, how the first checkout's speed on the clock differs from the other's; None if nothing can be said.

    Not NumPy's ways, which are the same in both.
    """
    this, other = rounds.values()
    ours = [name for name in this[0] if not name.startswith("NumPy, ") and name not in COUNTS]

    def logs(name: str) -> list[float]:
        return [log(theirs[name].wall / mine[name].wall) for mine, theirs in zip(this, other, strict=True)]

    return {name: paired(logs(name), len(ours)) for name in ours}
