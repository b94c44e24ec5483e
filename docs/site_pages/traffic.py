"""How much an optimizer keeps, and how much a step reads and writes."""

from collections.abc import Iterable
from typing import Any

FLOAT = 4  # bytes of a float32


def traffic(cls: Any) -> int:
    """Bytes that a step reads and writes for a float32 element, in all of its passes."""
    return FLOAT * sum(len(stage.used.reads) + len(stage.used.writes) for stage in cls.stages)


def state_and_traffic(cls: Any) -> str:
    """The state, and the bytes of a step with some options, in Markdown."""
    bytes_, kept = traffic(cls), FLOAT * len(cls.slots)
    state = f"The state is {in_code(cls.slots)}: {kept} bytes for each float32 element" if cls.slots else "No state"
    numbers = cls.array_slots
    if numbers:
        owner = "all arrays together" if cls.shared_slots else "each array"
        state += f"; and {in_code(numbers)}, {'numbers' if len(numbers) > 1 else 'a number'} of float64 for {owner}"
    rows = {
        "the formula alone": bytes_,
        "with `clip_norm`, which reads the gradients once more": bytes_ + FLOAT,
    }
    if cls.evaluation is None:
        rows |= {
            "with `ema`, which reads and writes the averages": bytes_ + 2 * FLOAT,
            "with both": bytes_ + 3 * FLOAT,
        }
    lines = [f"| {what} | {count} |" for what, count in rows.items()]
    return "\n".join([
        f"{state}. {_passes(cls)} In bytes for each float32 element:",
        "",
        "| a step | bytes |",
        "|---|---|",
        *lines,
    ])  # fmt: skip


def _passes(cls: Any) -> str:
    """What each pass of a step reads and writes."""
    if len(cls.stages) == 1:
        read = " and ".join(["the parameter", *([in_code(cls.slots)] if cls.slots else [])])
        return f"A step reads the gradient, and reads and writes {read}."
    called = {"p": "the parameter", "g": "the gradient"}
    passes = list[str]()
    for stage in cls.stages:
        reads, writes = (", ".join(called.get(x, f"`{x}`") for x in each) or "nothing" for each in stage.used)
        passes.append(f"Pass {len(passes) + 1} reads {reads}; it writes {writes}.")
    return " ".join([f"A step makes {len(passes)} passes over the arrays.", *passes])


def in_code(names: Iterable[str]) -> str:
    """Names one after the other, as code."""
    return ", ".join(f"`{name}`" for name in names)
