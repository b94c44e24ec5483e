"""`fastoptim demo`: all optimizers on one task, as a table and a plot."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from fastoptim import Optimizer
from fastoptim.cli.plot import save
from fastoptim.cli.training import Training, digits, parameter_count, train, with_learning_rate


def run(optimizers: Sequence[type[Optimizer]], seed: int, epochs: int, output: Path) -> int:
    """Train with each, print the table, write the plot; return the exit code."""
    console = Console()
    task = f"{parameter_count():,} parameters, float32, {epochs} epoch{'s' * (epochs > 1)}, seed {seed}"
    console.print(f"Handwritten digits: {task}", highlight=False)
    trainings = _train_all(optimizers, seed, epochs, console)
    console.print(_table(trainings, console))
    try:
        save(trainings, f"Handwritten digits, {task}", output)
    except OSError as error:
        print(f"fastoptim demo: cannot write {str(output)!r}: {error.strerror or error}", file=sys.stderr)
        return 1
    console.print(f"Loss curves: {output}", highlight=False, soft_wrap=True)
    return 0


def _train_all(optimizers: Sequence[type[Optimizer]], seed: int, epochs: int, console: Console) -> list[Training]:
    data = digits(seed)
    trainings = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TimeElapsedColumn(),
    )
    # Drawn between epochs only: a thread that draws would get into the updates' times.
    with Progress(
        *columns, console=console, auto_refresh=False, transient=True, disable=not console.is_interactive
    ) as progress:
        for i, cls in enumerate(optimizers, start=1):
            task = progress.add_task(cls.__name__, total=epochs)
            progress.refresh()
            on_epoch = partial(progress.update, task, advance=1, refresh=True)
            trainings.append(train(with_learning_rate(cls, data, seed), data, seed, epochs, on_epoch))
            if progress.disable:  # a file or a pipe: one line for each
                name, accuracy = trainings[-1].name, trainings[-1].accuracy
                console.print(f"[{i}/{len(optimizers)}] {name} {accuracy:.1%}", highlight=False, markup=False)
    return trainings


def _table(trainings: Sequence[Training], console: Console) -> Table:
    micro = "us" if console.options.ascii_only else "µs"
    table = Table(
        box=box.SIMPLE_HEAD,
        caption="Times: the median of a training's updates. NumPy: the same rule on whole arrays.",
        caption_justify="left",
    )
    table.add_column("optimizer", style="bold")
    for heading in "test accuracy", f"fastoptim, {micro}", f"NumPy, {micro}", "speed-up":
        table.add_column(heading, justify="right")
    for training in trainings:
        plain = training.plain_us
        table.add_row(
            training.name,
            f"{training.accuracy:.1%}",
            f"{training.update_us:.1f}",
            "-" if plain is None else f"{plain:.1f}",
            "-" if plain is None else f"{plain / training.update_us:.1f}x",
        )
    return table
