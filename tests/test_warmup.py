"""What is compiled before the first update, and what one is told of it."""

import logging
import os
import subprocess
import sys
import time

import numba
import numpy as np
import pytest

import fastoptim
from fastoptim.kernels import Kernels, notice
from references import EVERYTHING
from support import FEW, OPTIMIZERS, assert_close, like, python, snapshot

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


def test_sums_without_zero_grads(params, rng):
    opt = fastoptim.SGD(accumulate=2)
    opt.warmup(params)
    before = {name: p.copy() for name, p in params.items()}
    grads = like(rng, params)
    for _ in range(2):
        opt.update(params, grads)
    for name, p in params.items():
        assert_close(p, before[name] - np.asarray(0.01, p.dtype) * grads[name])


def test_wrong_numbers_are_found_by_the_update(params):
    class Wrong(fastoptim.SGD):
        def scalars(self, t):
            return ()

    Wrong().warmup(params)  # asks for none
    with pytest.raises(ValueError, match=r"Wrong\.scalars\(1\): expected 1 float"):
        Wrong().update(params, params)


class Cubed(fastoptim.Optimizer):
    """Compiled by these tests alone."""

    @fastoptim.rule
    def rule(p, g, lr):  # noqa: N805  # a rule has no self
        return p - lr * g * g * g


def compile_a_kernel():
    """Anew, as what is in the cache takes no time."""
    kernel = numba.njit(Cubed.rule)
    notice.announce(kernel, "Cubed with ema")
    kernel.compile((numba.float32,) * 3)


@pytest.fixture
def impatient(monkeypatch):
    """Has every compilation take long."""
    monkeypatch.setattr(notice, "PATIENCE", 0.0)
    monkeypatch.delenv("FASTOPTIM_QUIET", raising=False)


def lines_of(caplog, count, seconds=60):
    """The log, once it has so many lines."""
    deadline = time.monotonic() + seconds
    while len(caplog.records) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return [(record.name, record.levelno, record.getMessage()) for record in caplog.records]


def test_a_long_compilation_is_logged(impatient, caplog):
    compile_a_kernel()
    text = "fastoptim: compiling Cubed with ema (in every process: it cannot be cached)"
    assert lines_of(caplog, 1) == [("fastoptim", logging.WARNING, text)]


def test_while_it_lasts(impatient, caplog):
    with notice.compiling("Adam for the GPU"):
        assert lines_of(caplog, 1)[0][2].startswith("fastoptim: compiling Adam for the GPU (in every process")


def test_a_short_compilation_is_not_logged(impatient, monkeypatch, caplog):
    monkeypatch.setattr(notice, "PATIENCE", 0.2)
    with notice.compiling("Adam"):
        pass
    assert lines_of(caplog, 1, seconds=0.4) == []


def test_loading_from_the_cache_is_not_logged(impatient, caplog):
    p, g = np.ones(3, np.float32), np.ones(3, np.float32)
    for slots in 1, 2:
        Cubed.kernels.cpu_serial(p, g, np.zeros((0, 3), np.float32), (0.1,))  # in the cache from now on, at the latest
        before = len(caplog.records)
        Kernels(Cubed.rule, 0).cpu_serial(p, g, np.zeros((0, 3), np.float32), (0.1,))
        assert len(lines_of(caplog, before + 1, seconds=0.2)) == before, slots


@pytest.mark.parametrize("way", ["environment", "level"])
def test_the_log_can_be_turned_off(way, impatient, monkeypatch, caplog):
    if way == "environment":
        monkeypatch.setenv("FASTOPTIM_QUIET", "1")
    else:
        caplog.set_level(logging.ERROR, logger="fastoptim")
    compile_a_kernel()
    assert lines_of(caplog, 1, seconds=0.2) == []


def test_it_compiles_where_no_thread_can_start(impatient, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    compile_a_kernel()


UPDATE = """
import numpy as np
import fastoptim
from fastoptim.kernels import Kernels, notice

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
        use, numbers = cls().memory(params), len(cls.array_slots) - len(cls.shared_slots)
        if cls.matrices is None:
            state = len(cls.slots) * size + 8 * (numbers * len(params) + len(cls.shared_slots))
            assert use == (size, state, 0, 0, 0)
        assert use.total == size + use.state
    use = fastoptim.Adam(ema=0.9, accumulate=2).memory(list(params.values()))
    assert (use.averages, use.accumulated, use.total) == (size, size, 5 * size)
    with pytest.raises(TypeError, match=r"params\[0\]: expected a numpy.ndarray"):
        fastoptim.Adam().memory([1.0])


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_memory_is_what_the_state_has(cls, params, rng):
    opt = cls(ema=0.9 if cls in FEW else None)
    opt.update(params, like(rng, params))
    use = opt.memory(params)
    views = [view for views in opt.state.values() for view in views.values()]
    assert use.state == sum({view.ctypes.data: view.nbytes for view in views}.values())  # some names share numbers
    assert use.averages == sum(view.nbytes for view in (opt.averages or {}).values())
