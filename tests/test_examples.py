"""Every script in `examples/`: what it reaches with arguments that make it short, its gradients, help and length."""

import importlib.util
from functools import cache

import numpy as np
import pytest

import fastoptim
from support import ROOT, python, random

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
    "language_model": (
        ("--steps", 300, "--hidden", 128, "--batch", 64, "--length", 4000),
        lambda losses: (
            losses["float32"] < 2.9
            and all(abs(loss / losses["float32"] - 1) < 0.01 for name, loss in losses.items() if "nearest" not in name)
        ),
    ),
    "matrix_factorisation": (
        ("--users", 200, "--films", 150, "--rank", 2, "--known", 0.3, "--epochs", 30, "--batch", 1000),
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
        ("--epochs", 3, "--least", 50, "--dimensions", 16, "--words", "left,two,absent"),
        lambda result: (
            1 < result[0] < 3.2  # 6 log 2 = 4.2 at the beginning
            and set(result[1]) == {"left", "two"}
            and "right" in result[1]["left"]
        ),
    ),
}


@cache
def script(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name, *further):
    return script(name).main([str(argument) for argument in (*SHORT[name][0], *further)])


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
        script(name).main(["--help"])
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


def assert_gradients_are_those_of(loss, params, grads):
    """Compare each with the difference of losses on both sides of the parameter, along the gradient."""
    assert set(grads) == set(params)
    for name, p in params.items():
        before, size = p.copy(), np.linalg.norm(grads[name])
        assert size > 0, name
        losses = []
        for shift in 1e-2, -1e-2:
            p[...] = before + shift / size * grads[name]
            losses.append(float(loss()))
        p[...] = before
        np.testing.assert_allclose((losses[0] - losses[1]) / 2e-2, size, rtol=2e-2, err_msg=name)


def test_gradients_of_the_two_layer_net(rng):
    net = script("two_layer_net").TwoLayerNet(6, 5, 4, rng)
    x, labels = random(rng, (20, 6), np.float32), rng.integers(4, size=20)
    assert_gradients_are_those_of(lambda: net.gradients(x, labels)[0], net.params, net.gradients(x, labels)[1])


def test_gradients_of_the_recurrent_network(rng):
    shapes = {"W_in": (5, 6), "W_state": (6, 6), "b_state": 6, "W_out": (6, 5), "b_out": 5}
    params = {name: random(rng, shape, np.float32) / 2 for name, shape in shapes.items()}
    characters, state = rng.integers(5, size=9), random(rng, 6, np.float32)
    gradients = script("char_rnn").gradients
    grads = gradients(params, characters, state)[1]
    assert_gradients_are_those_of(lambda: 8 * gradients(params, characters, state)[0], params, grads)


def dense(grads, params):
    """The gradients of all rows."""
    return {name: g.to_dense(len(params[name])) if isinstance(g, fastoptim.Rows) else g for name, g in grads.items()}


def test_gradients_of_the_language_model(rng):
    module = script("language_model")
    params, contexts = module.first_params(8, rng), rng.integers(module.SYMBOLS, size=(40, module.CONTEXT))
    following = rng.integers(module.SYMBOLS, size=40)
    grads = module.gradients(params, contexts, following)[1]
    assert_gradients_are_those_of(lambda: module.gradients(params, contexts, following)[0], params, grads)


def test_gradients_of_the_factors(rng):
    shapes = {"users": (5, 2), "films": (4, 2), "user_bias": (5,), "film_bias": (4,), "mean": (1,)}
    params = {name: random(rng, shape, np.float32) for name, shape in shapes.items()}
    ratings, known, module = random(rng, (5, 4), np.float32), rng.random((5, 4)) < 0.5, script("matrix_factorisation")
    user, film = np.nonzero(known)
    grads = dense(module.gradients(params, user, film, ratings[user, film]), params)
    assert_gradients_are_those_of(lambda: (module.errors(params, ratings)[known] ** 2).mean() / 2, params, grads)


def test_gradients_of_the_word_vectors(rng):
    vectors = {"words": random(rng, (7, 3), np.float32), "contexts": random(rng, (7, 3), np.float32)}
    word, others, module = rng.integers(7, size=9), rng.integers(7, size=(9, 4)), script("word_vectors")
    grads = dense(module.gradients(vectors, word, others)[1], vectors)
    assert_gradients_are_those_of(lambda: 9 * module.gradients(vectors, word, others)[0], vectors, grads)


def test_gradients_of_the_policy(rng):
    shapes, module = {"W1": (4, 6), "b1": 6, "W2": (6, 2), "b2": 2}, script("cartpole")
    net = {name: random(rng, shape, np.float32) / 2 for name, shape in shapes.items()}
    states, returns, pushes = random(rng, (30, 4), np.float32), random(rng, 30, np.float32), rng.random(30) < 0.5
    advantage = returns - module.forward(net, states)[2]
    advantage = (advantage - advantage.mean()) / advantage.std()

    def loss():
        _, right, value = module.forward(net, states)
        chosen = np.where(pushes, right, 1 - right)
        return (-advantage * np.log(chosen) + (value - returns) ** 2 / 2).mean()

    grads = {name: np.zeros_like(p) for name, p in net.items()}
    module.write_gradients(net, grads, states, pushes, returns)
    assert_gradients_are_those_of(loss, net, grads)


def test_the_compiled_loop_fits_what_numpy_does(rng):
    x, y = random(rng, (30, 2), np.float32), np.float32(rng.random(30) < 0.5)
    weights = np.float32(rng.multinomial(30, np.ones(30) / 30, size=4))
    scalars = np.array([fastoptim.Adam(lr=0.1).scalars(t) for t in range(1, 21)], np.float32)
    module = script("njit_loop")
    fits = module.fit_all(x, y, weights, scalars)
    for row, fit in zip(weights, fits, strict=True):
        np.testing.assert_allclose(fit, module.fit_in_numpy(x, y, row, scalars), rtol=1e-3, atol=1e-4)


def test_the_two_layer_net_compares_all_optimizers():
    """In a process of its own: others may have defined optimizers in this one."""
    code = "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    printed = python(code, EXAMPLES / "two_layer_net.py", "--compare", "--epochs", 10)
    accuracies = {line.split()[0]: float(line.split()[-1].rstrip("%")) for line in printed.splitlines()}
    assert {"SGD", "Adam", "Lion"} <= accuracies.keys()
    assert min(accuracies.values()) > 90, accuracies
