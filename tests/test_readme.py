"""The README's code runs as written."""

import inspect
import re
from ast import literal_eval
from types import SimpleNamespace

import numba
import numpy as np
import pytest

import fastoptim
from support import ROOT, assert_close, assert_same_bits
from variants import own_hyperparameters

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


def test_a_rule_that_carries_a_number(names):
    """NAdam (Dozat 2016) as in its paper, in float64, with the state dict taken over midway."""
    exec(block("class Lion"), names)
    exec(block("class NAdam"), names)
    p, opt = {"p": np.array([1.0, -2.0, 3.0])}, names["NAdam"]()
    theirs, m, v, product = p["p"].copy(), 0, 0, 1
    for t in range(1, 7):
        g = np.sin(theirs + t)
        opt.update(p, {"p": g})
        now, after = (0.9 * (1 - 0.5 * 0.96 ** (0.004 * step)) for step in (t, t + 1))
        product *= now
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        direction = (1 - now) / (1 - product) * g + after / (1 - product * after) * m
        theirs -= 0.002 * direction / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        assert_close(p["p"], theirs)
        if t == 3:
            saved, opt = opt.state_dict(), names["NAdam"]()
            opt.load_state_dict(saved)
    assert opt.state_dict()["carry"] == {"p": pytest.approx(product)}


def test_one_optimizer_layer_by_layer(names):
    params = {"W1": np.ones((3, 2), np.float32), "b1": np.ones(2, np.float32)}
    seen = []
    opt = fastoptim.SGD(lr=lambda step: seen.append(step) or 0.1)
    names |= {"params": params, "grads": {name: np.ones_like(p) for name, p in params.items()}, "opt": opt}
    for _ in range(2):
        exec(block("in reversed(params)"), names)
    assert opt.iter == 2
    assert seen == [0, 0, 1, 1]
    for p in params.values():
        assert_close(p, np.full_like(p, 0.8))


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
        assert_same_bits(again.averages[name], opt.averages[name])
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
        if isinstance(value, type) and value.__module__.startswith(fastoptim.schedules.__name__):
            assert f"`{name}`" in TEXT


def test_every_optimizer_is_in_the_table():
    """Those that were there from the start; a row of any other one has to be right as well."""
    rows = dict(re.findall(r"^\| `(\w+)\((\w+=.*)\)` \|", TEXT, re.MULTILINE))
    assert set(rows) >= {"SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam"}
    for name, row in rows.items():
        defaults = {key: literal_eval(value) for key, value in (x.split("=") for x in row.split(", "))}
        expected = own_hyperparameters(getattr(fastoptim, name))
        assert list(defaults.items()) == list(expected.items())
