"""Gradient-descent optimizers for NumPy at the machine's full speed."""

from typing import TYPE_CHECKING, Any

from fastoptim.buffers import FlatDict, flatten
from fastoptim.hyperparameters import fraction, nonnegative, switch
from fastoptim.kernels.cuda_code import cuda_info
from fastoptim.kernels.rule import rule
from fastoptim.optimizer import Optimizer
from fastoptim.optimizers.adagrad import AdaGrad
from fastoptim.optimizers.adam import Adam
from fastoptim.optimizers.momentum import Momentum
from fastoptim.optimizers.nesterov import Nesterov
from fastoptim.optimizers.rmsprop import RMSprop
from fastoptim.optimizers.sgd import SGD

if TYPE_CHECKING:
    from fastoptim import schedules
    from fastoptim.checkpoint import Checkpoint, CheckpointError, load, save

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "AdaGrad",
    "Adam",
    "Checkpoint",
    "CheckpointError",
    "FlatDict",
    "Momentum",
    "Nesterov",
    "Optimizer",
    "RMSprop",
    "cuda_info",
    "flatten",
    "fraction",
    "load",
    "nonnegative",
    "rule",
    "save",
    "schedules",
    "switch",
]


def __getattr__(name: str) -> Any:
    """What not everybody needs is imported when it is asked for: `schedules`, `save`, `load` and what they return."""
    from importlib import import_module

    if name == "schedules":
        return import_module("fastoptim.schedules")
    if name in ("Checkpoint", "CheckpointError", "load", "save"):
        return getattr(import_module("fastoptim.checkpoint"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
