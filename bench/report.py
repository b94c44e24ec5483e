"""Tables and a chart of saved runs: `python -m bench.report --help`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from bench.needs import need
from bench.verdicts import EFFECT, EXIT, Status

WIDE = 200  # columns: a Markdown table's rows must not be broken
LEAST = 140  # nor words, in a narrow terminal


class Parser(argparse.ArgumentParser):
    """Ends with our status for errors: argparse's own is 2, which has another meaning here."""

    def error(self, message: str) -> NoReturn:
        """Say how the command is used, and what was wrong."""
        self.print_usage(sys.stderr)
        self.exit(Status.ERROR, f"{self.prog}: error: {message}\n")


def percent(text: str) -> float:
    """A number above zero."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of percent above 0, got {text}")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    options = _parser().parse_args(arguments)
    need("bench.report", "rich", *["matplotlib"] * bool(options.output), *["scipy"] * bool(options.against))
    from rich.box import MARKDOWN, SIMPLE_HEAD
    from rich.console import Console

    from bench.compare import compare
    from bench.runs import RunError, load
    from bench.summary_table import fill, summary
    from bench.tables import changes, others, steps, wide

    console = Console(width=WIDE if options.markdown else max(Console().width, LEAST), highlight=False)
    box = MARKDOWN if options.markdown else SIMPLE_HEAD
    status = Status.FINE
    try:
        run = load(options.run)
        if options.against:
            old = load(options.against)
            comparison = compare(old, run, options.threshold / 100)
            status, tables = comparison.status, [changes(comparison, box)]
        elif options.wide:
            tables = [wide(run, options.optimizer or "adam", box)]
        elif options.summary:
            tables = [summary(run, box)]
        else:
            tables = [steps(run, options.optimizer, box), *others(run, box)]
        if options.output:
            from bench.chart import draw

            draw(run, options.optimizer or "adam", options.output)
        for path in options.fill:
            fill(path, run)
    except RunError as error:
        print(f"bench.report: {error}", file=sys.stderr)
        return Status.ERROR
    for table in tables:
        if table.row_count:
            console.print(table)
    console.print(f"{run.commit}; {run}" if not options.against else f"new: {run.commit}; {run}")
    if options.against:
        console.print(f"old: {old.commit}; {old}")
        console.print("In brackets: contenders whose code is the same in both runs. What they changed by is the noise.")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m bench.report",
        description="Show a saved run of the benchmarks as a table and a chart, or compare two runs.",
        epilog="A run is saved by: python -m pytest bench --benchmark-json run.json. Speeds are given as parts of the "
        "ceiling: of a loop that reads and writes the same number of arrays and computes next to nothing, measured in "
        "turn with each contender. Compare runs by these ratios; seconds change with the machine and its other work. "
        f"{EXIT} Without --against it is 0 or 3.",
    )
    parser.add_argument("run", type=Path, help="the run's JSON file")
    parser.add_argument("--optimizer", metavar="NAME", help="its steps alone (table: all; chart: adam)")
    parser.add_argument("--output", type=Path, metavar="PNG", help="write a chart; without it, none is drawn")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--wide", action="store_true", help="one row for each workload, of one optimizer (adam)")
    which.add_argument("--summary", action="store_true", help="one row for each optimizer, on two workloads")
    parser.add_argument(
        "--fill", type=Path, nargs="+", default=[], metavar="FILE", help="write these figures into a Markdown table"
    )
    which.add_argument("--against", type=Path, metavar="OLD", help="compare with an older run's ratios")
    parser.add_argument(
        "--threshold", type=percent, default=EFFECT, metavar="PERCENT", help="a smaller change is none (%(default)g %%)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
