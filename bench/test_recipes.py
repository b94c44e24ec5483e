"""Whoever takes part in the whole step makes the same one: parameters and averages after some steps."""

from typing import Any

import numpy as np
import pytest

import fastoptim
from bench.contenders import CONTENDERS
from bench.libraries import OptaxStep, TorchStep
from bench.options import options
from bench.plain import PlainStep
from bench.recipes import RECIPES
from bench.workloads import Arrays, Data, Workload, mlp
from fastoptim import schedules

SIZES = 0.3, 3.0, 1.0, 10.0, 0.1  # of the gradients in each step: some are clipped, others not
# Large enough for each of them to be seen.
STEP: dict[str, Any] = {
    "lr": 0.1,
    "eps": 0.05,
    "eps_hat": False,
    "clip_norm": 5.0,
    "weight_decay": 0.5,
    "decoupled": True,
    "ema": 0.6,
}
LOOP = STEP | {"lr": schedules.linear(0.2, 0.05, steps=4), "groups": {"b*": {"weight_decay": 0.1}}}


def data() -> Data:
    random, shapes = np.random.default_rng(0), mlp(7, 5, 3)

    def arrays(scale: float) -> Arrays:
        named = Workload("", "", shapes).named
        return {name: scale * random.standard_normal(shape, np.float32) for name, shape in named.items()}

    return Data(arrays(1.0), tuple(map(arrays, SIZES)))


@pytest.fixture(scope="module", params=[STEP, LOOP], ids=["step", "loop"])
def given_step(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the step computes: hyperparameters and options."""
    found: dict[str, Any] = request.param
    return found


@pytest.fixture(scope="module")
def expected(given_step: dict[str, Any]) -> tuple[Arrays, Arrays]:
    """In float64, in plain NumPy."""
    params, *steps = (
        {name: array.astype(np.float64) for name, array in arrays.items()} for arrays in (data().params, *data().grads)
    )
    plain = PlainStep(fastoptim.Adam(**given_step), params)
    for grads in steps:
        plain.update(grads)
    return params, plain.average


def check(found: tuple[Any, Any], expected: tuple[Arrays, Arrays]) -> None:
    for some, others in zip(found, expected, strict=True):
        assert some.keys() == others.keys()
        for name, array in others.items():
            np.testing.assert_allclose(np.asarray(some[name]), array, rtol=2e-5, atol=2e-6, err_msg=name)


def test_fastoptim(given_step: dict[str, Any], expected: tuple[Arrays, Arrays]) -> None:
    given, opt = data(), fastoptim.Adam(**given_step)
    step = CONTENDERS["fastoptim"].make(given, opt)
    for _ in SIZES:
        step()
    check((given.params, opt.averages), expected)


def test_numpy(given_step: dict[str, Any], expected: tuple[Arrays, Arrays]) -> None:
    given = data()
    step = CONTENDERS["numpy"].make(given, fastoptim.Adam(**given_step))
    for _ in SIZES:
        step()
    check((given.params, expected[1]), expected)


@pytest.mark.parametrize("contender", ["torch-fused", "torch-foreach"])
def test_torch(contender: str, given_step: dict[str, Any], expected: tuple[Arrays, Arrays]) -> None:
    torch: Any = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    given = data()
    step = CONTENDERS[contender].make(given, fastoptim.Adam(**given_step))
    assert isinstance(step, TorchStep)
    for grads in given.grads:
        for tensor, grad in zip(step.tensors, grads.values(), strict=True):
            tensor.grad = torch.tensor(grad)
        step()
    check((given.params, dict(zip(given.params, step.averages, strict=True))), expected)


def test_optax(given_step: dict[str, Any], expected: tuple[Arrays, Arrays]) -> None:
    pytest.importorskip("optax", reason="compares with Optax, which is not installed")
    pytest.importorskip("jax", reason="compares with Optax, which needs JAX")
    if not CONTENDERS["optax"].has(fastoptim.Adam(**given_step)):
        pytest.skip("schedules and groups are not translated for Optax")
    step = CONTENDERS["optax"].make(data(), fastoptim.Adam(**given_step))
    assert isinstance(step, OptaxStep)
    for _ in SIZES:
        step()
    check((step.params, step.average), expected)


def test_the_whole_step_is_all_of_it() -> None:
    h = vars(options(RECIPES["whole step"].make()))
    assert all(h[name] for name in STEP if name != "eps_hat")
    assert RECIPES["whole step"].traffic == (4, 2)


def test_the_training_loop_is_the_whole_step_with_a_schedule_and_groups() -> None:
    whole, loop = (vars(options(RECIPES[name].make())) for name in ("whole step", "training loop"))
    assert {name for name in whole if whole[name] != loop[name]} == {"lr", "groups"}
    assert callable(loop["lr"])
