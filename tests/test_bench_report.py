"""The report on saved runs, made up and real: what is printed and drawn, and the exit status."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from bench import report
from bench.chart import chart
from bench.limits import BASELINES
from bench.runs import load
from bench.turns import Measured
from support import ROOT

ROUNDS = 21
SPEEDS = {"fastoptim": 0.8, "numpy": 0.05, "torch-fused": 0.6, "torch-foreach": 0.1, "optax": 0.3}
MACHINE = {"cpu": "a CPU", "threads": 2, "versions": {"numpy": "2"}}


def benchmark(work, contender, seconds, baseline, name="ceiling", **info):
    measured = Measured(list(seconds), list(baseline), 0.0)
    extra = {"work": work, "optimizer": "adam", "contender": contender, **measured.info(name), **MACHINE, **info}
    return {"stats": {"median": measured.seconds}, "extra_info": extra}


def saved(path, slower=1.0, seed=0, commit="1234567890abcdef", works=("rl_mlp", "flat_1m"), **changed):
    """A run of every contender, in which `changed` multiplies some contenders' seconds in every turn."""
    rng = np.random.default_rng(seed)
    found = []
    for work in works:
        baseline = 1e-5 * np.exp(rng.normal(0, 0.02, ROUNDS))
        for name, speed in SPEEDS.items():
            factor = changed.get(name.replace("-", "_"), slower if name == "fastoptim" else 1.0)
            seconds = 1e-5 / speed * factor * np.exp(rng.normal(0, 0.02, ROUNDS))
            found.append(benchmark(work, name, seconds, baseline, gb_per_s=1.0, threads_taken=1))
    info = {"id": commit, "dirty": True, "branch": "topic"}
    path.write_text(json.dumps({"benchmarks": found, "commit_info": info}))
    return path


def run(capsys, *arguments):
    status = report.main(list(map(str, arguments)))
    return status, capsys.readouterr()


def test_the_table(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, said = run(capsys, saved(tmp_path / "run.json"))
    assert status == 0
    assert "inconclusive" not in said.out
    assert "Why" not in said.out
    assert "RL MLP" in said.out
    assert "commit 1234567890ab on topic, with changes that are not committed" in said.out
    line = next(line.split() for line in said.out.splitlines() if "NumPy" in line)
    assert float(line[line.index("x") - 1]) == pytest.approx(0.8 / 0.05, rel=0.05)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]  # no chart, where none was asked for


def test_what_cannot_be_trusted_is_no_number(tmp_path, capsys):
    swinging = 1 + np.arange(ROUNDS) % 2 * 97.6
    path = saved(tmp_path / "run.json", works=["rl_mlp"], torch_foreach=swinging, optax=0.3 / 479.19)
    _, said = run(capsys, path)
    lines = {name: line for name in SPEEDS for line in said.out.splitlines() if name.replace("-", " ") in line.lower()}
    for name, why in ("torch-foreach", "turns spread by 1"), ("optax", "as fast as ceiling"):
        assert "inconclusive" in lines[name]
        assert why in lines[name]
        assert " s " not in lines[name]
        assert "%" not in lines[name]
    assert "inconclusive" not in lines["torch-fused"]


def test_without_a_trusted_fastoptim_there_is_no_speed_up(tmp_path, capsys):
    _, said = run(capsys, saved(tmp_path / "run.json", fastoptim=1 + np.arange(ROUNDS) % 2))
    assert " x " not in said.out.replace("turns spread by 2 x", "")


def test_every_baseline_is_shown(tmp_path, capsys):
    rng = np.random.default_rng(0)
    cases = [
        benchmark("x", f"case {name}", 1e-3 * np.exp(rng.normal(0, 0.01, ROUNDS)), [1e-3] * ROUNDS, name)
        for name in BASELINES
    ]
    (tmp_path / "run.json").write_text(json.dumps({"benchmarks": cases}))
    _, said = run(capsys, tmp_path / "run.json")
    assert [name for name in BASELINES if f"case {name}" not in said.out] == []
    assert "an unknown commit" in said.out


def test_a_case_with_another_baseline_cannot_be_saved():
    with pytest.raises(ValueError, match="expected a baseline"):
        Measured([1.0], [1.0], None).info("moon")


