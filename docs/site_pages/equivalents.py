"""The table of what is the same elsewhere: `docs/equivalents.toml`, which tests/peers.py runs."""

import tomllib
from pathlib import Path
from typing import Any

LIBRARIES = {
    "torch": "PyTorch, `torch.optim`",
    "keras": "Keras, `keras.optimizers`",
    "optax": "Optax",
    "schedulefree": "`schedulefree`",
    "pytorch_optimizer": "`pytorch_optimizer`",
}
TEXT = (Path(__file__).parents[1] / "equivalents.toml").read_text(encoding="utf-8")
DATA: dict[str, Any] = tomllib.loads(TEXT)


def rows_of(name: str) -> list[dict[str, Any]]:
    """The rows of one optimizer."""
    return [row for row in DATA["row"] if row["ours"].partition("(")[0] == name]


def table(name: str) -> str:
    """An optimizer's rows in Markdown, with footnotes; or a sentence where there are none.

    A library has a column if it is in one of the rows.
    """
    rows = rows_of(name)
    if not rows:
        return str(DATA["none"].get(name, "None is known."))
    notes: list[str] = []
    columns = {"ours": "fastoptim"} | {key: LIBRARIES[key] for key in LIBRARIES if any(key in row for row in rows)}
    lines = [f"| {' | '.join(columns.values())} |", "|---" * len(columns) + "|"]
    for row in rows:
        marks = {key: _marks(row, key, notes) for key in columns}
        cells = [f"`{row[key]}`{marks[key]}" if key in row else "-" for key in columns]
        lines.append(f"| {' | '.join(cells)} |")
    numbered = [f"{i}. {note}" for i, note in enumerate(notes, start=1)]
    return "\n".join([*lines, "", *numbered])


def _marks(row: dict[str, Any], key: str, notes: list[str]) -> str:
    said = [row["note"]] if key == "ours" and "note" in row else []
    said += [DATA["exceptions"][name] for name in DATA["exceptions"] if key in row.get(name, [])]
    notes += [note for note in said if note not in notes]
    return "".join(f" <sup>{notes.index(note) + 1}</sup>" for note in said)
