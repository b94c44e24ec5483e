"""The command that measures memory: what optimizers say that they hold is what the system gives them."""

import sys
from pathlib import Path

import pytest

from bench import memory
from bench.memory import MB, MILLION, Use, measure, row, uses
from bench.memory_child import Memory
from support import OPTIMIZERS

COUNT = 4  # arrays
NEAR = 4 * MB
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status, which only Linux has")
EVERYTHING = {"ema": 0.999, "accumulate": 4, "clip_norm": 1.0}


@needs_linux
@pytest.mark.parametrize(("options", "arrays"), [({}, 2), (EVERYTHING, 4)], ids=["alone", "everything"])
def test_what_is_predicted_is_measured(options, arrays, tmp_path):
    found = measure(Use("updates", "Adam", options), COUNT, tmp_path / "none")
    assert found.predicted == arrays * 4 * COUNT * MILLION
    assert abs(found.held - found.predicted) < NEAR
    assert found.held - NEAR <= found.peak <= found.held + NEAR


@needs_linux
def test_gradients_of_another_dtype_are_copied(tmp_path):
    found = measure(Use("updates", "SGD", {}, "float64"), COUNT, tmp_path / "none")
    assert found.held == pytest.approx(4 * COUNT * MILLION, abs=NEAR)


@needs_linux
def test_checkpoints(tmp_path):
    pytest.importorskip("safetensors", reason="checkpoints need safetensors, which is not installed")
    path = tmp_path / "checkpoint.safetensors"
    saved, loaded, resumed = (measure(Use(what, "Adam", {}), COUNT, path) for what in ("saving", "loading", "resuming"))
    assert path.stat().st_size > 12 * COUNT * MILLION
    assert saved.held < NEAR
    assert resumed.held < NEAR
    assert loaded.held == pytest.approx(loaded.predicted, abs=NEAR)


def test_every_optimizer_has_a_row():
    assert {cls.__name__ for cls in OPTIMIZERS} <= uses().keys()


def test_a_row():
    found = Memory(held=16 * 10**6, peak=20 * 10**6, predicted=15 * 10**6)
    assert row("Adam", found, 2) == ["Adam", "16 MB", "15 MB", "8.0", "4 MB"]
    assert row("Adam", found._replace(predicted=None, peak=0), 2) == ["Adam", "16 MB", "", "8.0", "0 MB"]


def test_the_table(monkeypatch, capsys):
    monkeypatch.setattr(memory, "measure", lambda use, count, path: Memory(8 * count * MILLION, 0, None))
    if not Path("/proc/self/status").exists():
        pytest.skip("reads /proc/self/status, which only Linux has")
    assert memory.main(["--params", "3000000", "--only", "Adam*", "--markdown"]) == 0
    said = capsys.readouterr().out
    assert "|" in said
    assert "24 MB" in said
    assert "3,000,000 float32 parameters in 3 arrays: 12 MB" in said


def test_errors(capsys):
    assert memory.main(["--only", "nothing"]) == 3
    assert "; Adam;" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="3"):
        memory.main(["--params", "many"])
