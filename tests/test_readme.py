"""The README's code runs as written."""

import inspect
import re
from types import SimpleNamespace

import numba
import numpy as np
import pytest

import fastoptim
from support import ROOT, assert_close

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


def test_every_optimizer_is_in_the_table():
    for name in fastoptim.__all__:
        value = getattr(fastoptim, name)
        if isinstance(value, type) and issubclass(value, fastoptim.Optimizer) and value is not fastoptim.Optimizer:
            parameters = inspect.signature(value).parameters.values()
            defaults = {x.name: x.default for x in parameters if x.kind is not x.KEYWORD_ONLY}
            arguments = ", ".join(f"{k}={v}" for k, v in defaults.items())
            assert f"| `{name}({arguments.replace('1e-07', '1e-7')})` |" in TEXT
