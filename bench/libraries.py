"""Other libraries' optimizers, as functions from arrays and one of our optimizers to a step.

Modules are imported by name when they are needed: what is not measured in a run is not imported in it.
"""

from collections.abc import Callable
from importlib import import_module
from itertools import cycle
from typing import Any

import numba

from bench.ceiling import Step
from bench.workloads import Data
from fastoptim import Optimizer

Translation = Callable[[Any], tuple[str, dict[str, Any]]]

# From one of our optimizers, `o`, to their name and arguments. They compute the same, up to where eps is added.
TORCH: dict[str, Translation] = {
    "SGD": lambda o: ("SGD", {"lr": o.lr}),
    "Momentum": lambda o: ("SGD", {"lr": o.lr, "momentum": o.momentum}),
    "Nesterov": lambda o: ("SGD", {"lr": o.lr, "momentum": o.momentum, "nesterov": True}),
    "AdaGrad": lambda o: ("Adagrad", {"lr": o.lr, "eps": o.eps}),
    "RMSprop": lambda o: ("RMSprop", {"lr": o.lr, "alpha": o.decay_rate, "eps": o.eps}),
    "Adam": lambda o: ("Adam", {"lr": o.lr, "betas": (o.beta1, o.beta2), "eps": o.eps}),
}
TORCH_FUSED = TORCH.keys() - {"RMSprop"}  # which has no such implementation

OPTAX: dict[str, Translation] = {
    "SGD": lambda o: ("sgd", {"learning_rate": o.lr}),
    "Momentum": lambda o: ("sgd", {"learning_rate": o.lr, "momentum": o.momentum}),
    "Nesterov": lambda o: ("sgd", {"learning_rate": o.lr, "momentum": o.momentum, "nesterov": True}),
    "AdaGrad": lambda o: ("adagrad", {"learning_rate": o.lr, "initial_accumulator_value": 0.0, "eps": o.eps}),
    "RMSprop": lambda o: ("rmsprop", {"learning_rate": o.lr, "decay": o.decay_rate, "eps": o.eps}),
    "Adam": lambda o: ("adam", {"learning_rate": o.lr, "b1": o.beta1, "b2": o.beta2, "eps": o.eps}),
}


def torch(implementation: str) -> Callable[[Data, type[Optimizer]], Step]:
    """PyTorch: `fused`, one kernel per array, or `foreach`, one operation at a time on lists of arrays."""

    def make(data: Data, optimizer: type[Optimizer]) -> Step:
        torch: Any = import_module("torch")
        name, arguments = TORCH[optimizer.__name__](optimizer())
        step: Step = getattr(torch.optim, name)(_tensors(torch, data), **arguments, **{implementation: True}).step
        return step

    return make


def deepspeed(data: Data, optimizer: type[Optimizer]) -> Step:
    """DeepSpeed's Adam for parameters in the host's memory, which it compiles for this machine when first used."""
    adam: Any = import_module("deepspeed.ops.adam")
    _, arguments = TORCH["Adam"](optimizer())
    step: Step = adam.DeepSpeedCPUAdam(_tensors(import_module("torch"), data), **arguments, adamw_mode=False).step
    return step


def _tensors(torch: Any, data: Data) -> list[Any]:
    """Tensors of the parameters' memory. Gradients are bound once: in torch that is others' work."""
    torch.set_num_threads(numba.get_num_threads())
    tensors = [torch.from_numpy(param).requires_grad_() for param in data.params.values()]
    for tensor, grad in zip(tensors, data.grads[0].values(), strict=True):
        tensor.grad = torch.tensor(grad)  # a copy: with foreach, Nesterov's momentum is added to the gradients in place
    return tensors


def optax(data: Data, optimizer: type[Optimizer]) -> Step:
    """Optax: one compiled function, allowed to write into the memory of the parameters and state that it is given."""
    jax: Any = import_module("jax")
    optax: Any = import_module("optax")
    name, arguments = OPTAX[optimizer.__name__](optimizer())
    transformation = getattr(optax, name)(**arguments)
    params = jax.tree.map(jax.numpy.array, data.params)
    state = transformation.init(params)
    grads = cycle(jax.tree.map(jax.numpy.array, data.grads))

    def update(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        changes, state = transformation.update(grads, state, params)
        return optax.apply_updates(params, changes), state

    compiled = jax.jit(update, donate_argnums=(0, 1))

    def step() -> None:
        nonlocal params, state
        params, state = jax.block_until_ready(compiled(params, state, next(grads)))

    return step
