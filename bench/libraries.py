"""Other libraries' optimizers, as functions from arrays and one of our optimizers to a step.

Modules are imported by name when they are needed: what is not measured in a run is not imported in it.
"""

from collections.abc import Callable
from fnmatch import fnmatchcase
from importlib import import_module
from itertools import cycle
from typing import Any

import numba

from bench.ceiling import Step
from bench.counterparts import counterpart
from bench.options import options
from bench.workloads import Data
from fastoptim import Optimizer


def torch(implementation: str, library: str = "torch") -> Callable[[Data, Optimizer], Step]:
    """An optimizer of PyTorch's tensors, in an implementation that a class of the library has, or in its only one.

    There is `fused`, one kernel per array, and `foreach`, one operation at a time on lists of arrays. If ours updates
    vectors by AdamW, and theirs takes matrices alone, PyTorch's fused AdamW stands beside it.
    """

    def make(data: Data, optimizer: Optimizer) -> Step:
        torch: Any = import_module("torch")
        h, tensors = options(optimizer), _tensors(torch, data)
        theirs, named, others = counterpart(optimizer, library), dict(zip(data.params, tensors, strict=True)), None
        if theirs.is_for_matrices and optimizer.matrices is not None:
            vectors = [named.pop(name) for name, tensor in zip(data.params, tensors, strict=True) if tensor.ndim < 2]
            others = torch.optim.AdamW(vectors, fused=True) if vectors else None
        groups = _torch_groups(named, h.groups)
        made = theirs.make(groups, **({implementation: True} if theirs.takes(implementation) else {}))
        if hasattr(made, "train"):  # schedule-free ones evaluate other parameters than they train
            made.train()
        schedule = torch.optim.lr_scheduler.LambdaLR(made, h.lr) if callable(h.lr) else None  # before `step` is taken
        step = _both(made.step, others.step) if others else made.step
        return TorchStep(step, tensors, optimizer, schedule.step if schedule else None)

    return make


def _both(one: Step, other: Step) -> Step:
    def step() -> None:
        one()
        other()

    return step


def _torch_groups(tensors: dict[str, Any], groups: dict[str, dict[str, Any]] | None) -> list[dict[str, Any]]:
    """Our groups as PyTorch's: their hyperparameters have the same names there."""
    rest, made = dict(tensors), []
    for pattern, values in (groups or {}).items():
        names = [name for name in rest if fnmatchcase(name, pattern)]
        made.append({"params": [rest.pop(name) for name in names], **values})
    return [{"params": list(rest.values())}, *made]


def deepspeed(data: Data, optimizer: Optimizer) -> Step:
    """DeepSpeed's Adam for parameters in the host's memory, which it compiles for this machine when first used."""
    adam: Any = import_module("deepspeed.ops.adam")
    h, tensors = options(optimizer), _tensors(import_module("torch"), data)
    step: Step = adam.DeepSpeedCPUAdam(
        tensors, lr=h.lr, betas=(h.beta1, h.beta2), eps=h.eps, weight_decay=h.weight_decay, adamw_mode=h.decoupled
    ).step
    return TorchStep(step, tensors, optimizer)


def _tensors(torch: Any, data: Data) -> list[Any]:
    """Tensors of the parameters' memory. Gradients are bound once: in torch that is others' work."""
    torch.set_num_threads(numba.get_num_threads())
    tensors = [torch.from_numpy(param).requires_grad_() for param in data.params.values()]
    for tensor, grad in zip(tensors, data.grads[0].values(), strict=True):
        tensor.grad = torch.tensor(grad)  # a copy: with foreach, Nesterov's momentum is added to the gradients in place
    return tensors


class TorchStep:
    """A step of PyTorch with what training loops have around it: clipping before, averages and a schedule after.

    Attributes:
        tensors: the parameters. Clipping multiplies their gradients in place in every step, from the second on by
            nearly 1: they keep the size that the first has given them.
        averages: what follows them, if anything does.
    """

    def __init__(self, step: Step, tensors: list[Any], optimizer: Optimizer, schedule: Step | None = None) -> None:
        torch: Any = import_module("torch")
        h = options(optimizer)
        self.tensors, self._step, self._schedule, self._limit = tensors, step, schedule, h.clip_norm
        self._clip = torch.nn.utils.clip_grad_norm_
        self.averages: list[Any] = []
        if h.ema is not None:
            self.averages = [tensor.detach().clone() for tensor in tensors]
            self._follow = torch.optim.swa_utils.get_ema_multi_avg_fn(h.ema)

    def __call__(self) -> None:
        if self._limit is not None:
            self._clip(self.tensors, self._limit)
        self._step()
        if self.averages:
            self._follow(self.averages, self.tensors, None)
        if self._schedule:
            self._schedule()


class OptaxStep:
    """Optax: one compiled function, allowed to write into the memory of what it updates.

    Attributes:
        params: the parameters, new arrays after every step.
        average: what follows them, or None.
    """

    def __init__(self, data: Data, optimizer: Optimizer) -> None:
        jax: Any = import_module("jax")
        optax: Any = import_module("optax")
        h = options(optimizer)
        transformation = counterpart(optimizer, "optax").make()
        if h.clip_norm is not None:
            transformation = optax.chain(optax.clip_by_global_norm(h.clip_norm), transformation)
        self.params = jax.tree.map(jax.numpy.array, data.params)
        self.average = None if h.ema is None else jax.tree.map(jax.numpy.array, data.params)
        # Copies: some states hold the parameters themselves, and the same memory cannot be given away twice.
        self._state = jax.tree.map(jax.numpy.array, transformation.init(self.params))
        self._grads = cycle(jax.tree.map(jax.numpy.array, data.grads))

        def update(params: Any, state: Any, average: Any, grads: Any) -> tuple[Any, Any, Any]:
            changes, state = transformation.update(grads, state, params)
            params = optax.apply_updates(params, changes)
            if h.ema is not None:
                average = optax.incremental_update(params, average, 1 - h.ema)
            return params, state, average

        self._update, self._wait = jax.jit(update, donate_argnums=(0, 1, 2)), jax.block_until_ready

    def __call__(self) -> None:
        made = self._update(self.params, self._state, self.average, next(self._grads))
        self.params, self._state, self.average = self._wait(made)
