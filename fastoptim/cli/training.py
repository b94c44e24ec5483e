"""Trains the network on the digits with one optimizer, and takes the time of its updates."""

import inspect
import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from fastoptim import Optimizer
from fastoptim.cli.network import Network
from fastoptim.cli.plain_numpy import PlainNumpy

Array = np.ndarray[Any, Any]

# Few enough for an update on the calling thread: more threads would compete with those of NumPy's matrix products.
SIZES = (64, 96, 48, 10)
BATCH = 64  # but for an optimizer that needs the gradient of all data
PLAIN_STEPS = 200  # enough for a median, few enough to cost little

LEARNING_RATES = 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3
TRIAL_EPOCHS = 8  # for each of them
GOOD = 2.0  # times the lowest loss: of the rates up to that, the smallest goes on best


class Digits(NamedTuple):
    """Images of 8 x 8 pixels from 0 to 1, float32, `(n, 64)`, and which digits they show; a fifth is for the test."""

    train: Array
    train_labels: Array
    test: Array
    test_labels: Array


class Training(NamedTuple):
    """What came of it.

    Attributes:
        losses: the mean over each epoch.
        update_us: median microseconds of the optimizer's updates.
        plain_us: the same in plain NumPy, None if the optimizer's rule cannot be taken for arrays.
    """

    name: str
    accuracy: float
    losses: list[float]
    update_us: float
    plain_us: float | None


def digits(seed: int) -> Digits:
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    train, test, train_labels, test_labels = train_test_split(
        images, labels, test_size=0.2, stratify=labels, random_state=seed
    )
    return Digits(train, train_labels, test, test_labels)


def with_learning_rate(cls: type[Optimizer], data: Digits, seed: int) -> Optimizer:
    """An optimizer with a rate that suits the task, found by training with each for a few epochs."""
    if "lr" not in inspect.signature(cls).parameters:
        return cls()

    def loss(rate: float) -> float:
        rng = np.random.default_rng(seed)
        network = Network(SIZES, rng)
        step = partial(cls(lr=rate).update, network.params, network.grads)
        with np.errstate(all="ignore"):  # some rates are too large
            found = [_epoch(network, data, rng, step, batch_size(cls, data)) for _ in range(TRIAL_EPOCHS)][-1]
        return found if math.isfinite(found) else math.inf

    losses = {rate: loss(rate) for rate in LEARNING_RATES}
    return cls(lr=min(rate for rate in losses if losses[rate] <= GOOD * min(losses.values())))


def train(optimizer: Optimizer, data: Digits, seed: int, epochs: int, on_epoch: Callable[[], None]) -> Training:
    """Train from the seed's weights on the seed's batches; `on_epoch` is called after each epoch."""
    rng = np.random.default_rng(seed)
    network = Network(SIZES, rng)
    plain = _plain(optimizer, network)
    losses: list[float] = []
    update_times: list[float] = []
    plain_times: list[float] = []

    def step() -> None:
        if plain and len(plain_times) < PLAIN_STEPS:
            for name, param in plain.params.items():
                param[...] = network.params[name]
            plain_times.append(_seconds(plain.update, network.grads))
        update_times.append(_seconds(optimizer.update, network.params, network.grads))

    for _ in range(epochs):
        losses.append(_epoch(network, data, rng, step, batch_size(type(optimizer), data)))
        on_epoch()
    evaluates_itself = type(optimizer).evaluation is not None
    with optimizer.averaged(network.params) if evaluates_itself else nullcontext():
        accuracy = network.accuracy(data.test, data.test_labels)
    return Training(
        type(optimizer).__name__,
        accuracy,
        losses,
        1e6 * median(update_times),
        1e6 * median(plain_times) if plain_times else None,
    )


def batch_size(cls: type[Optimizer], data: Digits) -> int:
    """How many images an optimizer's step takes the gradient of."""
    return len(data.train) if cls.full_batch else BATCH


def _epoch(
    network: Network, data: Digits, rng: np.random.Generator, step: Callable[[], None], size: int = BATCH
) -> float:
    """Once through the data, with a step for each batch of this size; the mean loss."""
    order = rng.permutation(len(data.train))
    losses = []
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        losses.append(network.loss(data.train[batch], data.train_labels[batch]))
        step()
    return float(np.mean(losses))


def _plain(optimizer: Optimizer, network: Network) -> PlainNumpy | None:
    """The same steps in plain NumPy, on copies of the parameters; None if the rule cannot be taken for arrays."""
    try:
        return PlainNumpy(optimizer, {name: param.copy() for name, param in network.params.items()})
    except ValueError:
        return None


def parameter_count() -> int:
    return sum(inputs * outputs + outputs for inputs, outputs in pairwise(SIZES))


def _seconds(function: Callable[..., None], *arguments: Any) -> float:
    begin = perf_counter()
    function(*arguments)
    return perf_counter() - begin
