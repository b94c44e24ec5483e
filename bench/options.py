"""An optimizer's hyperparameters and options, which other libraries' arguments are made of."""

from types import SimpleNamespace

from fastoptim import Optimizer


def options(optimizer: Optimizer) -> SimpleNamespace:
    """An optimizer's hyperparameters and options as plain values."""
    return SimpleNamespace(**optimizer.hyperparameters())
