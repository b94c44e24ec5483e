"""Rounds of all ways of calling as tables."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from rich.box import MARKDOWN, Box
from rich.table import Table

from bench.first_updates import FIRST
from bench.limits import FEWEST
from bench.rounds import WAYS, Round, Times, judged
from bench.units import seconds
from bench.verdicts import STYLES, Status, Verdict, status


def table(rounds: dict[Path, list[Round]], box: Box) -> Table:
    """A row for each way: each checkout's times, and the first one's divided by NumPy's, medians of the rounds'."""
    this = next(iter(rounds))
    shown = Table(box=box)
    shown.add_column("way of calling", no_wrap=True)
    end = " " if box is MARKDOWN else "\n"  # Markdown has one line for the names of columns
    for checkout in rounds:
        for clock in Times._fields:
            shown.add_column(f"{clock}{end}{checkout.name}" if len(rounds) > 1 else clock, justify="right")
    for clock in Times._fields:
        shown.add_column(f"{clock}, of{end}NumPy's", justify="right")
    for name in rounds[this][0]:
        cells = [
            _text(median(getattr(each[name], clock) for each in found), name)
            for found in rounds.values()
            for clock in Times._fields
        ]
        numpy = WAYS[name].numpy if name in WAYS else None
        if numpy is not None and numpy in rounds[this][0]:
            cells += _ratios(name, numpy, rounds[this])
        shown.add_row(name, *cells)
    return shown


def compared(rounds: dict[Path, list[Round]], effect: float, box: Box) -> tuple[Table, Status]:
    """How the first checkout's speed on the clock differs from the other's, and the exit status for that."""
    shown = Table(box=box)
    for name in "way of calling", "change of the speed", "verdict":
        shown.add_column(name, no_wrap=True)
    verdicts = []
    for name, change in judged(rounds).items():
        verdict = change.verdict(effect) if change else Verdict.INCONCLUSIVE
        verdicts.append(verdict)
        why = "" if change else f": fewer than {FEWEST} rounds"
        shown.add_row(name, str(change or ""), f"{verdict}{why}", style=STYLES[verdict])
    return shown, status(verdicts)


def _ratios(name: str, than: str, rounds: Sequence[Round]) -> list[str]:
    """A way's times divided by those of another one in the same round, the median of all rounds, by each clock."""
    cpu = median(each[name].cpu / each[than].cpu for each in rounds)
    wall = median(each[name].wall / each[than].wall for each in rounds)
    return [f"{cpu:.2f}", f"{wall:.2f}"]


def _text(value: float, name: str) -> str:
    return FIRST[name].format(value) if name in FIRST else seconds(value)
