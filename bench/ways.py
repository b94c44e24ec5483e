"""All ways of calling, and first updates, of this checkout and of another one in turn: `python -m bench.ways --help`.

A process of its own measures each round. Half of the rounds begin with this checkout, half with the other one.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import NamedTuple

from rich.box import MARKDOWN, SIMPLE_HEAD, Box
from rich.console import Console
from rich.table import Table

from bench.calls import Calls, beside_numpy, surroundings
from bench.first_updates import FIRST, first_updates
from bench.large_calls import LARGE, STAGED
from bench.processes import ROOT
from bench.small_calls import SMALL

WAYS = {**SMALL, **LARGE, **STAGED}

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
from bench.ways import child
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
    found = {name: Times(*times) for name, times in json.loads(done.stdout).items()}
    if any(name in FIRST for name in names):
        found |= {name: Times(*times) for name, times in first_updates(checkout).items() if name in names}
    return found


def medians(rounds: Sequence[Round]) -> Round:
    return {
        name: Times(median(each[name].cpu for each in rounds), median(each[name].wall for each in rounds))
        for name in rounds[0]
    }


def table(rounds: dict[Path, list[Round]], box: Box) -> Table:
    """A row for each way: this checkout's times, the other's, and their ratios, which are medians of the rounds'."""
    this, *other = rounds
    shown = Table(box=box)
    shown.add_column("way of calling", no_wrap=True)
    for checkout in rounds:
        for clock in Times._fields:
            shown.add_column(f"{clock}\n{checkout.name}", justify="right")
    for clock in Times._fields if other else ():
        shown.add_column(f"{clock}\nratio", justify="right")
    shown.add_column("cpu, of\nNumPy's", justify="right")
    shown.add_column("wall, of\nNumPy's", justify="right")
    times = {checkout: medians(each) for checkout, each in rounds.items()}
    for name in times[this]:
        cells = [_text(value, name) for each in times.values() for value in each[name]]
        if other:
            cells += _ratios(name, rounds[this], name, rounds[other[0]])
        numpy = WAYS[name].numpy if name in WAYS else None
        if numpy is not None and numpy in times[this]:
            cells += _ratios(name, rounds[this], numpy, rounds[this])
        shown.add_row(name, *cells)
    return shown


def _ratios(name: str, rounds: Sequence[Round], than: str, others: Sequence[Round]) -> list[str]:
    """A way's times divided by those of a way in the same round, the median of all rounds, by each clock."""
    pairs = [(mine[name], theirs[than]) for mine, theirs in zip(rounds, others, strict=True)]
    if not all(b.cpu and b.wall for _, b in pairs):
        return ["", ""]  # no kernel was compiled
    cpu, wall = median(a.cpu / b.cpu for a, b in pairs), median(a.wall / b.wall for a, b in pairs)
    return [f"{cpu:.2f}", f"{wall:.2f}"]


def _text(value: float, name: str) -> str:
    if name in FIRST:
        return FIRST[name].format(value)
    return f"{1e6 * value:.1f} us" if value < 0.1 else f"{value:.2f} s"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    options = _parser().parse_args(arguments)
    every, beside = [*WAYS, *FIRST], beside_numpy(WAYS)
    names = [name for name in every if not options.only or any(fnmatchcase(name, each) for each in options.only)]
    names += [beside[name] for name in names if name in beside]
    names = [name for name in every if name in names]
    if not names:
        print(f"bench.ways: no way matches {options.only}; there are: {'; '.join(every)}", file=sys.stderr)
        return 2
    checkouts = [ROOT, *([options.against.resolve()] if options.against else [])]
    for checkout in checkouts:
        if not (checkout / "fastoptim" / "__init__.py").exists():
            print(f"bench.ways: {checkout} is no checkout: it has no fastoptim/__init__.py", file=sys.stderr)
            return 2
    rounds: dict[Path, list[Round]] = {checkout: [] for checkout in checkouts}
    for i in range(options.rounds):
        for checkout in checkouts[:: 1 if i % 2 == 0 else -1]:
            rounds[checkout].append(one_round(checkout, names))
        print(f"round {i + 1} of {options.rounds} done; load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    console = Console(width=options.width, highlight=False)
    console.print(table(rounds, MARKDOWN if options.markdown else SIMPLE_HEAD))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.ways",
        description="Measure an update for each way of calling, in CPU time of all threads and on the clock.",
    )
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another version, measured in turn")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="for each checkout (%(default)s)")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="ways that match, as '2M*'; may be repeated")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--width", type=int, default=160, metavar="COLUMNS", help="of the table (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
