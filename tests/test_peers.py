"""The README's table of equivalents, against the libraries themselves: skipped where a peer is not installed."""

import copy

import numpy as np
import pytest

import fastoptim
from fastoptim import SGD, AdaGrad, Adam, Lion, Momentum, Nesterov, RMSprop
from support import assert_close, assert_same_bits, random

STEPS = 6
SHAPES = {"W": (7, 5), "b": (5,), "s": ()}


def problem(dtype):
    rng = np.random.default_rng(0)
    params = {name: random(rng, shape, dtype) for name, shape in SHAPES.items()}
    return params, [{name: random(rng, shape, dtype) for name, shape in SHAPES.items()} for _ in range(STEPS)]


TORCH = {
    "SGD": (SGD(0.1), "SGD", {"lr": 0.1}),
    "Momentum": (Momentum(0.1, 0.8), "SGD", {"lr": 0.1, "momentum": 0.8}),
    "Nesterov": (Nesterov(0.1, 0.8), "SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True}),
    "AdaGrad": (AdaGrad(0.1, eps=1e-10), "Adagrad", {"lr": 0.1}),
    "RMSprop": (RMSprop(0.1, eps=1e-8), "RMSprop", {"lr": 0.1}),
    "RMSprop, other": (RMSprop(0.1, 0.8, 0.01), "RMSprop", {"lr": 0.1, "alpha": 0.8, "eps": 0.01}),
    "Adam": (Adam(eps=1e-8, eps_hat=False), "Adam", {}),
    "Adam, other": (Adam(0.1, 0.8, 0.9, 0.01, False), "Adam", {"lr": 0.1, "betas": (0.8, 0.9), "eps": 0.01}),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", TORCH)
def test_torch(case, dtype):
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    ours, name, arguments = TORCH[case]
    opt = copy.deepcopy(ours)
    params, steps = problem(dtype)
    tensors = {k: torch.tensor(p, requires_grad=True) for k, p in params.items()}
    peer = getattr(torch.optim, name)(tensors.values(), **arguments)
    for grads in steps:
        for k, tensor in tensors.items():
            tensor.grad = torch.tensor(grads[k])
        peer.step()
        opt.update(params, grads)
    for k, tensor in tensors.items():
        assert_close(params[k], tensor.detach().numpy(), k)


OPTAX = {
    "SGD": (SGD(0.1), "sgd", {"learning_rate": 0.1}),
    "Momentum": (Momentum(0.1, 0.8), "sgd", {"learning_rate": 0.1, "momentum": 0.8}),
    "Nesterov": (Nesterov(0.1, 0.8), "sgd", {"learning_rate": 0.1, "momentum": 0.8, "nesterov": True}),
    "AdaGrad": (AdaGrad(0.1, eps=0), "adagrad", {"learning_rate": 0.1, "initial_accumulator_value": 0, "eps": 0}),
    "RMSprop": (RMSprop(0.1, 0.9, 1e-8), "rmsprop", {"learning_rate": 0.1, "eps_in_sqrt": False}),
    "Adam": (Adam(0.001, eps=1e-8, eps_hat=False), "adam", {"learning_rate": 0.001}),
    "Adam, other": (
        Adam(0.1, 0.8, 0.9, 0.01, False),
        "adam",
        {"learning_rate": 0.1, "b1": 0.8, "b2": 0.9, "eps": 0.01},
    ),
    "Lion": (Lion(weight_decay=1e-3, decoupled=True), "lion", {"learning_rate": 1e-4}),
    "Lion, other": (
        Lion(0.1, 0.8, 0.7, weight_decay=0.2, decoupled=True),
        "lion",
        {"learning_rate": 0.1, "b1": 0.8, "b2": 0.7, "weight_decay": 0.2},
    ),
}


@pytest.mark.parametrize("case", OPTAX)
def test_optax(case):
    optax = pytest.importorskip("optax", reason="compares with Optax, which is not installed")
    jax = pytest.importorskip("jax", reason="compares with Optax, which needs JAX")
    ours, name, arguments = OPTAX[case]
    opt = copy.deepcopy(ours)
    params, steps = problem(np.float32)
    theirs = {k: jax.numpy.asarray(p) for k, p in params.items()}
    peer = getattr(optax, name)(**arguments)
    state = peer.init(theirs)
    for grads in steps:
        updates, state = peer.update({k: jax.numpy.asarray(g) for k, g in grads.items()}, state, theirs)
        theirs = optax.apply_updates(theirs, updates)
        opt.update(params, grads)
    for k, p in params.items():
        assert_close(p, np.asarray(theirs[k]), k)


KERAS = {
    "SGD": (SGD(), "SGD", {}),
    "Momentum": (Momentum(0.1, 0.8), "SGD", {"learning_rate": 0.1, "momentum": 0.8}),
    "Nesterov": (Nesterov(0.1, 0.8), "SGD", {"learning_rate": 0.1, "momentum": 0.8, "nesterov": True}),
    "AdaGrad": (AdaGrad(0.1, 0), "Adagrad", {"learning_rate": 0.1, "initial_accumulator_value": 0.0, "epsilon": 0.0}),
    "RMSprop": (RMSprop(0.1, 0.9, 0), "RMSprop", {"learning_rate": 0.1, "epsilon": 0.0}),
    "Adam": (Adam(), "Adam", {}),
    "Adam, other": (
        Adam(0.1, 0.8, 0.9, 0.01),
        "Adam",
        {"learning_rate": 0.1, "beta_1": 0.8, "beta_2": 0.9, "epsilon": 0.01},
    ),
}


@pytest.mark.parametrize("case", KERAS)
def test_keras(case, monkeypatch):
    pytest.importorskip("jax", reason="compares with Keras on JAX, which is not installed")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras", reason="compares with Keras, which is not installed")
    ours, name, arguments = KERAS[case]
    opt = copy.deepcopy(ours)
    params, steps = problem(np.float32)
    variables = {k: keras.Variable(p) for k, p in params.items()}
    peer = getattr(keras.optimizers, name)(**arguments)
    for grads in steps:
        peer.apply(list(grads.values()), list(variables.values()))
        opt.update(params, grads)
    for k, p in params.items():
        assert_close(p, np.asarray(variables[k]), k)


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
