"""The memory that optimizers take, measured in new processes: `python -m bench.memory --help`."""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.needs import need
from bench.processes import ROOT
from bench.report import Parser
from bench.verdicts import Status

if TYPE_CHECKING:
    from bench.memory_child import Memory

MILLION = 1_000_000  # parameters in an array
MB = 1e6


class Use(NamedTuple):
    """A way of using an optimizer.

    Attributes:
        what: a function of `bench.memory_child`.
        kind: of the gradients, see `KINDS` there.
    """

    what: str
    optimizer: str
    options: dict[str, Any]
    kind: str = ""


def uses() -> dict[str, Use]:
    """By the name of its row: every optimizer, Adam with what keeps or copies more, and checkpoints."""
    from bench.recipes import EACH

    found = {name: Use("updates", name, {}) for name in sorted(recipe.what for recipe in EACH.values())}
    options: dict[str, dict[str, Any]] = {
        "ema": {"ema": 0.999},
        "accumulate": {"accumulate": 4},
        "clip_norm": {"clip_norm": 1.0},
        "state of bfloat16": {"state_dtype": "bfloat16"},
        "state of 8 bits": {"state_dtype": "8bit"},
        "ema, accumulate, clip_norm": {"ema": 0.999, "accumulate": 4, "clip_norm": 1.0},
    }
    found |= {f"Adam, {name}": Use("updates", "Adam", each) for name, each in options.items()}
    for kind in "fortran", "float64", "float16":
        found[f"Adam, {kind} gradients"] = Use("updates", "Adam", {}, kind)
        found[f"Adam, {kind} gradients, clip_norm"] = Use("updates", "Adam", {"clip_norm": 1.0}, kind)
    found["Adam, saving"] = Use("saving", "Adam", {})
    found["Adam, loading in a new process"] = Use("loading", "Adam", {})
    found["Adam, loading in a running process"] = Use("resuming", "Adam", {})
    return found


def measure(use: Use, count: int, path: Path) -> "Memory":
    """Measure a use in a new process, with so many arrays. Checkpoints are written to `path`, or read from it."""
    from bench.memory_child import Memory

    question = json.dumps([use.what, use.optimizer, use.options, use.kind, count, str(path)])
    command = [sys.executable, "-m", "bench.memory_child", question]
    done = subprocess.run(command, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE)
    return Memory(*json.loads(done.stdout))


def row(name: str, found: "Memory", count: int) -> list[str]:
    """A use's cells: what stays, what was predicted, what stays for each parameter, and what was there for a while."""
    said = "" if found.predicted is None else f"{found.predicted / MB:.0f} MB"
    per_parameter = f"{found.held / (count * MILLION):.1f}"
    return [name, f"{found.held / MB:.0f} MB", said, per_parameter, f"{max(0, found.peak - found.held) / MB:.0f} MB"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    options = _parser().parse_args(arguments)
    need("bench.memory", "rich")
    from rich.box import MARKDOWN, SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    if not Path("/proc/self/status").exists():
        print("bench.memory: it reads /proc/self/status, which only Linux has", file=sys.stderr)
        return Status.ERROR
    chosen = {name: use for name, use in uses().items() if fnmatchcase(name, options.only)}
    if not chosen:
        print(f"bench.memory: no use matches {options.only!r}; there are: {'; '.join(uses())}", file=sys.stderr)
        return Status.ERROR
    count = max(1, round(options.params / MILLION))
    table = Table(box=MARKDOWN if options.markdown else SIMPLE_HEAD)
    table.add_column("Use", no_wrap=True)
    for title in "Stays", "Predicted", "Bytes per parameter", "Taken for a while":
        table.add_column(title, justify="right")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.safetensors"
        if any(use.what in ("loading", "resuming") for use in chosen.values()):
            measure(uses()["Adam, saving"], count, path)
        for name, use in chosen.items():
            print(f"{name} ...", file=sys.stderr)
            table.add_row(*row(name, measure(use, count, path), count))
    console = Console(width=options.width, highlight=False)
    console.print(table)
    console.print(
        f"{count * MILLION:,} float32 parameters in {count} arrays: {4 * count} MB, and their gradients, which are not "
        "counted above."
    )
    return Status.FINE


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m bench.memory",
        description="Measure the memory that optimizers take beyond parameters and gradients: what stays (state, "
        "averages, sums) and what is taken for a while, each in a new process. opt.memory(params) predicts what stays.",
    )
    parser.add_argument("--params", type=int, default=100 * MILLION, metavar="N", help="how many (%(default)s)")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="uses that match, as 'Adam, ema*'")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--width", type=int, default=140, metavar="COLUMNS", help="of the table (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
