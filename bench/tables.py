"""Saved runs as tables."""

from itertools import groupby

from matplotlib.ticker import EngFormatter
from rich.box import MARKDOWN, Box
from rich.table import Table

from bench.contenders import TABLE
from bench.runs import Case, Key, Run, RunError
from bench.workloads import WORKLOADS

OURS = "fastoptim"  # the contender whose speed is divided by the others'
MARK = "?"  # behind results that were disturbed
seconds = EngFormatter(unit="s", places=1)


def steps(run: Run, optimizer: str | None, box: Box) -> Table:
    """Every contender's step, of one optimizer or of all."""
    table = _table("Time", "GB/s", "Of ceiling", "Speed-up", box=box)
    for (_, name), cases in groupby(run.steps, key=lambda case: case.key[:2]):
        if optimizer not in (None, name):
            continue
        if box is not MARKDOWN:  # which has no lines between rows
            table.add_section()
        for case in cases:
            table.add_row(
                *_names(case.key),
                seconds(case.seconds),
                f"{case.gb_per_s:.1f}",
                f"{case.ratio:.1%}{_mark(case)}",
                _lead(run, case),
            )
    return table


def starts(run: Run, box: Box) -> Table:
    """What one waits for in a new process."""
    table = Table("New process", box=box)
    for name in "Time", "Time of import numba":
        table.add_column(name, justify="right")
    for case in run.starts:
        table.add_row(case.key[2], seconds(case.seconds), f"{1 / case.ratio:.2f} x{_mark(case)}")
    return table


def changes(old: Run, new: Run, threshold: float, box: Box) -> tuple[Table, int]:
    """The ratios of two runs side by side, and how many changed by more than `threshold`, 0.1 for 10 %.

    Raises:
        RunError: the runs have nothing in common.
    """
    table = _table("Old ratio", "New ratio", "Change", "", box=box)
    flagged = 0
    for key in (key for key in new.cases if key in old.cases):
        ratios = old.cases[key].ratio, new.cases[key].ratio
        change = ratios[1] / ratios[0] - 1
        flag, style = "", ""
        if abs(change) > threshold:
            flagged += 1
            flag, style = ("faster", "green") if change > 0 else ("slower", "bold red")
        flag += _mark(old.cases[key], new.cases[key])
        table.add_row(*_names(key), *(f"{ratio:.3f}" for ratio in ratios), f"{change:+.1%}", flag, style=style)
    if not table.row_count:
        raise RunError("the two runs have no case in common")
    return table, flagged


def _table(*numbers: str, box: Box) -> Table:
    table = Table(box=box, collapse_padding=True)
    for name in "Workload", "Optimizer", "Contender":
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _names(key: Key) -> tuple[str, str, str]:
    work, optimizer, contender = key
    return (
        WORKLOADS[work].title if work in WORKLOADS else work,
        optimizer,
        TABLE[contender].title if contender in TABLE else contender,
    )


def _mark(*cases: Case) -> str:
    return MARK if any(case.disturbed for case in cases) else ""


def _lead(run: Run, case: Case) -> str:
    """How many times as fast as this contender fastoptim is, by their ratios: those hold in a noisy run, too."""
    work, optimizer, contender = case.key
    ours = run.cases.get((work, optimizer, OURS))
    return f"{ours.ratio / case.ratio:.1f} x" if ours and contender != OURS else ""
