"""The command that measures on a GPU, as far as none is needed: arguments, parts, figures, tables, the simulator."""

import ctypes
import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

from bench import gpu, gpu_checks, gpu_contenders, gpu_machine
from bench.gpu_checks import FailedError, SkippedError
from bench.gpu_clock import Copy, Effort, measure
from bench.gpu_report import figure, goals, seconds, table, text, with_ratios
from bench.workloads import Workload
from support import ROOT, python


def measured(**changed):
    times = {"gpu_seconds": 2e-3, "wall_seconds": 3e-3, "host_seconds": 10e-6, "copy_seconds": 1.9e-3, "of_copy": 0.95}
    return {**times, "host_ahead": 1.0, "calls": 3, "rounds": [7, 7], **changed}


FIGURES = [
    figure("flat", "fastoptim-flat", "fastoptim flat", 2**28, 1, measured()),
    figure("flat", "torch-fused", "torch fused", 2**28, 1, measured(gpu_seconds=2.3e-3, host_seconds=60e-6)),
    figure("flat", "optax", "Optax", 2**28, 1, measured(gpu_seconds=None)),
    figure("rl_mlp", "fastoptim-torch", "dict", 4610, 6, measured(host_seconds=40e-6, host_ahead=0.0)),
]


def start(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "bench.gpu", *arguments], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment}, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "words"), [({}, "needs an NVIDIA GPU"), ({"NUMBA_ENABLE_CUDASIM": "1"}, "NUMBA_ENABLE_CUDASIM")]
)
def test_without_a_gpu(tmp_path, environment, words):
    done = start("--output", str(tmp_path / "x.json"), **environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("bench.gpu: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_is_not_given_by_that_name(capsys):
    with pytest.raises(SystemExit, match="0"):
        gpu.main(["--help"])
    assert "--skip-tests" in capsys.readouterr().out
    for wrong in ["--budget", "soon"], ["--budget", "-1"], ["--faster"]:
        with pytest.raises(SystemExit, match="2"):
            gpu.main(wrong)


def test_an_output_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "missing", lambda: None)
    assert gpu.main(["--output", str(tmp_path / "no" / "x.json")]) == 2
    assert "No such file" in capsys.readouterr().err


def failing(error):
    def do():
        raise error

    return do


def test_a_part_that_fails_keeps_no_other_from_being_run(tmp_path):
    now = [0.0]
    run = gpu.Run(tmp_path / "x.json", 100.0, lambda: now[0])
    assert run.part("one", lambda: {"a": 1}) == {"a": 1}
    assert run.part("two", failing(RuntimeError("out of memory"))) is None
    assert run.part("three", failing(FailedError("2 launches", {"launches": 2}))) is None
    assert run.part("four", failing(SkippedError("not installed"))) is None
    now[0] = 85.0
    assert run.part("five", lambda: 1) is None
    parts = json.loads((tmp_path / "x.json").read_text())["parts"]
    assert [part["status"] for part in parts.values()] == ["done", "error", "failed", "skipped", "skipped"]
    assert parts["two"]["message"] == "RuntimeError: out of memory"
    assert parts["three"]["result"] == {"launches": 2}
    assert parts["five"]["message"] == "no time left"


def test_the_whole_command_where_every_part_fails(tmp_path, monkeypatch, capsys):
    def no_device():
        raise RuntimeError("no device")

    monkeypatch.setattr(gpu, "missing", lambda: None)
    monkeypatch.setattr(gpu, "Device", no_device)
    monkeypatch.setattr(gpu.faulthandler, "dump_traceback_later", lambda *_, **__: None)
    for name in "bits", "launches", "graph", "sanitizer":
        monkeypatch.setattr(gpu_checks, name, failing(RuntimeError("no GPU")) if name != "sanitizer" else no_tool)
        getattr(gpu_checks, name).__name__ = name
    assert gpu.main(["--output", str(tmp_path / "x.json"), "--skip-tests"]) == 1
    report = json.loads((tmp_path / "x.json").read_text())
    assert list(report["parts"]) == ["bits", "launches", "graph", "device", "memcheck", "racecheck"]
    assert report["parts"]["device"]["message"] == "RuntimeError: no device"
    assert "memcheck" in capsys.readouterr().out


def no_tool(tool, seconds):
    raise SkippedError(f"no {tool}")


def test_figures_and_their_ratios():
    ours, fused, optax, tiny = with_ratios(FIGURES)
    assert ours["times_torch_fused"] == {"gpu": pytest.approx(1.15), "wall": 1.0, "host": pytest.approx(6.0)}
    assert fused["times_torch_fused"]["gpu"] == 1
    assert (optax["clock"], optax["seconds"], optax["times_torch_fused"]["gpu"]) == ("wall", 3e-3, None)
    assert tiny["times_torch_fused"] == {"gpu": None, "wall": None, "host": None}
    assert ours["gb_per_s"] == pytest.approx(28 * 2**28 / 2e-3 / 1e9)
    rows = goals([ours, fused, optax, tiny])
    reached = {(row["work"], row["goal"]): row["reached"] for row in rows}
    assert reached["flat", "of the copy's bandwidth"] == "aim"
    assert reached["flat", "times torch fused"] == "aim"
    assert reached["rl_mlp", "host seconds, dict"] == "missed"
    assert reached["rl_mlp", "host: times torch fused, dict"] == "not measured"
    assert reached["resnet50", "times torch fused"] == "not measured"


def test_the_table():
    assert table([["a", "b"], ["long", "1"]]).splitlines() == ["a     b", "-------", "long  1"]
    assert [seconds(x) for x in (1.5, 2e-3, 3.25e-5, 4e-7, None)] == ["1.5 s", "2 ms", "32.5 us", "0.4 us", "-"]
    figures = with_ratios(FIGURES)
    parts = {"tests": {"status": "failed", "seconds": 3.0, "message": "exit status 1:\n1 failed"}}
    machine = {"gpu": "Some GPU", "driver": "1.2", "cpu": "Some CPU", "versions": {"numba": "1"}}
    printed = text({"machine": machine, "figures": figures, "goals": goals(figures), "parts": parts})
    for expected in "Some GPU", "268,435,456", "fastoptim flat", "0.950", "missed", "exit status 1: 1 failed":
        assert expected in printed
    assert "the GPU waited for the host, so that its own time is less: dict" in printed
    text({"machine": machine, "figures": [], "goals": goals([]), "parts": {}})


class FakeDevice:
    """A GPU that does all at once, on the host."""

    def __init__(self):
        self.api = SimpleNamespace(cuMemcpyHtoD=self.move, cuMemcpyDtoDAsync=self.move)
        self.filler = (lambda: None, 1e-4)
        self.open = 0

    def allocate(self, nbytes):
        return np.zeros(nbytes, np.uint8)

    def address(self, array):
        return array.ctypes.data

    def move(self, target, source, nbytes, stream=0):
        ctypes.memmove(target, source, nbytes)
        return (0,)

    def drain(self):
        pass

    def event(self):
        self.open += 1
        return time.perf_counter()

    def is_over(self, event):
        return False

    def seconds(self, first, last):
        return last - first

    def destroy(self, *events):
        self.open -= len(events)


def test_measuring():
    device = FakeDevice()
    copy = Copy(10_001, device)
    copy()
    source, target = copy._memory
    assert copy.nbytes == 10_000
    assert (source == target).all()
    assert source.std() > 50
    calls = []
    effort = Effort(seconds=0.01, rounds=(2, 4), round_seconds=1e-3)
    found = measure(lambda: calls.append(0), copy, device, None, effort)
    assert found["host_ahead"] == 1
    assert 0 < found["host_seconds"] <= found["wall_seconds"] < 1
    assert found["gpu_seconds"] > 0
    own = measure(lambda: calls.append(0), copy, device, lambda: None, effort)
    assert own["gpu_seconds"] is None
    assert own["of_copy"] > 0
    assert device.open == 0


def test_how_large_the_flat_workload_is():
    assert gpu_contenders.flat_size(140 * 2**30) == 2**28
    assert gpu_contenders.flat_size(16 * 2**30) == 2**27
    assert gpu_contenders.workloads(16 * 2**30)["flat"].size == 2**27
    assert [work.size for work in gpu_contenders.workloads(2**36).values()] == [2**28, 25_557_032, 4_610]


def test_a_contender_on_a_workload(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(gpu_contenders, "DEVICE", "cpu")
    monkeypatch.setattr(gpu, "measure", lambda *made: measure(*made, Effort(0.01, (2, 4), 1e-3)))
    device, run = FakeDevice(), gpu.Run(tmp_path / "x.json", 100.0)
    device.free_memory = lambda: 2**30
    for contender in "torch-fused", "torch-foreach":
        gpu.contend(run, device, "rl_mlp", Workload("", "", [(3, 5), (5,)]), contender)
    monkeypatch.setattr(gpu, "CONTENDERS", {})
    with pytest.raises(SkippedError, match="needs cupy"):
        gpu.contend(run, device, "rl_mlp", Workload("", "", [(3, 5), (5,)]), "cupy")
    fused, foreach = json.loads((tmp_path / "x.json").read_text())["figures"]
    assert (fused["elements"], fused["arrays"], fused["times_torch_fused"]["host"]) == (20, 2, 1)
    assert foreach["times_torch_fused"]["gpu"] > 0


def test_processes_have_a_limit():
    assert gpu_checks.process([sys.executable, "-c", "print('a'); exit(3)"], 60)["exit_status"] == 3
    with pytest.raises(FailedError, match="stopped after 0 s"):
        gpu_checks.process([sys.executable, "-c", "while True: pass"], 0.2)


def test_the_machine():
    found = gpu_machine.machine()
    assert {"python", "fastoptim", "numba", "numpy"} <= found["versions"].keys()
    json.dumps(found)


SIMULATED = """
from bench import gpu_checks
from bench.gpu_contenders import HALVES, ours, ours_flat
from bench.workloads import Workload
print(gpu_checks.bits(65)["bytes_that_differ"])
print(gpu_checks.launches([(3,), (2, 2)])["launches"])
for make in ours_flat(), HALVES, ours_flat(state_dtype="8bit"), ours("numba"), ours("numba", 2):
    made = make(Workload("", "", [(3, 5), (5,)]))
    made.step()
    made.step()
exec(gpu_checks.TINY.replace("1029", "29"))
"""


@pytest.mark.skipif(find_spec("numba_cuda") is None, reason="needs numba-cuda: pip install 'fastoptim[cuda13]'")
def test_checks_and_steps_in_the_simulator():
    lines = python(SIMULATED, NUMBA_ENABLE_CUDASIM="1").splitlines()
    assert lines[0] == str(dict.fromkeys(("dict float32", "flat float32", "dict float64", "flat float64"), 0))
    assert lines[1] == "1.0"
    assert len(lines) == 6
