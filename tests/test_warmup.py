"""What is compiled before the first update, and what one is told of it."""

import logging
import os
import subprocess
import sys
import time

import numpy as np
import pytest

import fastoptim
from fastoptim.kernels import notice
from references import EVERYTHING
from support import OPTIMIZERS, like, python, snapshot

SHAPES = {"a1": (300, 300), "b": (3,), "a2": ()}
DTYPES = {name: np.float64 if name == "b" else np.float32 for name in SHAPES}

FIRST_UPDATE = """
import os
from pathlib import Path
import numpy as np
import fastoptim
from references import EVERYTHING

def kernels():
    return len(list(Path(os.environ["NUMBA_CACHE_DIR"]).rglob("*.nbc")))

params = {"a1": np.ones((300, 300), np.float32), "b": np.ones(3, np.float32)}
opt = fastoptim.Adam(**EVERYTHING)
opt.warmup(params)
before = kernels()
for _ in range(4):
    opt.update(params, {name: np.ones_like(p) for name, p in params.items()})
print(before > 0, kernels() - before)
"""


@pytest.fixture
def params():
    return {name: np.ones(shape, DTYPES[name]) for name, shape in SHAPES.items()}


def test_nothing_is_left_to_compile(tmp_path):
    assert python(FIRST_UPDATE, NUMBA_CACHE_DIR=str(tmp_path)) == "True 0\n"


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(
    ("cls", "options"),
    [*((cls, {}) for cls in OPTIMIZERS), (fastoptim.SGD, {"zero_grads": True}), (fastoptim.Adam, EVERYTHING)],
    ids=str,
)
def test_nothing_changes(cls, options, flat, params, rng):
    params = fastoptim.flatten(params) if flat else params
    opt, other = cls(**options), cls(**options)
    before = snapshot(opt, params)
    opt.warmup(params)
    assert snapshot(opt, params) == before
    for _ in range(4):
        copies = {name: p.copy() for name, p in params.items()}
        grads = like(rng, params)
        other.update(copies, {name: g.copy() for name, g in grads.items()})
        opt.update(params, grads)
        before = snapshot(opt, params)
        opt.warmup(params)
        assert snapshot(opt, params) == before
        params = copies  # it goes on with other arrays
    assert opt.iter == other.iter > 0


def test_what_warmup_refuses(params):
    opt = fastoptim.Adam(groups={"c*": {}})
    with pytest.raises(ValueError, match=r"groups\['c\*'\]"):
        opt.warmup(params)
    with pytest.raises(TypeError, match=r"params\['a'\]: expected a numpy.ndarray, got float"):
        fastoptim.SGD().warmup({"a": 1.0})
    fastoptim.SGD().warmup([np.ones(3)])


def test_a_long_compilation_is_logged_while_it_lasts(monkeypatch, caplog):
    monkeypatch.setattr(notice, "PATIENCE", 0.01)
    monkeypatch.delenv("FASTOPTIM_QUIET", raising=False)
    with notice.compiling("Adam with ema", kept=True):
        deadline = time.monotonic() + 60
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [(x.name, x.levelno, x.getMessage()) for x in caplog.records] == [
            ("fastoptim", logging.WARNING, "fastoptim: compiling Adam with ema (once; then cached)")
        ]
    caplog.clear()
    with notice.compiling("Adam", kept=False):
        deadline = time.monotonic() + 60
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "fastoptim: compiling Adam (in every process: it cannot be cached)" in caplog.text


def test_a_short_compilation_is_not_logged(monkeypatch, caplog):
    monkeypatch.setattr(notice, "PATIENCE", 0.2)
    monkeypatch.delenv("FASTOPTIM_QUIET", raising=False)
    with notice.compiling("Adam", kept=True):
        pass
    time.sleep(0.4)
    assert not caplog.records


@pytest.mark.parametrize("way", ["environment", "level"])
def test_the_log_can_be_turned_off(way, monkeypatch, caplog):
    monkeypatch.setattr(notice, "PATIENCE", 0.01)
    monkeypatch.setenv("FASTOPTIM_QUIET", "1" if way == "environment" else "0")
    if way == "level":
        caplog.set_level(logging.ERROR, logger="fastoptim")
    with notice.compiling("Adam", kept=True):
        time.sleep(0.1)
    assert not caplog.records


UPDATE = """
import numpy as np
import fastoptim
from fastoptim.kernels import notice

notice.PATIENCE = 0.001
params = {"p": np.ones(3, np.float32)}
fastoptim.Adam(clip_norm=1.0, ema=0.9).update(params, params.copy())
"""


def test_what_the_line_says(tmp_path):
    """On stderr, where nobody has configured logging."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "FASTOPTIM_QUIET": "0"}
    command = [sys.executable, "-c", UPDATE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert lines[0] == "fastoptim: compiling Adam with clip_norm, ema (once; then cached)"
    assert all(line.startswith("fastoptim: compiling ") for line in lines)


def test_memory(params):
    size = sum(p.nbytes for p in params.values())
    for cls in OPTIMIZERS:
        use = cls().memory(params)
        assert use == (size, len(cls.slots) * size, 0, 0)
        assert use.total == (1 + len(cls.slots)) * size
    use = fastoptim.Adam(ema=0.9, accumulate=2).memory(list(params.values()))
    assert (use.averages, use.accumulated, use.total) == (size, size, 5 * size)
    with pytest.raises(TypeError, match=r"params\[0\]: expected a numpy.ndarray"):
        fastoptim.Adam().memory([1.0])


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_memory_is_what_the_state_has(cls, params, rng):
    opt = cls(ema=0.9)
    opt.update(params, like(rng, params))
    use = opt.memory(params)
    assert use.state == sum(view.nbytes for views in opt.state.values() for view in views.values())
    assert use.averages == sum(view.nbytes for view in opt.averages.values())
