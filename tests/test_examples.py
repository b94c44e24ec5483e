"""Every script in `examples/`, with arguments that make it short; what it reaches, its help, its length."""

import importlib.util
from functools import cache

import numpy as np
import pytest

from support import ROOT, python

EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py"))


def falls(curve, to):
    return curve[-1] < to * curve[0]


# From a script to short arguments, and to what must hold for that which `main` returns.
SHORT = {
    "cartpole": (
        ("--updates", 15, "--episodes", 10),
        lambda returns: len(returns) == 15 and returns[0] < 50 and returns[-1] > 2 * returns[0],
    ),
    "char_rnn": (("--steps", 1000, "--samples", 2), lambda loss: 0 < loss < 3.6),
    "matrix_factorisation": (
        ("--users", 200, "--films", 150, "--rank", 2, "--known", 0.3, "--steps", 150),
        lambda rmse: 0.5 < rmse < 0.56,  # the noise is 0.5
    ),
    "njit_loop": (("--fits", 400), lambda ratios: ratios.shape == (5,) and np.all((ratios > 0.8) & (ratios < 1.4))),
    "other_library": (
        ("--layers", 32, "--epochs", 3, "--lr", 0.005),
        lambda curves: (
            set(curves) == {"scikit-learn", "fastoptim"}
            and all(len(curve) == 3 and falls(curve, to=0.5) for curve in curves.values())
            and np.allclose(curves["scikit-learn"], curves["fastoptim"], rtol=1e-5)
        ),
    ),
    "two_layer_net": (
        ("--optimizer", "MOMENTUM", "--epochs", 8),
        lambda accuracies: accuracies.keys() == {"MOMENTUM"} and accuracies["MOMENTUM"] > 0.94,
    ),
    "word_vectors": (
        ("--epochs", 1, "--least", 50, "--dimensions", 16),
        lambda loss: 1 < loss < 3.2,  # 6 log 2 = 4.2 at the beginning
    ),
}


@cache
def main_of(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def run(name, *further):
    return main_of(name)([str(argument) for argument in (*SHORT[name][0], *further)])


def test_every_script_is_in_the_table():
    assert sorted(SHORT) == SCRIPTS


@pytest.mark.parametrize("name", SHORT)
def test_a_script_reaches_its_aim_and_the_same_with_the_same_seed(name, tmp_path, capsys):
    plot = tmp_path / "plot.png"
    further = ("--plot", plot) if "--plot" in (EXAMPLES / f"{name}.py").read_text() else ()
    result = run(name, *further)
    assert SHORT[name][1](result), result
    assert plot.exists() == bool(further)
    assert not further or plot.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out
    np.testing.assert_equal(run(name), result)
    with pytest.raises(AssertionError):
        np.testing.assert_equal(run(name, "--seed", 1), result)


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_says_what_each_argument_is_and_its_default(name, capsys):
    with pytest.raises(SystemExit) as leaves:
        main_of(name)(["--help"])
    assert leaves.value.code == 0
    text = capsys.readouterr().out
    description, arguments = text.split("options:")
    assert len(description.split("\n\n")[1]) > 40
    assert "--seed" in arguments
    for argument in arguments.split("\n  -")[1:]:
        assert len(argument.split()) > 3, argument


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_short_and_says_how_to_run_it(name):
    text = (EXAMPLES / f"{name}.py").read_text()
    assert len(text.splitlines()) < 100
    assert f"\n    python examples/{name}.py\n" in text or f"\n    python examples/{name}.py --" in text
    assert f"[{name}.py]({name}.py)" in (EXAMPLES / "README.md").read_text()


def test_the_two_layer_net_compares_all_optimizers():
    """In a process of its own: others may have defined optimizers in this one."""
    code = "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    printed = python(code, EXAMPLES / "two_layer_net.py", "--compare", "--epochs", 10)
    accuracies = {line.split()[0]: float(line.split()[-1].rstrip("%")) for line in printed.splitlines()}
    assert {"SGD", "Adam", "Lion"} <= accuracies.keys()
    assert min(accuracies.values()) > 90, accuracies
