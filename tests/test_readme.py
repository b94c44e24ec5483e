"""The README's code runs as written."""

import inspect
import re
from types import SimpleNamespace

import numba
import numpy as np
import pytest

import fastoptim
from support import ROOT, assert_close, assert_same_bits

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def block(words):
    (found,) = [code for code in BLOCKS if words in code]
    return found


@pytest.fixture
def names():
    """What the examples take for granted."""
    rng = np.random.default_rng(0)
    return {
        "np": np,
        "fastoptim": fastoptim,
        "numba": numba,
        "data": range(3),
        "gradients": lambda params, batch: {name: p + 1 for name, p in params.items()},
        "layer": SimpleNamespace(),
        "x": rng.standard_normal((8, 784), dtype=np.float32),
        "delta": rng.standard_normal((8, 50), dtype=np.float32),
    }


def test_the_first_example_and_the_two_ways_of_use(names):
    exec(block("import numpy as np"), names)
    assert names["opt"].iter == 3
    names["grads"] = {name: p + 1 for name, p in names["params"].items()}
    exec(block("hyperparameters are attributes"), names)
    assert names["opt"].iter == 1
    before = names["params"]["W1"].copy()
    exec(block("fastoptim.flatten(params)"), names)
    assert (before != names["layer"].W).any()
    assert names["layer"].W is names["flat"]["W1"]


def test_kernels(names):
    exec(block("kernels.cpu(p, g, state"), names)
    p = names["p"].copy()
    names["train"](names["p"], names["g"], names["state"], fastoptim.Adam().scalars(2))
    assert (names["p"] < p).all()


def test_your_own_rule_in_under_15_lines(names):
    code = block("class Lion")
    assert len([line for line in code.splitlines() if line.strip()]) < 15
    exec(code, names)
    p = {"p": np.array([1, 2, 3], np.float32)}
    opt = names["Lion"](0.5)
    opt.update(p, {"p": np.array([4, -4, 0], np.float32)})
    assert_close(p["p"], [0.5, 2.5, 3])
    assert_close(opt.state["m"]["p"], [0.04, -0.04, 0])


def test_the_training_loop_goes_on_where_it_stopped(names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = block("steps=10_000").replace("10_000", "10").replace("1000", "3").replace("steps=500", "steps=2")
    seen = []
    names |= {"evaluate": lambda params: seen.append(params["W1"].copy()), "batch": lambda step: step}
    names["gradients"] = lambda params, batch: {name: np.sin(p + batch) for name, p in params.items()}

    def run(steps, folder):
        (tmp_path / folder).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / folder)
        params = {"W1": np.ones((30, 20), np.float32), "b1": np.ones(20, np.float32)}
        own = {**names, "params": params, "steps": steps}
        exec(code, own)
        return params, own["opt"]

    run(6, "stopped")
    after, again = run(12, "stopped")
    expected, opt = run(12, "whole")
    assert again.iter == opt.iter == 12
    for name in expected:
        assert_same_bits(after[name], expected[name])
        assert_same_bits(again.ema[name], opt.ema[name])
    assert len(seen) == 8
    assert not np.array_equal(seen[0], expected["W1"])


def test_checkpoints(names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = {"W1": np.ones((3, 2), np.float32)}
    opt = fastoptim.Adam()
    opt.update(params, params)
    names |= {"params": params, "opt": opt}
    kept = params["W1"].copy()
    exec(block("epoch=3"), names)
    assert_same_bits(params["W1"], kept)
    assert names["checkpoint"].metadata == {"epoch": 3}


def test_every_option_is_in_the_table():
    options = inspect.signature(fastoptim.SGD).parameters.values()
    for name in (x.name for x in options if x.kind is x.KEYWORD_ONLY):
        assert f"`{name}" in TEXT
    for name, value in vars(fastoptim.schedules).items():
        if isinstance(value, type) and value.__module__ == fastoptim.schedules.__name__ and not name.startswith("_"):
            assert f"`{name}`" in TEXT


def test_every_optimizer_is_in_the_table():
    for name in fastoptim.__all__:
        value = getattr(fastoptim, name)
        if isinstance(value, type) and issubclass(value, fastoptim.Optimizer) and value is not fastoptim.Optimizer:
            parameters = inspect.signature(value).parameters.values()
            defaults = {x.name: x.default for x in parameters if x.kind is not x.KEYWORD_ONLY}
            arguments = ", ".join(f"{k}={v}" for k, v in defaults.items())
            assert f"| `{name}({arguments.replace('1e-07', '1e-7')})` |" in TEXT
