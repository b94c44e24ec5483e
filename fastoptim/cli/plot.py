"""The demo's plot. It is made without pyplot, which would open a display's toolkit and keep the figure."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from fastoptim.cli.training import Training

# Okabe & Ito 2008: told apart by colour-blind readers, too. Line styles go on where they end.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", ":")
TEXT, GRID = "#333333", "#DDDDDD"


def save(trainings: Sequence[Training], title: str, output: Path) -> None:
    """Write the loss curves as a PNG.

    Raises:
        OSError
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    looks = cycle((style, colour) for style in STYLES for colour in COLOURS)
    for training, (style, colour) in zip(trainings, looks, strict=False):
        epochs = range(1, len(training.losses) + 1)
        label = f"{training.name}  {training.accuracy:.1%}"
        axes.plot(epochs, training.losses, style, color=colour, linewidth=1.8, marker="o", markersize=3, label=label)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(title, loc="left", color=TEXT, fontsize=11)
    axes.set_xlabel("epoch", color=TEXT)
    axes.set_ylabel("training loss, mean cross-entropy", color=TEXT)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, labelcolor=TEXT)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GRID)
    legend = axes.legend(title="test accuracy", framealpha=0.9, edgecolor="none", labelcolor=TEXT, alignment="left")
    legend.get_title().set_color(TEXT)
    figure.savefig(output, format="png", dpi=150)
