"""Gradient-descent optimizers for NumPy at the machine's full speed.

Numba kernels update your own arrays in place, on all cores, with the same bits on any number of threads and on a GPU.

    >>> import numpy as np
    >>> import fastoptim
    >>> rng = np.random.default_rng(0)
    >>> x, weights = rng.standard_normal((64, 3)), np.array([1.0, -2.0, 0.5])
    >>> params = {"w": np.zeros(3), "b": np.zeros(())}
    >>> opt = fastoptim.Adam(lr=0.1)
    >>> for _ in range(200):
    ...     error = x @ params["w"] + params["b"] - (x @ weights + 3)
    ...     opt.update(params, {"w": x.T @ error / 64, "b": np.asarray(error.mean())})
    >>> [float(number) for number in params["w"].round(2)], float(params["b"].round(2))
    ([1.0, -2.0, 0.5], 3.0)

Optimizers: `help(fastoptim.Adam)` explains one with its options.
    SGD, ASGD, ScheduleFreeSGD, Momentum, Nesterov, AdaGrad, RMSprop, Adadelta, Rprop, Lion
    Adam, AdamW, ScheduleFreeAdamW, AdaMax, NAdam, RAdam, ADOPT, Adan, AdEMAMix,
    LARS, LAMB, NovoGrad, Adafactor, Prodigy, Muon, SOAP
    get(name, **hyperparameters)    an optimizer by name: get("adam", lr=0.1)
    optimizers()                    all of them by name, yours included

Of an optimizer:
    update(params, grads)           one step; params and grads are dicts, lists or tuples of arrays
    state, averages, masters        what it holds; and grad_norm
    last_statistics                 Statistics of each array, with the option `statistics`
    averaged(params)                for a while, the parameters hold their averages
    state_dict(), load_state_dict(d), to(device), warmup(params), memory(params)
    kernels.cpu, kernels.cuda       the kernels themselves, to be called from your own compiled code

Embeddings:
    Rows(indices, values)           a gradient of some rows: update costs what these rows cost

Flat buffers and files:
    flatten(params)                 a dict of arrays as a FlatDict: views of one buffer, the fastest way
    save(path, params, opt)         one safetensors file
    load(path)                      a Checkpoint to restore; raises CheckpointError if the file is damaged

Your own optimizer:
    rule, Optimizer                 one scalar function and a small class
    Reduction, Matrices             sums over arrays before the rule; functions of whole matrices
    Number, nonnegative, fraction, switch    how it declares its hyperparameters

Numbers of 16 bits:
    LossScale                       finds what a loss is multiplied by
    from_dlpack(tensor)             a CPU tensor's memory as an array, of bfloat16, too

    schedules                       learning rates and others as functions of the step
    cuda_info()                     what was found of a GPU
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastoptim import schedules
from fastoptim.algorithms.adadelta import Adadelta
from fastoptim.algorithms.adafactor import Adafactor
from fastoptim.algorithms.adagrad import AdaGrad
from fastoptim.algorithms.adam import Adam
from fastoptim.algorithms.adamax import AdaMax
from fastoptim.algorithms.adamw import AdamW
from fastoptim.algorithms.adan import Adan
from fastoptim.algorithms.ademamix import AdEMAMix
from fastoptim.algorithms.adopt import ADOPT
from fastoptim.algorithms.asgd import ASGD
from fastoptim.algorithms.lamb import LAMB
from fastoptim.algorithms.lars import LARS
from fastoptim.algorithms.lion import Lion
from fastoptim.algorithms.momentum import Momentum
from fastoptim.algorithms.muon import Muon
from fastoptim.algorithms.nadam import NAdam
from fastoptim.algorithms.nesterov import Nesterov
from fastoptim.algorithms.novograd import NovoGrad
from fastoptim.algorithms.prodigy import Prodigy
from fastoptim.algorithms.radam import RAdam
from fastoptim.algorithms.rmsprop import RMSprop
from fastoptim.algorithms.rprop import Rprop
from fastoptim.algorithms.schedule_free_adamw import ScheduleFreeAdamW
from fastoptim.algorithms.schedule_free_sgd import ScheduleFreeSGD
from fastoptim.algorithms.sgd import SGD
from fastoptim.algorithms.soap import SOAP
from fastoptim.arrays.flat import FlatDict, flatten
from fastoptim.arrays.rows import Rows
from fastoptim.arrays.tensors import from_dlpack
from fastoptim.kernels.cuda.driver import cuda_info
from fastoptim.kernels.matrices import Matrices
from fastoptim.kernels.measures import Statistics
from fastoptim.kernels.rule import rule
from fastoptim.kernels.stages import Reduction
from fastoptim.optimizer import Optimizer
from fastoptim.registry import get, optimizers
from fastoptim.settings.fields import Number, fraction, nonnegative, switch
from fastoptim.settings.loss_scale import LossScale
from fastoptim.short_help import ShortHelp

__version__ = "0.1.0"

__all__ = [
    "ADOPT",
    "ASGD",
    "LAMB",
    "LARS",
    "SGD",
    "SOAP",
    "AdEMAMix",
    "AdaGrad",
    "AdaMax",
    "Adadelta",
    "Adafactor",
    "Adam",
    "AdamW",
    "Adan",
    "Checkpoint",
    "CheckpointError",
    "FlatDict",
    "Lion",
    "LossScale",
    "Matrices",
    "Momentum",
    "Muon",
    "NAdam",
    "Nesterov",
    "NovoGrad",
    "Number",
    "Optimizer",
    "Prodigy",
    "RAdam",
    "RMSprop",
    "Reduction",
    "Rows",
    "Rprop",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "Statistics",
    "cuda_info",
    "flatten",
    "fraction",
    "from_dlpack",
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

    __all__ = ShortHelp(__all__)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
