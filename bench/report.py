"""Tables and a chart of saved runs: `python -m bench.report --help`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.box import MARKDOWN, SIMPLE_HEAD
from rich.console import Console

from bench.chart import draw
from bench.neighbours import LIMIT
from bench.runs import RunError, load
from bench.tables import MARK, changes, others, steps

WIDE = 200  # columns: a Markdown table's rows must not be broken


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    options = _parser().parse_args(arguments)
    console = Console(width=WIDE if options.markdown else None, highlight=False)
    box = MARKDOWN if options.markdown else SIMPLE_HEAD
    flagged = 0
    try:
        run = load(options.run)
        if options.against:
            old = load(options.against)
            table, flagged = changes(old, run, options.threshold / 100, box)
            tables = [table]
        else:
            tables = [steps(run, options.optimizer, box), *others(run, box)]
        if options.output:
            draw(run, options.optimizer or "adam", options.output)
    except RunError as error:
        print(f"bench.report: {error}", file=sys.stderr)
        return 2
    for table in tables:
        if table.row_count:
            console.print(table)
    console.print(str(run))
    if any(case.disturbed for case in run.cases.values()):
        console.print(f"{MARK} other processes took more than {LIMIT:.0%} of the CPU time meanwhile: measure again")
    if options.against:
        console.print(f"before: {old}")
        console.print(f"{flagged} of {table.row_count} changed by more than {options.threshold:g} %")
    return int(options.fail and flagged > 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.report",
        description="Show a saved run of the benchmarks as a table and a chart, or compare two runs.",
        epilog="A run is saved by: python -m pytest bench --benchmark-json run.json. Speeds are given as parts of the "
        "ceiling: of a loop that reads and writes the same number of arrays and computes next to nothing, measured in "
        "turn with each contender. Compare runs by these ratios; seconds change with the machine and its other work.",
    )
    parser.add_argument("run", type=Path, help="the run's JSON file")
    parser.add_argument("--optimizer", metavar="NAME", help="its steps alone (table: all; chart: adam)")
    parser.add_argument("--output", type=Path, metavar="PNG", help="write a chart")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--against", type=Path, metavar="OLD", help="compare with an older run's ratios")
    parser.add_argument(
        "--threshold", type=float, default=10.0, metavar="PERCENT", help="flag what changed by more (%(default)g %%)"
    )
    parser.add_argument("--fail", action="store_true", help="exit with status 1 if anything is flagged")
    return parser


if __name__ == "__main__":
    sys.exit(main())
