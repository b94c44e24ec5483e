"""Trains the network on the digits with one optimizer, and takes the time of its updates."""

from collections.abc import Callable
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from fastoptim import Optimizer
from fastoptim.cli.network import Network
from fastoptim.cli.plain_numpy import FORMULAS, PlainNumpy

Array = np.ndarray[Any, Any]

# Few enough for an update on the calling thread: more threads would compete with those of NumPy's matrix products.
SIZES = (64, 96, 48, 10)
BATCH = 64
PLAIN_STEPS = 200  # enough for a median, few enough to cost little

# Found by trying some on ten seeds. An optimizer that is not here has its own default.
LEARNING_RATES = {"SGD": 0.5, "Momentum": 0.1, "Nesterov": 0.1, "AdaGrad": 0.03, "RMSprop": 0.002, "Adam": 0.003}


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
        plain_us: the same for NumPy expressions, None if there are none for this optimizer.
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


def with_learning_rate(cls: type[Optimizer]) -> Optimizer:
    return cls(lr=LEARNING_RATES[cls.__name__]) if cls.__name__ in LEARNING_RATES else cls()


def train(optimizer: Optimizer, data: Digits, seed: int, epochs: int, on_epoch: Callable[[], None]) -> Training:
    """Train from the seed's weights on the seed's batches; `on_epoch` is called after each epoch."""
    rng = np.random.default_rng(seed)
    network = Network(SIZES, rng)
    name = type(optimizer).__name__
    plain = PlainNumpy(optimizer, network.params) if name in FORMULAS else None
    losses: list[float] = []
    update_times: list[float] = []
    plain_times: list[float] = []
    for _ in range(epochs):
        order = rng.permutation(len(data.train))
        batch_losses = []
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            batch_losses.append(network.loss(data.train[batch], data.train_labels[batch]))
            if plain and len(plain_times) < PLAIN_STEPS:
                plain.copy_from(network.params)
                plain_times.append(_seconds(plain.update, network.grads))
            update_times.append(_seconds(optimizer.update, network.params, network.grads))
        losses.append(float(np.mean(batch_losses)))
        on_epoch()
    return Training(
        name,
        network.accuracy(data.test, data.test_labels),
        losses,
        1e6 * median(update_times),
        1e6 * median(plain_times) if plain_times else None,
    )


def parameter_count() -> int:
    return sum(inputs * outputs + outputs for inputs, outputs in pairwise(SIZES))


def _seconds(function: Callable[..., None], *arguments: Any) -> float:
    begin = perf_counter()
    function(*arguments)
    return perf_counter() - begin
