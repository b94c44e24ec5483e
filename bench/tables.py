"""Saved runs as tables."""

from collections.abc import Callable, Sequence
from itertools import groupby

from rich.box import MARKDOWN, Box
from rich.table import Table

from bench.compare import Comparison
from bench.contenders import OURS, TABLE
from bench.limits import lead
from bench.runs import Case, Key, Run, RunError
from bench.units import seconds
from bench.verdicts import STYLES, Verdict
from bench.workloads import WORKLOADS

INCONCLUSIVE = str(Verdict.INCONCLUSIVE)
Cell = Callable[[Case], str]
SPEEDS: dict[str, Cell] = {"Time": lambda case: seconds(case.seconds), "GB/s": lambda case: f"{case.gb_per_s:.1f}"}
TIME = {"Time": SPEEDS["Time"]}
MEMORY: dict[str, Cell] = {"Extra memory": lambda case: "" if case.memory is None else f"{case.memory:.1%}"}


def _ratio(name: str, template: str, *, inverse: bool = False) -> dict[str, Cell]:
    return {name: lambda case: template.format(1 / case.ratio if inverse else case.ratio)}


# What is measured in turn with something else than the ceiling: by that, the first column's name, and the others
OTHERS: dict[str, tuple[str, dict[str, Cell]]] = {
    "import_numba": ("New process", TIME | _ratio("Time of import numba", "{:.2g} x", inverse=True)),
    "save_file": ("Saved", SPEEDS | _ratio("Of safetensors' speed", "{:.1%}") | MEMORY),
    "load_file": ("Loaded", SPEEDS | _ratio("Of safetensors' speed", "{:.1%}") | MEMORY),
    "numpy": ("Way of calling", TIME | _ratio("Of NumPy's speed", "{:.2f} x")),
    "contiguous": ("Staged copies", TIME | _ratio("Of the contiguous speed", "{:.1%}")),
    "undisturbed": ("After a matrix product", TIME | _ratio("Of the speed without", "{:.1%}")),
    "training_in_numpy": ("Training on the digits", TIME | _ratio("Of plain NumPy's speed", "{:.2f} x")),
}


def steps(run: Run, recipe: str | None, box: Box) -> Table:
    """Every contender's step, of one recipe or of all."""
    table = _table("Time", "GB/s", "Of ceiling", "Speed-up", "Threads", box=box)
    rows: list[Sequence[str]] = []
    for (_, name), cases in groupby(run.against("ceiling"), key=lambda case: case.key[:2]):
        if recipe not in (None, name):
            continue
        for i, case in enumerate(cases):
            speed_up, why = _lead(run, case)
            cells = [seconds(case.seconds), f"{case.gb_per_s:.1f}", f"{case.ratio:.1%}", speed_up]
            if case.doubt:
                cells, why = ["", "", INCONCLUSIVE, ""], case.doubt
            rows.append((*_names(case.key), *cells, str(case.threads or ""), why))
            if i == 0 and box is not MARKDOWN and len(rows) > 1:  # which has no lines between rows
                rows.insert(len(rows) - 1, ())
    return _filled(table, rows)


def wide(run: Run, recipe: str, box: Box) -> Table:
    """One recipe's steps, a row for each workload: the time, and the part of the ceiling's speed or the speed-up."""
    cases = [case for case in run.against("ceiling") if case.key[1] == recipe]
    if not cases:
        raise RunError(f"the run has no steps of {recipe!r}")
    names = list(dict.fromkeys(case.key[2] for case in cases))
    table = Table("Workload", box=box)
    for name in names:
        table.add_column(TABLE[name].title if name in TABLE else name, justify="right")
    for work, group in groupby(cases, key=lambda case: case.key[0]):
        cells = {case.key[2]: _wide_cell(run, case) for case in group}
        table.add_row(WORKLOADS[work].title, *(cells.get(name, "") for name in names))
    return table


def _wide_cell(run: Run, case: Case) -> str:
    if case.doubt:
        return INCONCLUSIVE
    beside = f"{case.ratio:.1%}" if case.key[2].startswith(OURS) else _lead(run, case)[0]
    return f"{seconds(case.seconds)} ({beside})" if beside else seconds(case.seconds)


def others(run: Run, box: Box) -> list[Table]:
    """A table for each kind of what was measured in turn with something else than the ceiling."""
    tables = []
    for baseline, (title, columns) in OTHERS.items():
        table = Table(title, box=box)
        for name in columns:
            table.add_column(name, justify="right")
        rows: list[Sequence[str]] = []
        for case in run.against(baseline):
            cells = [text(case) for text in columns.values()]
            if case.doubt:
                cells = [INCONCLUSIVE, *[""] * (len(cells) - 1)]
            rows.append((_names(case.key)[2], *cells, case.doubt))
        tables.append(_filled(table, rows))
    return tables


def changes(comparison: Comparison, box: Box) -> Table:
    """The ratios of two runs side by side, with what can be said about their change."""
    table = _table("Old ratio", "New ratio", "Change of the speed", "Verdict", box=box)
    for name, old, new, change, verdict, why, control in comparison.rows:
        ratios = ["" if case.doubt else f"{case.ratio:.3g}" for case in (old, new)]
        said = f"({verdict})" if control else str(verdict)
        why = f": {why}" if why else ""
        style = "dim" if control else STYLES[verdict]
        table.add_row(*_names(name), *ratios, str(change or ""), said + why, style=style)
    return table


def _table(*numbers: str, box: Box) -> Table:
    table = Table(box=box, collapse_padding=True)
    for name in "Workload", "Optimizer", "Contender":
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=name != "Verdict")
    return table


def _filled(table: Table, rows: list[Sequence[str]]) -> Table:
    """With these rows; an empty one is a line. The last cells say why something is inconclusive, if anything is."""
    said = any(row and row[-1] for row in rows)
    if said:
        table.add_column("Why")
    for row in rows:
        if row:
            table.add_row(*(row if said else row[:-1]))
        else:
            table.add_section()
    return table


def _names(key: Key) -> tuple[str, str, str]:
    work, recipe, contender = key
    return (
        WORKLOADS[work].title if work in WORKLOADS else work,
        recipe,
        TABLE[contender].title if contender in TABLE else contender,
    )


def _lead(run: Run, case: Case) -> tuple[str, str]:
    """How many times as fast as this contender fastoptim is, and why that is inconclusive.

    Only where both were measured in the same rounds: then they have the same baseline, turn for turn.
    """
    work, recipe, contender = case.key
    ours = run.cases.get((work, recipe, OURS))
    if ours is None or contender == OURS or ours.doubt or case.doubt or ours.turns.baseline != case.turns.baseline:
        return "", ""
    times, why = lead(ours.turns, case.turns)
    return (INCONCLUSIVE, why) if why else (f"{times:.1f} x", "")
