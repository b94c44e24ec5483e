"""The table of all optimizers, and one optimizer's with a row for each workload: of made-up runs, and in texts."""

from types import SimpleNamespace

import pytest
from rich.box import MARKDOWN
from rich.console import Console

import fastoptim
from bench import report, runs, summary_table
from bench.contenders import CONTENDERS
from bench.limits import Turns
from bench.runs import Case, Run, RunError
from bench.summary import cases, large, rivals
from bench.summary_table import COLUMNS, filled, rows
from bench.tables import wide
from support import OPTIMIZERS, ROOT

ROUNDS = 9
CEILING = 1e-3
STEADY, SWINGING = [1.0] * ROUNDS, [1.0, 2.0] * (ROUNDS // 2) + [1.0]


def case(work, recipe, contender, milliseconds, turns=STEADY):
    seconds = [milliseconds * 1e-3 * each for each in turns]
    ratio = CEILING / seconds[0]
    return Case((work, recipe, contender), seconds[0], 1.0, "ceiling", ratio, Turns.of(seconds, [CEILING] * ROUNDS))


def run(*cases):
    return Run({each.key: each for each in cases}, "a CPU", 2, {})


def printed(table):
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table)
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in captured.get().splitlines() if "|" in line]


def test_a_row_has_the_fastest_rival():
    found = rows(run(
        case("flat_50m", "adam", "fastoptim", 1.25),
        case("flat_50m", "adam", "torch-fused", 2.5), case("flat_50m", "adam", "torch-foreach", 5),
        case("rl_mlp", "adam", "fastoptim", 2), case("rl_mlp", "adam", "torch-fused", 30),
        case("rl_mlp", "adam", "torch-foreach", 20),
        case("rl_mlp", "lion", "fastoptim", 2), case("rl_mlp", "lion", "optax", 9),
        case("flat_50m", "sgd", "fastoptim", 2),
    ))  # fmt: skip
    assert found == {
        "Adam": ["1.2 ms", "80%", "2.0 x", "2.0 ms", "10.0 x"],
        "Lion": ["", "", "", "2.0 ms", "4.5 x Optax"],
        "SGD": ["2.0 ms", "50%", "", "", ""],
    }


@pytest.mark.parametrize(("ours", "fused", "cells"), [
    ((2, SWINGING), (3, STEADY), ["inconclusive", "", ""]),
    ((2, STEADY), (3, SWINGING), ["2.0 ms", "50%", "inconclusive"]),
    ((2, STEADY), (0.7, STEADY), ["2.0 ms", "50%", "inconclusive"]),  # faster than the ceiling
])  # fmt: skip
def test_what_cannot_be_trusted_is_no_number(ours, fused, cells):
    """Nor is a slower rival taken, where the fastest is inconclusive."""
    found = rows(run(
        case("flat_50m", "adam", "fastoptim", *ours), case("flat_50m", "adam", "torch-fused", *fused),
        case("flat_50m", "adam", "torch-foreach", 9),
    ))  # fmt: skip
    assert found == {"Adam": [*cells, "", ""]}


def test_another_large_workload_is_named(monkeypatch):
    monkeypatch.setattr(summary_table, "large", lambda optimizer: "resnet50")
    found = rows(run(case("resnet50", "adam", "fastoptim", 2)))
    assert found["Adam"][0] == "2.0 ms (ResNet-50)"


def test_stages_and_matrices_decide_on_the_large_workload():
    assert large(fastoptim.Adam()) == "flat_50m"
    assert large(SimpleNamespace(stages=("one", "two"), matrices=None)) == "resnet50"
    assert large(fastoptim.Muon()) == "gpt2_block"


def test_every_optimizer_is_measured_on_two_workloads():
    found = cases()
    for name in (cls.__name__.lower() for cls in OPTIMIZERS):
        assert {(work, name, "fastoptim") for work in (large(fastoptim.get(name)), "rl_mlp")} <= found
    if "torch-fused" in CONTENDERS:
        assert rivals(fastoptim.Adam()) == ["torch-fused", "torch-foreach"]
        assert rivals(fastoptim.RMSprop()) == ["torch-foreach"]
    assert not {"torch-fused", "torch-foreach"} & set(rivals(fastoptim.Lion()))


TEXT = """\
| class | formula | 50M flat | of ceiling | PyTorch's time | RL MLP | PyTorch's time |
|---|---|---|---|---|---|---|
| `SGD` | p -= lr·g | 1 | 2 | 3 | 4 | 5 |
| `Adam` | m |  |  |  |  |  |
| [Adam](x) | `Adam` | 1 |
"""


def test_figures_are_written_into_rows_alone():
    assert filled(TEXT, {}) == TEXT
    expected = TEXT.replace("| m |  |  |  |  |  |", "| m | a | b |  | c | d |")
    assert filled(TEXT, {"Adam": ["a", "b", "", "c", "d"], "Lion": ["x"] * 5}) == expected
    assert filled(expected, {"Adam": [""] * len(COLUMNS)}) == TEXT


def test_the_report_fills_files(tmp_path, monkeypatch, capsys):
    path, missing = tmp_path / "x.md", tmp_path / "no" / "x.md"
    path.write_text(TEXT)
    monkeypatch.setattr(runs, "load", lambda path: run(case("flat_50m", "adam", "fastoptim", 2)))
    assert report.main(["run.json", "--summary", "--markdown", "--fill", str(path)]) == 0
    assert path.read_text() == TEXT.replace("| m |  |  |  |", "| m | 2.0 ms | 50% |  |")
    assert "| `Adam`    |   2.0 ms |        50% |" in capsys.readouterr().out
    no_rows = "expected rows that begin with `Adam`, found none"
    for wrong, words in (missing, "No such file"), (ROOT / "LICENSE", no_rows):
        assert report.main(["run.json", "--fill", str(wrong)]) == 3
        assert words in capsys.readouterr().err


def test_both_texts_have_rows_to_fill():
    for path in ROOT.glob("README*.md"):
        text = path.read_text(encoding="utf-8")
        found = filled(text, {cls.__name__: [f"{cls.__name__} {name}" for name in COLUMNS] for cls in OPTIMIZERS})
        assert all(f"| {cls.__name__} {COLUMNS[0]} |" in found for cls in OPTIMIZERS)


def test_a_row_for_each_workload():
    found = run(
        case("flat_50m", "adam", "fastoptim", 1.25), case("flat_50m", "adam", "numpy", 5),
        case("rl_mlp", "adam", "fastoptim", 2), case("rl_mlp", "adam", "numpy", 20, SWINGING),
        case("rl_mlp", "adam", "optax", 10), case("rl_mlp", "sgd", "fastoptim", 2),
    )  # fmt: skip
    head, _, *others = printed(wide(found, "adam", MARKDOWN))
    assert head == ["Workload", "fastoptim", "NumPy", "Optax"]
    assert others == [
        ["50M flat", "1.2 ms (80.0%)", "5.0 ms (4.0 x)", ""],
        ["RL MLP", "2.0 ms (50.0%)", "inconclusive", "10.0 ms (5.0 x)"],
    ]
    with pytest.raises(RunError, match="no steps of 'lion'"):
        wide(found, "lion", MARKDOWN)
