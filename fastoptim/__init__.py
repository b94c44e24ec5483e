"""Gradient-descent optimizers for NumPy at the machine's full speed."""

from fastoptim import schedules
from fastoptim.buffers import FlatDict, flatten
from fastoptim.checkpoint import Checkpoint, CheckpointError, load, save
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
