"""What was measured on a GPU, as figures with their ratios, goals and a plain table: no package is needed for it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.gpu_contenders import MOVED

BASE = "torch-fused"  # the contender that the others are compared with
SCALES = (("s", 1.0), ("ms", 1e3), ("us", 1e6))
Figure = dict[str, Any]


def figure(
    work: str, contender: str, title: str, elements: int, arrays: int, measured: Mapping[str, Any], moved: int = MOVED
) -> Figure:
    """One contender on one workload, with the bandwidth that it comes to, as it moves so many bytes for an element.

    The time that counts is the GPU's own, or for a contender on streams of its own that of an update after another.
    """
    seconds = measured["gpu_seconds"] or measured["wall_seconds"]
    return {
        "work": work, "contender": contender, "title": title, "elements": elements, "arrays": arrays,
        "bytes": moved * elements,
        **measured,
        "seconds": seconds,
        "clock": "events" if measured["gpu_seconds"] else "wall",
        "gb_per_s": moved * elements / seconds / 1e9,
        "copy_gb_per_s": moved * elements / measured["copy_seconds"] / 1e9,
    }  # fmt: skip


def with_ratios(figures: Iterable[Figure]) -> list[Figure]:
    """The same, with how many times as fast as torch fused each is, by each clock; None where that was not measured."""
    figures = list(figures)
    bases = {each["work"]: each for each in figures if each["contender"] == BASE}
    return [
        {
            **each,
            "times_torch_fused": {
                clock: base[f"{clock}_seconds"] / each[f"{clock}_seconds"]
                if (base := bases.get(each["work"])) and base[f"{clock}_seconds"] and each[f"{clock}_seconds"]
                else None
                for clock in ("gpu", "wall", "host")
            },
        }
        for each in figures
    ]


# name, workload, contender, where it is in a figure, what must be reached, what is aimed at, whether more is better
GOALS = [
    ("of the copy's bandwidth", "flat", "fastoptim-flat", ("of_copy",), 0.90, 0.95, True),
    ("times torch fused", "flat", "fastoptim-flat", ("times_torch_fused", "gpu"), 1.0, 1.1, True),
    ("times torch fused", "resnet50", "fastoptim-torch", ("times_torch_fused", "gpu"), 1.0, 1.3, True),
    ("times torch fused, host included", "resnet50", "fastoptim-torch", ("times_torch_fused", "wall"), 1.0, 1.3, True),
    ("host seconds, dict", "rl_mlp", "fastoptim-torch", ("host_seconds",), 30e-6, 15e-6, False),
    ("host seconds, flat", "rl_mlp", "fastoptim-flat", ("host_seconds",), 15e-6, 7.5e-6, False),
    ("host: times torch fused, dict", "rl_mlp", "fastoptim-torch", ("times_torch_fused", "host"), 1.0, 1.0, True),
    ("host: times torch fused, flat", "rl_mlp", "fastoptim-flat", ("times_torch_fused", "host"), 1.0, 1.0, True),
]


def goals(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """What had to be reached, and what was; `reached` is "aim", "must", "missed" or "not measured"."""
    found = {(each["work"], each["contender"]): each for each in figures}
    rows = []
    for name, work, contender, path, must, aim, more in GOALS:
        value: Any = found.get((work, contender))
        for key in path:
            value = value[key] if value is not None else None
        reached = "not measured"
        if value is not None:
            sign = 1 if more else -1
            reached = "aim" if sign * value >= sign * aim else "must" if sign * value >= sign * must else "missed"
        rows.append({"goal": name, "work": work, "must": must, "aim": aim, "measured": value, "reached": reached})
    return rows


def seconds(value: float | None) -> str:
    """In the unit that suits it."""
    if value is None:
        return "-"
    unit, scale = next(((u, s) for u, s in SCALES if abs(value) * s >= 1), SCALES[-1])
    return f"{value * scale:.3g} {unit}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns in line, the first row as their head; the first column to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    return "\n".join([lines[0].rstrip(), "-" * len(lines[0]), *(line.rstrip() for line in lines[1:])])


def text(report: Mapping[str, Any]) -> str:
    """All of a report, for people."""
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    blocks = [f"{machine['gpu']}, driver {machine['driver']}, {machine['cpu']}; {versions}"]
    works: dict[str, list[Figure]] = {}
    for each in report["figures"]:
        works.setdefault(each["work"], []).append(each)
    for work, figures in works.items():
        head = [f"{work}: {figures[0]['elements']:,} in {figures[0]['arrays']}", "GPU", "GB/s", "of copy",
                "one after another", "host", "x torch fused: GPU", "wall", "host"]  # fmt: skip
        rows = [head]
        for each in figures:
            ratios = (f"{x:.2f}" if x else "-" for x in each["times_torch_fused"].values())
            rows.append(
                [each["title"], seconds(each["gpu_seconds"]), f"{each['gb_per_s']:.0f}", f"{each['of_copy']:.3f}",
                 seconds(each["wall_seconds"]), seconds(each["host_seconds"]), *ratios]
            )  # fmt: skip
        blocks.append(table(rows))
        if behind := [each["title"] for each in figures if each["clock"] == "events" and each["host_ahead"] < 0.5]:
            blocks.append(f"the GPU waited for the host, so that its own time is less: {', '.join(behind)}")
    measured = [row for row in report["goals"] if row["measured"] is not None]
    if measured:
        rows = [["goal", "must", "aim", "measured", "reached"]]
        rows += [[f"{r['work']}: {r['goal']}", *(f"{r[k]:.3g}" for k in ("must", "aim", "measured")), r["reached"]]
                 for r in measured]  # fmt: skip
        blocks.append(table(rows))
    parts = [["part", "status", "seconds", "what"]]
    for name, part in report["parts"].items():
        took = f"{part['seconds']:.1f}" if "seconds" in part else "-"
        parts.append([name, part["status"], took, " ".join(str(part.get("message", "")).split())[:100]])
    blocks.append(table(parts))
    return "\n\n".join(blocks)
