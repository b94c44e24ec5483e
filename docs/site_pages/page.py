"""The page of one optimizer, and the table of all of them."""

import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastoptim
from site_pages.docstring import citation, described, paper
from site_pages.equivalents import table
from site_pages.formula import Formula, evaluation, formula
from site_pages.latex import UnprintableError
from site_pages.scalars import carry_names
from site_pages.symbols import symbol
from site_pages.traffic import in_code, state_and_traffic, traffic

NOTES = Path(__file__).parents[1] / "optimizers" / "notes"
EVALUATION = """\
Within `with opt.averaged(params):`, the arrays hold these numbers, computed from the parameters and the state. Evaluate
with them, and export them. See [Export the right weights](../guides/training-loop.md#export-the-right-weights)."""


def optimizers() -> list[Any]:
    """Every optimizer that `fastoptim` lists."""
    listed = [getattr(fastoptim, name) for name in fastoptim.__all__]
    classes = [x for x in listed if isinstance(x, type) and issubclass(x, fastoptim.Optimizer)]
    return sorted((x for x in classes if x is not fastoptim.Optimizer), key=lambda cls: (len(cls.slots), cls.__name__))


def page(cls: Any) -> str:
    """An optimizer's page in Markdown."""
    about = described(cls)
    parts = [
        f"# {cls.__name__}",
        about.summary,
        citation(cls),
        about.details,
        _arguments(cls, about.arguments),
        "## The formula",
        *_formulas(cls),
        "## State and memory traffic",
        state_and_traffic(cls),
        "## The same elsewhere",
        "A test runs each of these lines beside the others of its row and compares the parameters after every step.",
        table(cls.__name__),
    ]
    notes = NOTES / f"{cls.__name__.lower()}.md"
    if notes.exists():
        parts.append(notes.read_text(encoding="utf-8").strip())
    return "\n\n".join(part for part in parts if part) + "\n"


def index() -> str:
    """The table of all optimizers in Markdown."""
    head = "| optimizer | in short | state | bytes | paper |\n|---|---|---|---|---|"
    rows = [
        f"| [{cls.__name__}]({cls.__name__.lower()}.md) | {described(cls).summary} "
        f"| {in_code((*cls.slots, *cls.array_slots)) or 'none'} | {traffic(cls)} | {paper(cls)} |"
        for cls in optimizers()
    ]
    text = textwrap.dedent("""\
        # The optimizers

        All of them are called in the same way: `opt.update(params, grads)`. They take the same
        [options](../reference/optimizer.md#options) beside their own hyperparameters. "Bytes" is what one step reads
        and writes for each float32 element. A step of a large model takes as long as the memory needs for that.
        """)
    return "\n".join([text, head, *rows]) + "\n"


def _arguments(cls: Any, said: list[tuple[str, str]]) -> str:
    own = _own(cls)
    call = f"{cls.__name__}({', '.join(f'{x.name}={x.default!r}' for x in [*own, *_changed(cls)])}, **options)"
    defaults = {x.name: repr(x.default) for x in own}
    rows = []
    for names, text in said:
        each = names.split(", ")
        values = ", ".join(f"`{defaults[name]}`" for name in each if name in defaults)
        rows.append(f"| {in_code(each)} | {values} | {text} |")
    head = "| argument | default | |\n|---|---|---|"
    options = "The options are those that [every optimizer takes](../reference/optimizer.md#options)."
    return "\n\n".join([f"```text\n{call}\n```", *(["\n".join([head, *rows])] if rows else []), options])


def _formulas(cls: Any) -> list[str]:
    """The formula and its code; then those of each variant, and of the parameters to evaluate with."""
    parts = [_legend(cls)]
    for variant, stages in cls.variant_stages.items():
        if variant:
            parts.append(f"### With {' and '.join(f'`{name}`' for name in variant)}")
        functions = [x for each in cls.reductions for x in (each.rule, *each.functions)]
        parts += [*_equations(cls, variant), *_source(*functions, stages[-1].rule)]
    if cls.evaluation is not None:
        parts += ["### The parameters to evaluate with", EVALUATION, *_printed(lambda: evaluation(cls))]
        parts += _source(cls.evaluation)
    return parts


def _legend(cls: Any) -> str:
    numbers = [x.name for x in [*_own(cls), *_changed(cls)] if not isinstance(x.default, bool)]
    names = ", ".join(f"${symbol(name)}$ is `{name}`" for name in numbers)
    slots = dict.fromkeys(slot for stages in cls.variant_stages.values() for slot in stages[-1].slots)
    slots |= dict.fromkeys(cls.array_slots)
    state = f", ${', '.join(map(symbol, slots))}$ the state, zero at first" if slots else ""
    carried = cls.carry if isinstance(cls.carry, tuple) else () if cls.carry is None else (cls.carry,)
    first = [f"${symbol(name)}$, ${number:g}$ at first" for name, number in zip(carry_names(cls), carried, strict=True)]
    carry = f" From step to step go {'; '.join(first)}." if carried else ""
    begin = rf"$\theta$ is an element of a parameter, $g$ of its gradient{state}. Steps count from $t = 1$."
    return f"{begin}{carry} {names}."


def _equations(cls: Any, variant: tuple[str, ...]) -> list[str]:
    return _printed(lambda: formula(cls, variant))


def _printed(make: Callable[[], Formula]) -> list[str]:
    try:
        found = make()
    except UnprintableError:  # the source says it
        return []
    parts = []
    if found.numbers:
        parts += ["The numbers of step $t$, computed once in float64:", _aligned(found.numbers)]
    for sums in found.sums:
        whole = "all arrays together" if sums.over_all else "the array"
        parts += ["For each element of an array:", _aligned(sums.elements)] if sums.elements else []
        parts += [f"Summed over the elements of {whole}:", _aligned(sums.sums)]
        parts += [f"Then, once for {whole}, in float64:", _aligned(sums.results)]
    return [*parts, *(["Then, for each element:"] if parts else []), _aligned(found.rule)]


def _source(*functions: Any) -> list[str]:
    try:
        source = "\n\n\n".join(textwrap.dedent(inspect.getsource(each)).strip() for each in functions)
    except (OSError, TypeError):
        return ["The rule's source is not to be had."]
    what = "The rule, as the library compiles it:"
    if len(functions) > 1:
        what = "The functions, as the library compiles them. The last one is the rule:"
    return [what, f"```python\n{source}\n```"]


def _aligned(equations: list[tuple[str, str]]) -> str:
    lines = r" \\ ".join(f"{left} &= {right}" for left, right in equations)
    return rf"$$\begin{{align*}} {lines} \end{{align*}}$$"


def _own(cls: Any) -> list[inspect.Parameter]:
    return [x for x in cls.__signature__.parameters.values() if x.kind is not x.KEYWORD_ONLY]


def _changed(cls: Any) -> list[inspect.Parameter]:
    """The options that have another default than in most classes."""
    usual = inspect.signature(fastoptim.Optimizer).parameters
    options = [x for x in cls.__signature__.parameters.values() if x.kind is x.KEYWORD_ONLY]
    return [x for x in options if x.default != usual[x.name].default]
