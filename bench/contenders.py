"""Who takes part: one table. A contender whose packages are not all installed is left out."""

import platform
from collections.abc import Callable
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from itertools import cycle
from typing import NamedTuple

import fastoptim
from bench import libraries
from bench.ceiling import Step
from bench.counterparts import find
from bench.options import options
from bench.plain import PlainStep
from bench.workloads import Data
from fastoptim import Optimizer

OURS = "fastoptim"  # how the names of our contenders begin; the one of that name is what a speed-up refers to
Make = Callable[[Data, Optimizer], Step]


def ours(data: Data, optimizer: Optimizer) -> Step:
    """Dicts of separately allocated arrays."""
    update, params, grads = optimizer.update, data.params, cycle(data.grads)
    return lambda: update(params, next(grads))


def ours_flat(data: Data, optimizer: Optimizer) -> Step:
    """Flat buffers; the network writes its gradients into the same one in every step."""
    params = fastoptim.flatten(data.params)
    grads = params.zeros_like()
    for name, grad in data.grads[0].items():
        grads[name][...] = grad
    return partial(optimizer.update, params, grads)


def plain(data: Data, optimizer: Optimizer) -> Step:
    """NumPy's own arithmetic, array by array."""
    update, grads = PlainStep(optimizer, data.params).update, cycle(data.grads)
    return lambda: update(next(grads))


def one_rule(optimizer: Optimizer) -> bool:
    """Whether a step is a rule alone."""
    return len(optimizer.stages) == 1


def known_to(library: str) -> Callable[[Optimizer], bool]:
    """Whether a library has an optimizer."""
    return lambda optimizer: find(optimizer, library) is not None


def fused(optimizer: Optimizer) -> bool:
    """Whether PyTorch has it, and in one kernel."""
    theirs = find(optimizer, "torch")
    return theirs is not None and theirs.takes("fused")


class Contender(NamedTuple):
    """One way to make a step.

    Attributes:
        title: its name in tables and charts.
        packages: what it needs.
        make: from arrays and one of our optimizers, a new one, to a function that makes one step.
        knows: whether it has the same optimizer.
        schedules: whether schedules and groups are translated for it.
    """

    title: str
    packages: tuple[str, ...]
    make: Make
    knows: Callable[[Optimizer], bool] = lambda optimizer: True
    schedules: bool = True

    def has(self, optimizer: Optimizer) -> bool:
        """Whether it can make this optimizer's step."""
        h = options(optimizer)
        return (self.schedules or not (callable(h.lr) or h.groups)) and self.knows(optimizer)


TABLE = {
    "fastoptim": Contender("fastoptim", ("fastoptim",), ours),
    "fastoptim-flat": Contender("fastoptim flat", ("fastoptim",), ours_flat),
    "numpy": Contender("NumPy", ("numpy",), plain, one_rule),
    "torch-fused": Contender("torch fused", ("torch",), libraries.torch("fused"), fused),
    "torch-foreach": Contender("torch foreach", ("torch",), libraries.torch("foreach"), known_to("torch")),
    **{
        name: Contender(name, (name, "torch"), libraries.torch("foreach", name), known_to(name))
        for name in ("schedulefree", "pytorch_optimizer")
    },
    "optax": Contender("Optax", ("optax", "jax"), libraries.OptaxStep, known_to("optax"), False),
    "deepspeed": Contender(
        "DeepSpeed", ("deepspeed", "torch"), libraries.deepspeed, lambda o: type(o).__name__ == "Adam", False
    ),
}
CONTENDERS = {name: each for name, each in TABLE.items() if all(map(find_spec, each.packages))}


def versions() -> dict[str, str]:
    """The versions of Python and of all that takes part."""
    packages = sorted(
        {"numba", *(package for each in CONTENDERS.values() for package in each.packages)} - {"fastoptim"}
    )
    installed = {package: metadata.version(package) for package in packages}
    return {"python": platform.python_version(), "fastoptim": fastoptim.__version__, **installed}
