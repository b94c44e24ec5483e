"""Gradient-descent optimizers for NumPy at the machine's full speed."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastoptim import schedules
from fastoptim.algorithms.adagrad import AdaGrad
from fastoptim.algorithms.adam import Adam
from fastoptim.algorithms.lion import Lion
from fastoptim.algorithms.momentum import Momentum
from fastoptim.algorithms.nesterov import Nesterov
from fastoptim.algorithms.rmsprop import RMSprop
from fastoptim.algorithms.sgd import SGD
from fastoptim.arrays.flat import FlatDict, flatten
from fastoptim.kernels.cuda.driver import cuda_info
from fastoptim.kernels.rule import rule
from fastoptim.optimizer import Optimizer
from fastoptim.registry import get, optimizers
from fastoptim.settings.fields import Number, fraction, nonnegative, switch

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "AdaGrad",
    "Adam",
    "Checkpoint",
    "CheckpointError",
    "FlatDict",
    "Lion",
    "Momentum",
    "Nesterov",
    "Number",
    "Optimizer",
    "RMSprop",
    "cuda_info",
    "flatten",
    "fraction",
    "get",
    "load",
    "nonnegative",
    "optimizers",
    "rule",
    "save",
    "schedules",
    "switch",
]

if TYPE_CHECKING:
    from fastoptim.checkpoint import Checkpoint, CheckpointError, load, save
else:  # type checkers see the names above alone

    def __getattr__(name: str) -> Any:
        """Checkpoints are imported when they are asked for: not everybody needs them."""
        if name in ("Checkpoint", "CheckpointError", "load", "save"):
            return getattr(import_module("fastoptim.checkpoint"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
