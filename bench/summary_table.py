"""A saved run as the table of all optimizers, and its figures in the tables of texts."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.box import Box
from rich.table import Table

from bench.contenders import OURS, TABLE
from bench.limits import lead
from bench.recipes import EACH
from bench.runs import Case, Run, RunError
from bench.summary import FLAT, OTHERS, PYTORCH, SMALL, large
from bench.tables import INCONCLUSIVE
from bench.units import seconds
from bench.workloads import WORKLOADS

COLUMNS = "50M flat", "Of ceiling", "PyTorch's time", "RL MLP", "PyTorch's time"
ROW = re.compile(r"^\| `([^`|]+)` \|.*\|$", re.MULTILINE)


def rows(run: Run) -> dict[str, list[str]]:
    """The cells of each optimizer that the run has, by its class's name."""
    found = {}
    for name, recipe in EACH.items():
        ours = [run.cases.get((work, name, OURS)) for work in (large(recipe.make()), SMALL)]
        if any(ours):
            big, small = (_cells(run, case) for case in ours)
            found[recipe.what] = [*big, small[0], small[2]]
    return found


def summary(run: Run, box: Box) -> Table:
    """The table."""
    table = Table("Optimizer", box=box)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for name, cells in rows(run).items():
        table.add_row(f"`{name}`", *cells)
    return table


def fill(path: Path, run: Run) -> None:
    """Write a run's cells into the rows of a Markdown file.

    Raises:
        RunError: the file has no such rows, or cannot be read or written.
    """
    try:
        text, found = path.read_text(encoding="utf-8"), rows(run)
        if not found.keys() & {match[1] for match in ROW.finditer(text)}:
            raise RunError(f"{path}: expected rows that begin with `{'`, `'.join(found)}`, found none")
        path.write_text(filled(text, found), encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}") from error


def filled(text: str, found: Mapping[str, Sequence[str]]) -> str:
    """A Markdown text in which these are the last cells of each row that begins with a class's name."""

    def row(match: re.Match[str]) -> str:
        cells = found.get(match[1])
        kept = match[0].split("|")[: -1 - len(COLUMNS)]
        return match[0] if cells is None else "|".join([*kept, *(f" {cell} " for cell in cells), ""])

    return ROW.sub(row, text)


def _cells(run: Run, case: Case | None) -> tuple[str, str, str]:
    """Time, part of the ceiling's speed, and how many times as long the fastest rival takes."""
    if case is None:
        return "", "", ""
    if case.doubt:
        return INCONCLUSIVE, "", ""
    work = case.key[0]
    where = "" if work in (FLAT, SMALL) else f" ({WORKLOADS[work].title})"
    return f"{seconds(case.seconds)}{where}", f"{case.ratio:.0%}", _lead(run, case)


def _lead(run: Run, ours: Case) -> str:
    measured = [run.cases.get((*ours.key[:2], name)) for name in (*PYTORCH, *OTHERS)]
    theirs = [case for case in measured if case and case.turns.baseline == ours.turns.baseline]
    if not theirs:
        return ""
    fastest = min(theirs, key=lambda case: case.seconds)
    times, why = lead(ours.turns, fastest.turns)
    if why or fastest.doubt:
        return INCONCLUSIVE
    name = fastest.key[2]
    return f"{times:.1f} x" if name in PYTORCH else f"{times:.1f} x {TABLE[name].title}"