@pytest.mark.parametrize(
    ("slower", "status", "word"), [(1.0, 0, "no change"), (1.3, 1, "slower"), (0.7, 0, "faster"), (1.08, 2, "wide")]
)
def test_against(tmp_path, capsys, slower, status, word):
    old = saved(tmp_path / "old.json", commit="0000000000000000")
    found, said = run(capsys, saved(tmp_path / "new.json", slower, seed=1), "--against", old)
    assert found == status
    assert word in said.out
    assert "new: commit 1234567890ab" in said.out
    assert "old: commit 000000000000" in said.out
    assert "(no change)" in said.out  # contenders that are the same


def test_against_itself_even_where_it_is_inconclusive(tmp_path, capsys):
    path = saved(tmp_path / "run.json", fastoptim=1 + np.arange(ROUNDS) % 2)
    assert run(capsys, path, "--against", path)[0] == 0


def test_inconclusive_runs_have_a_status_of_their_own(tmp_path, capsys):
    old = saved(tmp_path / "old.json")
    new = saved(tmp_path / "new.json", fastoptim=1 + np.arange(ROUNDS) % 2)
    status, said = run(capsys, new, "--against", old)
    assert status == 2
    assert "inconclusive: new: turns spread by 2 x" in said.out


def test_errors_have_another_status(tmp_path, capsys):
    path = saved(tmp_path / "run.json")
    status, said = run(capsys, tmp_path / "none.json")
    assert (status, said.out) == (3, "")
    assert said.err.startswith("bench.report: ")
    (tmp_path / "no.json").write_text("{}")
    assert run(capsys, tmp_path / "no.json")[0] == 3
    for wrong in [], [path, "--faster"], [path, "--threshold", "0"], [path, "--threshold", "nan"]:
        with pytest.raises(SystemExit, match="3"):
            report.main(list(map(str, wrong)))


def test_help_has_the_exit_statuses(capsys):
    with pytest.raises(SystemExit, match="0"):
        report.main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "0 no change, or faster; 1 something is slower; 2 nothing is slower, but something is inconclusive; 3" in said
    )


def test_files_of_older_versions_have_no_turns(tmp_path, capsys):
    path = saved(tmp_path / "run.json")
    older = json.loads(path.read_text())
    for each in older["benchmarks"]:
        del each["extra_info"]["turns"]
    path.write_text(json.dumps(older))
    assert "its turns were not saved" in run(capsys, path)[1].out


def test_the_line_of_the_ceiling_crosses_no_label(tmp_path):
    path = saved(tmp_path / "run.json", fastoptim=0.8, torch_fused=0.62, optax=1 + np.arange(ROUNDS) % 2)
    figure = chart(load(path), "adam")
    figure.draw_without_rendering()
    for axes in (each for each in figure.axes if each.get_visible()):
        line = axes.lines[0].get_window_extent()
        labels = [text.get_window_extent() for text in axes.texts]
        assert len(labels) == len(SPEEDS)
        assert all(line.x1 < label.x0 and label.x1 < figure.bbox.x1 for label in labels)
        assert [text.get_text() for text in axes.texts][-1] == "inconclusive"
    tops = [label.x1 for axes in figure.axes[:1] for label in (t.get_window_extent() for t in axes.texts)]
    assert max(tops) < figure.axes[1].get_tightbbox().x0  # nor the next panel's names


def test_a_real_run(tmp_path):
    """One short round, measured in other processes and saved by pytest-benchmark."""
    output = tmp_path / "run.json"
    command = ["pytest", "bench/test_update.py", "--quick", "-q", "-k", "rl_mlp-sgd and (numpy or fastoptim)"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-m", *command, "--benchmark-json", str(output), "-p", "no:cacheprovider"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    found = load(output)
    assert {key[2] for key in found.cases} == {"fastoptim", "fastoptim-flat", "numpy"}
    assert len({case.turns.baseline for case in found.cases.values()}) == 1  # measured together
    assert {case.doubt for case in found.cases.values()} == {"1 turns of 5"}
    assert report.main([str(output), "--against", str(output)]) == 0
