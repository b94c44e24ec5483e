"""A multi-layer perceptron in plain NumPy: what an optimizer meets in a framework of one's own.

Each layer keeps its own reference to its arrays and never asks for them again. That is why an optimizer has to update
them in place: a new array in the params dict would never reach the layer.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Dense:
    """A fully connected layer: `x @ weight + bias`."""

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator) -> None:
        deviation = np.sqrt(2 / inputs)  # He et al. 2015: keeps the variance through layers with ReLU
        self.weight: Array = rng.normal(0, deviation, (inputs, outputs)).astype(np.float32)
        self.bias: Array = np.zeros(outputs, np.float32)
        self.weight_grad, self.bias_grad = np.zeros_like(self.weight), np.zeros_like(self.bias)

    def forward(self, x: Array) -> Array:
        self._x = x
        return np.asarray(x @ self.weight + self.bias)

    def backward(self, grad: Array) -> Array:
        """Write the gradients of weight and bias; return that of the input."""
        np.matmul(self._x.T, grad, out=self.weight_grad)
        np.sum(grad, axis=0, out=self.bias_grad)
        return np.asarray(grad @ self.weight.T)


class Relu:
    """Zero for what is negative."""

    def forward(self, x: Array) -> Array:
        self._active = x > 0
        return x * self._active

    def backward(self, grad: Array) -> Array:
        return grad * self._active


class Network:
    """Dense layers with ReLU between them, for classification by softmax and cross-entropy.

    Attributes:
        params, grads: the layers' own arrays by name (`W1`, `b1`, ...), as `Optimizer.update` takes them.
    """

    def __init__(self, sizes: Sequence[int], rng: np.random.Generator) -> None:
        dense = [Dense(inputs, outputs, rng) for inputs, outputs in pairwise(sizes)]
        self._layers: list[Dense | Relu] = []
        self.params: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}
        for i, layer in enumerate(dense, start=1):
            self._layers += [layer, Relu()] if i < len(dense) else [layer]
            self.params |= {f"W{i}": layer.weight, f"b{i}": layer.bias}
            self.grads |= {f"W{i}": layer.weight_grad, f"b{i}": layer.bias_grad}

    def logits(self, x: Array) -> Array:
        for layer in self._layers:
            x = layer.forward(x)
        return x

    def loss(self, x: Array, labels: Array) -> float:
        """The mean cross-entropy of a batch; its gradients are in `grads` afterwards."""
        logits = self.logits(x)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
        rows = np.arange(len(labels))
        loss = -np.log(np.maximum(probabilities[rows, labels], np.finfo(np.float32).tiny)).mean()
        probabilities[rows, labels] -= 1
        grad = probabilities / np.float32(len(labels))
        for layer in reversed(self._layers):
            grad = layer.backward(grad)
        return float(loss)

    def accuracy(self, x: Array, labels: Array) -> float:
        return float((self.logits(x).argmax(axis=1) == labels).mean())
