"""What is updated: lists of array shapes, from one huge array to a handful of tiny ones."""

from functools import cached_property
from itertools import count, pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
Shape = tuple[int, ...]

TURNS = 4  # sets of gradients
LARGE = 100_000  # elements from which the sets share one memory
BLOCK = 2**20  # elements after which random numbers repeat: to draw 50 million takes longer than a step


class Data(NamedTuple):
    """Parameters, and the gradients that the steps take in turn."""

    params: Arrays
    grads: tuple[Arrays, ...]


class Workload:
    """Arrays of float32 that one step updates.

    Args:
        title: its name in tables and charts.
        what: what it consists of.
        shapes: the shapes of its arrays.
    """

    def __init__(self, title: str, what: str, shapes: list[Shape]) -> None:
        self.title, self.what, self.shapes = title, what, shapes

    @cached_property
    def size(self) -> int:
        """The number of elements."""
        return sum(map(prod, self.shapes))

    @property
    def named(self) -> dict[str, Shape]:
        """The shapes by the names `W1`, `b1`, `W2`, ...: a vector is taken for a bias."""
        weights, biases = count(1), count(1)
        return {f"W{next(weights)}" if len(shape) > 1 else f"b{next(biases)}": shape for shape in self.shapes}

    def data(self) -> Data:
        """Parameters and gradients in new arrays.

        A NumPy training loop makes new gradient arrays in every step. Here the steps take turns with several dicts of
        them, so that nobody can profit from having seen the same arrays in the step before. They are allocated
        separately, but for large workloads: there they are different array objects over the same memory, as malloc
        gives memory out again. More of it would overflow a cache in which parameters, gradients and state just fit,
        for those contenders alone that take new gradients.
        """
        random = np.random.default_rng(0)

        def arrays() -> Arrays:
            return {name: _random(random, shape) for name, shape in self.named.items()}

        params, grads = arrays(), [arrays()]
        while len(grads) < TURNS:
            again = {name: grad.view() for name, grad in grads[0].items()}
            grads.append(again if self.size > LARGE else arrays())
        return Data(params, tuple(grads))


def _random(random: np.random.Generator, shape: Shape) -> Array:
    size = prod(shape)
    return np.resize(random.standard_normal(min(size, BLOCK), np.float32), size).reshape(shape)


def mlp(*widths: int) -> list[Shape]:
    """Weights and biases of a multi-layer perceptron."""
    return [shape for pair in pairwise(widths) for shape in (pair, pair[1:])]


def resnet50() -> list[Shape]:
    """The parameters of torchvision's `resnet50`, in its order (He et al. 2015, https://arxiv.org/abs/1512.03385)."""

    def convolution(inputs: int, outputs: int, kernel: int) -> list[Shape]:
        return [(outputs, inputs, kernel, kernel), (outputs,), (outputs,)]  # and its batch norm's weight and bias

    shapes, inputs = convolution(3, 64, 7), 64
    for blocks, width in (3, 64), (4, 128), (6, 256), (3, 512):
        for block in range(blocks):
            shapes += convolution(inputs, width, 1) + convolution(width, width, 3) + convolution(width, 4 * width, 1)
            if block == 0:
                shapes += convolution(inputs, 4 * width, 1)  # brings the shortcut to the new width
            inputs = 4 * width
    return [*shapes, (1000, inputs), (1000,)]


def gpt2_block(width: int) -> list[Shape]:
    """One of the equal blocks of GPT-2 (Radford et al. 2019), whose weights have a row for each input.

    Args:
        width: 768 in the smallest model, which has twelve of them.
    """
    norm = [(width,), (width,)]
    attention, wide = [*mlp(width, 3 * width), *mlp(width, width)], mlp(width, 4 * width, width)
    return [*norm, *attention, *norm, *wide]


WORKLOADS = {
    "flat_50m": Workload("50M flat", "50,000,000 parameters in one array", [(50_000_000,)]),
    "flat_1m": Workload("1M flat", "1,000,000 parameters in one array", [(1_000_000,)]),
    "resnet50": Workload("ResNet-50", "25,557,032 parameters in 161 arrays", resnet50()),
    # A quarter of GPT-2's width: PyTorch's Muon computes in bfloat16, which takes most CPUs minutes at its own.
    "gpt2_block": Workload("GPT-2 block, narrow", "444,864 parameters in 12 arrays", gpt2_block(192)),
    "many_200": Workload("200 arrays", "200 arrays of 100 x 100", [(100, 100)] * 200),
    "mnist_mlp": Workload("MNIST MLP", "39,760 parameters in 4 arrays", mlp(784, 50, 10)),
    "rl_mlp": Workload("RL MLP", "4,610 parameters in 6 arrays", mlp(4, 64, 64, 2)),
}
