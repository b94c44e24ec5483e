"""The benchmarks' commands: what they say where something is not installed, two checkouts in turn, and their trust."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import rounds, trust, ways
from bench.rounds import Times, in_turn, judged
from bench.verdicts import Verdict
from bench.ways_table import compared, table
from support import ROOT

HERE, THERE = Path("here"), Path("there")


def start(program, *packages):
    """Run a program in a process where these packages cannot be imported."""
    hide = f"import sys; sys.modules.update(dict.fromkeys({packages!r}))\n"
    return subprocess.run(
        [sys.executable, "-c", hide + program], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(("command", "arguments", "words"), [
    ("report", ["run.json"], "needs rich:"),
    ("report", ["run.json", "--output", "x.png"], "needs rich and matplotlib:"),
    ("ways", [], "needs rich:"),
    ("memory", [], "needs rich:"),
    ("trust", [], "needs pytest and pytest-benchmark:"),
])  # fmt: skip
def test_what_is_missing_is_named(command, arguments, words):
    program = f"from bench import {command}; sys.exit({command}.main({arguments}))"
    done = start(program, "rich", "matplotlib", "pytest", "pytest_benchmark")
    assert (done.returncode, done.stdout) == (3, ""), done.stderr
    assert done.stderr == f"bench.{command} {words} pip install '.[bench]' installs all of it\n"


def test_the_list_of_commands():
    program = "from bench.__main__ import main; sys.exit(main())"
    done = start(program)
    assert (done.returncode, done.stderr) == (0, "")
    assert "bench.report new.json --against old.json" in done.stdout
    done = start(program, "pytest_benchmark", "matplotlib")
    assert done.returncode == 3
    assert "Not installed: pytest-benchmark, matplotlib. pip install" in done.stderr


def test_pytest_alone_is_not_enough(monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    program = """
import importlib.util, pytest
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "pytest_benchmark" else find(name, *rest)
sys.exit(pytest.main(["bench", "-p", "no:cacheprovider"]))
"""
    done = start(program)
    assert done.returncode != 0
    assert "the benchmarks need pytest-benchmark: pip install" in done.stderr + done.stdout


def made_up(slower, count=10, sigma=0.02, seed=0):
    """Rounds of two checkouts; this one's updates take so much longer."""
    rng = np.random.default_rng(seed)

    def one(factor):
        def times(seconds):
            return Times(*(seconds * factor * np.exp(rng.normal(0, sigma)) for _ in Times._fields))

        kernels = Times(3.0, 3.0)
        return {"RL MLP": times(4e-6), "NumPy, RL MLP": times(4e-5), "kernels compiled for the first": kernels}

    return {HERE: [one(slower) for _ in range(count)], THERE: [one(1.0) for _ in range(count)]}


@pytest.mark.parametrize(
    ("slower", "sigma", "verdict", "status"),
    [(1.0, 0.02, "no change", 0), (1.3, 0.02, "slower", 1), (0.7, 0.02, "faster", 0), (1.3, 0.5, "inconclusive", 2)],
)
def test_two_checkouts(slower, sigma, verdict, status, capsys):
    found = made_up(slower, sigma=sigma)
    assert judged(found).keys() == {"RL MLP"}  # neither NumPy, nor what is no time
    assert str(judged(found)["RL MLP"].verdict(0.1)) == verdict
    assert compared(found, 0.1, None)[1] == status
    assert table(found, None).row_count == 3


def test_few_rounds_are_inconclusive():
    assert judged(made_up(1.5, count=4)) == {"RL MLP": None}
    assert compared(made_up(1.5, count=4), 0.1, None)[1] == 2


def test_checkouts_take_turns(monkeypatch):
    calls = []
    monkeypatch.setattr(rounds, "one_round", lambda checkout, names: calls.append(checkout) or {})
    found = in_turn([HERE, THERE], ["RL MLP"], 3)
    assert calls == [HERE, THERE, THERE, HERE, HERE, THERE]
    assert {name: len(each) for name, each in found.items()} == {HERE: 3, THERE: 3}


def test_wrong_arguments(tmp_path, capsys):
    for wrong in ["--only", "nothing"], ["--against", str(tmp_path)], ["--against", str(ROOT)]:
        assert ways.main(wrong) == 3
        assert capsys.readouterr().err.startswith("bench.ways: ")
    for wrong in ["--rounds", "x"], ["--threshold", "-1"]:
        with pytest.raises(SystemExit, match="3"):
            ways.main(wrong)


def test_a_slower_copy_wastes_a_fifth(tmp_path):
    same, slower = (trust.copy_to(tmp_path / kind, slower=kind == "slower") for kind in ("same", "slower"))
    initial = Path("fastoptim", "__init__.py")
    assert (same / initial).read_text() == (ROOT / initial).read_text()
    program = "import time\nclass Optimizer:\n    def update(self, seconds): time.sleep(seconds)\n" + trust.SLOWER
    program += "start = time.perf_counter(); Optimizer().update(0.1); print(time.perf_counter() - start)"
    assert (slower / initial).read_text().endswith(trust.SLOWER)
    assert float(start(program).stdout) >= 0.12


def test_wrong_verdicts_are_found(monkeypatch, capsys):
    monkeypatch.setattr(trust, "copy_to", lambda folder, slower: folder)
    right = [("same", [Verdict.SAME, Verdict.INCONCLUSIVE]), ("slower", [Verdict.SLOWER, Verdict.SAME])]
    monkeypatch.setattr(trust, "in_turn", lambda *arguments: iter(right))
    assert trust.main(["--only", "in turn"]) == 0
    assert "in turn, same code: 1 no change, 1 inconclusive\n" in capsys.readouterr().out
    for wrong in ("same", [Verdict.SLOWER]), ("same", [Verdict.FASTER]), ("slower", [Verdict.FASTER]):
        monkeypatch.setattr(trust, "in_turn", lambda *arguments, wrong=wrong: iter([wrong]))
        assert trust.main(["--only", "in turn"]) == 1
        assert "WRONG" in capsys.readouterr().out
