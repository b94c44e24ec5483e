"""Saved runs as tables."""

from collections.abc import Callable
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

# What is measured in turn with something else than the ceiling: by that, the first column's name, and the others
OTHERS: dict[str, tuple[str, dict[str, Callable[[Case], str]]]] = {
    "import_numba": (
        "New process",
        {
            "Time": lambda case: seconds(case.seconds),
            "Time of import numba": lambda case: f"{1 / case.ratio:.2f} x{_mark(case)}",
        },
    ),
    "save_file": (
        "Saved",
        {
            "Time": lambda case: seconds(case.seconds),
            "GB/s": lambda case: f"{case.gb_per_s:.1f}",
            "Of safetensors' speed": lambda case: f"{case.ratio:.1%}{_mark(case)}",
            "Extra memory": lambda case: "" if case.memory is None else f"{case.memory:.1%}",
        },
    ),
    "numpy": (
        "Way of calling",
        {
            "Time": lambda case: seconds(case.seconds),
            "Of NumPy's speed": lambda case: f"{case.ratio:.2f} x{_mark(case)}",
        },
    ),
    "contiguous": (
        "Staged copies",
        {
            "Time": lambda case: seconds(case.seconds),
            "Of the contiguous speed": lambda case: f"{case.ratio:.1%}{_mark(case)}",
        },
    ),
    "undisturbed": (
        "After a matrix product",
        {
            "Time": lambda case: seconds(case.seconds),
            "Of the speed without": lambda case: f"{case.ratio:.1%}{_mark(case)}",
        },
    ),
}


def steps(run: Run, recipe: str | None, box: Box) -> Table:
    """Every contender's step, of one recipe or of all."""
    table = _table("Time", "GB/s", "Of ceiling", "Speed-up", box=box)
    for (_, name), cases in groupby(run.against("ceiling"), key=lambda case: case.key[:2]):
        if recipe not in (None, name):
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


def others(run: Run, box: Box) -> list[Table]:
    """A table for each kind of what was measured in turn with something else than the ceiling."""
    tables = []
    for baseline, (title, columns) in OTHERS.items():
        table = Table(title, box=box)
        for name in columns:
            table.add_column(name, justify="right")
        for case in run.against(baseline):
            table.add_row(_names(case.key)[2], *(text(case) for text in columns.values()))
        tables.append(table)
    return tables


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
    work, recipe, contender = key
    return (
        WORKLOADS[work].title if work in WORKLOADS else work,
        recipe,
        TABLE[contender].title if contender in TABLE else contender,
    )


def _mark(*cases: Case) -> str:
    return MARK if any(case.disturbed for case in cases) else ""


def _lead(run: Run, case: Case) -> str:
    """How many times as fast as this contender fastoptim is, by their ratios: those hold in a noisy run, too."""
    work, recipe, contender = case.key
    ours = run.cases.get((work, recipe, OURS))
    return f"{ours.ratio / case.ratio:.1f} x" if ours and contender != OURS else ""
