"""Who takes part: one table. A contender whose packages are not all installed is left out."""

import platform
from collections.abc import Callable, Collection
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from itertools import cycle
from typing import NamedTuple

import fastoptim
from bench import libraries
from bench.ceiling import Step
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


class Contender(NamedTuple):
    """One way to make a step.

    Attributes:
        title: its name in tables and charts.
        packages: what it needs.
        make: from arrays and one of our optimizers, a new one, to a function that makes one step.
        optimizers: the classes of ours that it has, by name, or None for all.
        schedules: whether schedules and groups are translated for it.
    """

    title: str
    packages: tuple[str, ...]
    make: Make
    optimizers: Collection[str] | None = None
    schedules: bool = True

    def has(self, optimizer: Optimizer) -> bool:
        """Whether it can make this optimizer's step."""
        h = options(optimizer)
        known = self.optimizers is None or type(optimizer).__name__ in self.optimizers
        return known and (self.schedules or not (callable(h.lr) or h.groups))


TABLE = {
    "fastoptim": Contender("fastoptim", ("fastoptim",), ours),
    "fastoptim-flat": Contender("fastoptim flat", ("fastoptim",), ours_flat),
    "numpy": Contender("NumPy", ("numpy",), plain),
    "torch-fused": Contender("torch fused", ("torch",), libraries.torch("fused"), libraries.TORCH_FUSED),
    "torch-foreach": Contender("torch foreach", ("torch",), libraries.torch("foreach"), libraries.TORCH),
    "optax": Contender("Optax", ("optax", "jax"), libraries.OptaxStep, libraries.OPTAX, False),
    "deepspeed": Contender("DeepSpeed", ("deepspeed", "torch"), libraries.deepspeed, {"Adam"}, False),
}
CONTENDERS = {name: each for name, each in TABLE.items() if all(map(find_spec, each.packages))}


def versions() -> dict[str, str]:
    """The versions of Python and of all that takes part."""
    packages = sorted(
        {"numba", *(package for each in CONTENDERS.values() for package in each.packages)} - {"fastoptim"}
    )
    installed = {package: metadata.version(package) for package in packages}
    return {"python": platform.python_version(), "fastoptim": fastoptim.__version__, **installed}
