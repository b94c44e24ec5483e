"""The demo's whole training on the digits: the network's products and the updates, from the first weights on.

The network is NumPy's, and its optimizer ours or plain NumPy; or both are PyTorch's.
"""

from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np

import fastoptim
from bench.counterparts import counterpart
from fastoptim.cli.network import Network
from fastoptim.cli.plain_numpy import PlainNumpy
from fastoptim.cli.training import BATCH, SIZES, Digits, _epoch, digits

EPOCHS = 5
SEED = 0
Losses = list[float]


def optimizer() -> fastoptim.Optimizer:
    """Whose steps all of them make."""
    return fastoptim.Adam(eps_hat=False)


def ours(data: Digits) -> Losses:
    """With fastoptim."""
    rng = np.random.default_rng(SEED)
    network, opt = Network(SIZES, rng), optimizer()
    return [_epoch(network, data, rng, lambda: opt.update(network.params, network.grads)) for _ in range(EPOCHS)]


def plain(data: Digits) -> Losses:
    """With the rule itself on arrays."""
    rng = np.random.default_rng(SEED)
    network = Network(SIZES, rng)
    opt = PlainNumpy(optimizer(), network.params)
    return [_epoch(network, data, rng, lambda: opt.update(network.grads)) for _ in range(EPOCHS)]


def torch(data: Digits) -> Losses:
    """All of it in PyTorch, with its fused optimizer, from the same weights on the same batches."""
    torch: Any = import_module("torch")
    nn, rng = torch.nn, np.random.default_rng(SEED)
    ours, layers = Network(SIZES, rng), []
    for i, (inputs, outputs) in enumerate(pairwise(SIZES), start=1):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        with torch.no_grad():
            layers[-2].weight.copy_(torch.from_numpy(ours.params[f"W{i}"].T))
            layers[-2].bias.copy_(torch.from_numpy(ours.params[f"b{i}"]))
    model, cross_entropy = nn.Sequential(*layers[:-1]), nn.CrossEntropyLoss()
    opt = counterpart(optimizer(), "torch").make(model.parameters(), fused=True)
    train, labels = torch.from_numpy(data.train), torch.from_numpy(data.train_labels)

    def epoch() -> float:
        order, losses = torch.from_numpy(rng.permutation(len(train))), []
        for batch in order.split(BATCH):
            opt.zero_grad()
            loss = cross_entropy(model(train[batch]), labels[batch])
            loss.backward()
            opt.step()
            losses.append(loss.item())
        return float(np.mean(losses))

    return [epoch() for _ in range(EPOCHS)]


TRAININGS: dict[str, Callable[[Digits], Losses]] = {"fastoptim": ours, "numpy": plain, "torch-fused": torch}


def training(contender: str) -> Callable[[], Losses]:
    """A whole training as a step: it begins anew each time."""
    data = digits(SEED)
    return lambda: TRAININGS[contender](data)
