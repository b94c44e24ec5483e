"""One recipe's saved results as a chart: a panel for each workload, a bar for each contender with a clear result."""

from itertools import groupby
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from bench.contenders import OURS, TABLE
from bench.recipes import RECIPES
from bench.runs import Case, Run, RunError
from bench.tables import INCONCLUSIVE
from bench.units import seconds
from bench.workloads import WORKLOADS

OUR_COLOR, COLOR, LINE, INK, PALE = "#d9480f", "#a8b3bf", "#334e68", "#243b53", "#627d98"
COLUMNS = 2
BAR, PANEL, HEAD = 0.215, 0.55, 0.75  # heights in inches
WIDTH, DPI = 8.6, 200


def draw(run: Run, recipe: str, output: Path) -> None:
    """Write the chart, in the format that the file's name ends in.

    Raises:
        RunError: the run has no step of this recipe, or the file cannot be written.
    """
    figure = chart(run, recipe)
    try:
        figure.savefig(output, dpi=DPI)
    except (OSError, ValueError) as error:
        raise RunError(f"{output}: {error}") from error


def chart(run: Run, recipe: str) -> Figure:
    """The chart.

    Raises:
        RunError: the run has no step of this recipe.
    """
    steps = run.against("ceiling")
    works = [list(cases) for (_, name), cases in groupby(steps, key=lambda case: case.key[:2]) if name == recipe]
    if not works:
        names = ", ".join(dict.fromkeys(case.key[1] for case in steps))
        raise RunError(f"nothing to draw: the run has no steps of {recipe!r}, only of {names or 'none'}")
    columns = min(COLUMNS, len(works))
    rows = -(-len(works) // columns)
    most = max(map(len, works))
    height = HEAD + rows * (PANEL + BAR * most)
    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="white")
    what = RECIPES[recipe].what if recipe in RECIPES else recipe
    figure.suptitle(
        f"One step of {what}: speed compared with the ceiling, and time",
        color=INK, fontweight="bold", fontsize=11,
    )  # fmt: skip
    figure.supxlabel(
        f"ceiling: reading and writing the same arrays, without the arithmetic  ·  {run.cpu}, {run.threads} threads",
        color=PALE, fontsize=7.5,
    )  # fmt: skip
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, cases in zip(panels, works, strict=False):
        _panel(axes, cases, most)
    for axes in panels[len(works) :]:
        axes.set_visible(False)
    return figure


def _panel(axes: Axes, cases: list[Case], places: int) -> None:
    work, names = cases[0].key[0], [case.key[2] for case in cases]
    ours = [name.startswith(OURS) for name in names]
    speeds = [0.0 if case.doubt else case.ratio for case in cases]
    axes.barh(
        [TABLE[name].title if name in TABLE else name for name in names],
        speeds,
        color=[OUR_COLOR if own else COLOR for own in ours],
        height=0.74,
    )
    # The times stand in a column beside the panel, where neither bars nor the ceiling's line can cross them.
    for i, (own, case, tick) in enumerate(zip(ours, cases, axes.get_yticklabels(), strict=True)):
        weight = "bold" if own else "normal"
        text, color = (INCONCLUSIVE, PALE) if case.doubt else (seconds(case.seconds), INK)
        axes.text(
            1.03, i, text, transform=axes.get_yaxis_transform(), va="center", fontsize=7.5, color=color,
            fontweight=weight, fontstyle="italic" if case.doubt else "normal",
        )  # fmt: skip
        tick.set_fontweight(weight)
    axes.axvline(1, color=LINE, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
    title = f"{WORKLOADS[work].title}  ·  {WORKLOADS[work].what}" if work in WORKLOADS else work
    axes.set_title(title, fontsize=8.5, loc="left", color=INK)
    axes.set_ylim(places - 0.5, -0.5)
    axes.set_xlim(0, 1.02 * max(1, *speeds))
    axes.xaxis.set(major_locator=MaxNLocator(5, steps=[1, 2.5, 5, 10]), major_formatter=PercentFormatter(xmax=1))
    axes.tick_params(length=0, labelsize=7.5, labelcolor=INK)
    axes.tick_params(axis="x", labelcolor=PALE, labelsize=7)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color(PALE)
