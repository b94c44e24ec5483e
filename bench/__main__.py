"""`python -m bench`: what there is to run, and what it needs."""

import sys

from bench.needs import STATUS, missing

TEXT = """\
python -m pytest bench --benchmark-json run.json    measure; --optimizer adam -k rl_mlp selects
python -m bench.report run.json                     the results as tables, with --output PNG as a chart
python -m bench.report run.json --summary           one row for each optimizer; -m summary measures what it needs
python -m bench.report new.json --against old.json  what changed between two saved runs
python -m bench.ways --against CHECKOUT             what differs from another checkout, measured in turn
python -m bench.memory                              the memory that optimizers take
python -m bench.trust                               whether the verdicts hold on this machine
python -m bench.gpu                                 all that needs a GPU
Each of them has --help. docs/benchmarks.md says how the figures are made."""

NEEDED = "pytest", "pytest-benchmark", "rich", "matplotlib"


def main() -> int:
    """The command; returns its exit status."""
    print(TEXT)
    if absent := missing(*NEEDED):
        print(f"\nNot installed: {', '.join(absent)}. pip install '.[bench]' installs all of it.", file=sys.stderr)
        return STATUS
    return 0


if __name__ == "__main__":
    sys.exit(main())
