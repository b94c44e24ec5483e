"""The table of equivalents in the documentation, against the libraries themselves: skipped where one is not installed.

docs/equivalents.toml has the table: texts of Python, which the optimizers' pages show and which are evaluated here.
"""

import tomllib

import numpy as np
import pytest

import fastoptim
from support import DTYPES, OPTIMIZERS, ROOT, assert_close, assert_same_bits, random

STEPS, CHANGE = 30, 15  # the learning rate is another one from step CHANGE on
SHAPES = {"W": (7, 5), "b": (5,), "s": (), "small": (9,), "zero": (4,)}
# No library has these by default.
NUMBERS = {
    "momentum": 0.8,
    "decay_rate": 0.75,
    "beta1": 0.8,
    "beta2": 0.95,
    "eps": 0.01,
    "weight_decay": 0.2,
    "dampening": 0.3,
}
LR, LATER_LR = 0.02, 0.008

TABLE = tomllib.loads((ROOT / "docs" / "equivalents.toml").read_text(encoding="utf-8"))
CASES = {key: [row for row in TABLE["row"] if key in row] for key in ("torch", "keras", "optax")}


def problem(dtype, zero=False):
    """Parameters and gradients. Some gradients are so small that `eps` matters; if `zero`, some are always zero."""
    rng = np.random.default_rng(0)
    params = {name: random(rng, shape, dtype) for name, shape in SHAPES.items()}
    steps = [{name: random(rng, shape, dtype) for name, shape in SHAPES.items()} for _ in range(STEPS)]
    params["small"][...] = 0
    for grads in steps:
        grads["small"] *= (10.0 ** -np.arange(9)).astype(dtype)
        grads["zero"] *= not zero
    return params, steps


def schedule(step):
    return LR if step < CHANGE else LATER_LR


class Case:
    """A row of the table and one of the libraries in it."""

    def __init__(self, row, key, library, dtype=np.float32):
        self.row, self.key, self.library = row, key, library
        self.changes = self.is_in("lr") and key not in row.get("constant_lr", [])
        self.params, self.steps = problem(dtype, zero=key not in row.get("nonzero", []))
        self.expected, _ = problem(dtype)

    def is_in(self, name):
        return name in compile(self.row["ours"], self.row["ours"], "eval").co_names

    def theirs(self, lr=LR, **names):
        return eval(self.row[self.key], vars(self.library) | NUMBERS | {"lr": lr} | names)

    def compare(self, step):
        """Call `step` with one gradient after the other; it makes a step of theirs, and returns their parameters."""
        opt = eval(self.row["ours"], vars(fastoptim) | NUMBERS | {"lr": schedule if self.changes else LR})
        for i, grads in enumerate(self.steps):
            opt.update(self.params, grads)
            for name, expected in step(i, grads).items():
                assert_close(self.params[name], expected, f"{name} after step {i + 1}")


def rows(key):
    return pytest.mark.parametrize("row", CASES[key], ids=lambda row: f"{row['ours']} = {row[key]}")


@pytest.mark.parametrize("dtype", DTYPES)
@rows("torch")
def test_torch(row, dtype):
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    case = Case(row, "torch", torch.optim, dtype)
    tensors = {name: torch.tensor(p, requires_grad=True) for name, p in case.params.items()}
    peer = case.theirs(params=tensors.values())

    def step(i, grads):
        for group in peer.param_groups if case.changes else []:
            group["lr"] = schedule(i)
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(grads[name])
        peer.step()
        return {name: tensor.detach().numpy() for name, tensor in tensors.items()}

    case.compare(step)


@rows("optax")
def test_optax(row):
    optax = pytest.importorskip("optax", reason="compares with Optax, which is not installed")
    jax = pytest.importorskip("jax", reason="compares with Optax, which needs JAX")
    case = Case(row, "optax", optax)
    arrays = {name: jax.numpy.asarray(p) for name, p in case.expected.items()}
    rates = jax.numpy.array([schedule(i) for i in range(STEPS)])
    peer = case.theirs(lr=(lambda step: rates[step]) if case.changes else LR)
    state, update = peer.init(arrays), jax.jit(peer.update)

    def step(i, grads):
        nonlocal arrays, state
        updates, state = update(grads, state, arrays)
        arrays = optax.apply_updates(arrays, updates)
        return {name: np.asarray(array) for name, array in arrays.items()}

    case.compare(step)


@rows("keras")
def test_keras(row, monkeypatch):
    pytest.importorskip("jax", reason="compares with Keras on JAX, which is not installed")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras", reason="compares with Keras, which is not installed")
    case = Case(row, "keras", keras.optimizers)
    variables = {name: keras.Variable(p) for name, p in case.params.items()}
    peer = case.theirs()

    def step(i, grads):
        if case.changes:
            peer.learning_rate = schedule(i)
        peer.apply(list(grads.values()), list(variables.values()))
        return {name: np.asarray(variable) for name, variable in variables.items()}

    case.compare(step)


def test_every_optimizer_is_in_the_table():
    """With a row, or with the reason why it has none."""
    named = {row["ours"].partition("(")[0] for row in TABLE["row"]}
    assert named | set(TABLE["none"]) == {cls.__name__ for cls in OPTIMIZERS}
    assert not named & set(TABLE["none"])


def test_rows_have_known_keys():
    keys = {"ours", "note", *CASES, *TABLE["exceptions"]}
    for row in TABLE["row"]:
        assert set(row) <= keys
        assert set(row) & set(CASES), row["ours"]
        for name in TABLE["exceptions"]:
            assert set(row.get(name, [])) <= set(row)


@pytest.mark.parametrize("peer", ["torch", "jax"])
def test_gradients_of_other_libraries(peer):
    library = pytest.importorskip(peer, reason=f"takes gradients of {peer}, which is not installed")
    convert = library.tensor if peer == "torch" else library.numpy.asarray
    (params, steps), (expected, _) = problem(np.float32), problem(np.float32)
    one, two = fastoptim.Adam(), fastoptim.Adam()
    for grads in steps:
        one.update(expected, grads)
        two.update(params, {k: convert(g) for k, g in grads.items()})
    for k in params:
        assert_same_bits(params[k], expected[k])


def test_a_tensor_that_numpy_may_not_read():
    torch = pytest.importorskip("torch", reason="needs a tensor of PyTorch, which is not installed")
    p = np.ones(3, np.float32)
    with pytest.raises(TypeError, match=r"grads\['p'\].*Tensor.*grad"):
        fastoptim.SGD().update({"p": p}, {"p": torch.ones(3, requires_grad=True)})
    assert (p == 1).all()
