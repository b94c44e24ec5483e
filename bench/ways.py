"""All ways of calling, and first updates, of this checkout and of another one in turn (`--help`)."""

import argparse
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from bench.needs import need
from bench.report import Parser, percent
from bench.verdicts import EFFECT, EXIT, Status

ROUNDS = 5
ROUNDS_AGAINST = 10  # of which so many changes at once can be judged


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    options = _parser().parse_args(arguments)
    need("bench.ways", "rich", *["scipy"] * bool(options.against))
    from rich.box import MARKDOWN, SIMPLE_HEAD
    from rich.console import Console

    from bench.calls import beside_numpy
    from bench.first_updates import FIRST
    from bench.processes import ROOT
    from bench.rounds import WAYS, in_turn
    from bench.ways_table import compared, table

    every, beside = [*WAYS, *FIRST], beside_numpy(WAYS)
    names = [name for name in every if not options.only or any(fnmatchcase(name, each) for each in options.only)]
    names += [beside[name] for name in names if name in beside]
    names = [name for name in every if name in names]
    if not names:
        print(f"bench.ways: no way matches {options.only}; there are: {'; '.join(every)}", file=sys.stderr)
        return Status.ERROR
    checkouts = [ROOT, *([options.against.resolve()] if options.against else [])]
    if len(set(checkouts)) < len(checkouts):
        print("bench.ways: the other checkout is this one", file=sys.stderr)
        return Status.ERROR
    for checkout in checkouts:
        if not (checkout / "fastoptim" / "__init__.py").exists():
            print(f"bench.ways: {checkout} is no checkout: it has no fastoptim/__init__.py", file=sys.stderr)
            return Status.ERROR
    rounds = in_turn(checkouts, names, options.rounds or (ROUNDS_AGAINST if options.against else ROUNDS))
    box = MARKDOWN if options.markdown else SIMPLE_HEAD
    console = Console(width=options.width, highlight=False)
    console.print(table(rounds, box))
    if not options.against:
        return Status.FINE
    verdicts, status = compared(rounds, options.threshold / 100, box)
    console.print(verdicts)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m bench.ways",
        description="Measure an update for each way of calling, in CPU time of all threads and on the clock.",
        epilog="With --against, a process of its own measures each round of a checkout. The two of a round are a pair, "
        f"and the pairs tell how far their quotients vary. {EXIT}",
    )
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another version, measured in turn")
    parser.add_argument(
        "--rounds", type=int, metavar="N", help=f"for each checkout ({ROUNDS}; {ROUNDS_AGAINST} with --against)"
    )
    parser.add_argument("--only", action="append", metavar="PATTERN", help="ways that match, as '2M*'; may be repeated")
    parser.add_argument(
        "--threshold", type=percent, default=EFFECT, metavar="PERCENT", help="a smaller change is none (%(default)g %%)"
    )
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--width", type=int, default=160, metavar="COLUMNS", help="of the table (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
