"""The steps of an optimizer with sums over arrays in plain NumPy."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastoptim import Optimizer, Reduction
from fastoptim.kernels.adapt import arguments_of
from fastoptim.kernels.vectorize import in_place, on_arrays

Array = np.ndarray[Any, Any]


class PlainSums:
    """Makes the steps of an optimizer that has reductions; see `PlainNumpy`.

    NumPy adds in an order of its own, and in the arrays' dtype. So the last bits may differ from those of the kernels.
    """

    def __init__(self, optimizer: Optimizer, params: Mapping[Any, Array]) -> None:
        self.params, self._scalars = params, optimizer.successive_scalars()
        self._names, slots = optimizer.kernels.scalar_names, optimizer.slots
        self._sums = [Summed(each, slots) for each in optimizer.reductions]
        self._rule, self._arguments = in_place(optimizer.rule, len(slots)), arguments_of(optimizer.rule)
        self._state = {name: {slot: np.zeros_like(param) for slot in slots} for name, param in params.items()}
        self._numbers: dict[Any, dict[str, Any]] = {name: dict.fromkeys(optimizer.array_slots, 0.0) for name in params}

    def update(self, grads: Mapping[Any, Array]) -> None:
        """Make a step."""
        numbers = next(self._scalars)
        by_dtype = {
            dtype: {name: dtype(number) for name, number in zip(self._names, numbers, strict=True)}
            for dtype in {param.dtype.type for param in self.params.values()}
        }
        elements = {name: {"p": p, "g": grads[name], **self._state[name]} for name, p in self.params.items()}
        known = {name: by_dtype[p.dtype.type] | self._numbers[name] for name, p in self.params.items()}
        for summed in self._sums:
            for name, results in summed.results(elements, known).items():
                dtype = self.params[name].dtype.type
                known[name] |= {key: dtype(number) for key, number in results.items()}
                self._numbers[name] |= {key: x for key, x in results.items() if key in self._numbers[name]}
        for name, arrays in elements.items():
            every = known[name] | arrays
            self._rule(*(every[argument] for argument in self._arguments))


class Summed:
    """A reduction in plain NumPy."""

    def __init__(self, reduction: Reduction, slots: tuple[str, ...]) -> None:
        self._reduction, self._rule = reduction, on_arrays(reduction.rule)
        self._arguments = arguments_of(reduction.rule)
        self._written = [name for name in self._arguments if name in slots]

    def results(self, elements: Mapping[Any, Any], known: Mapping[Any, dict[str, Any]]) -> dict[Any, dict[str, float]]:
        """Update the state that its rule names, and return the results of its functions by name of the array.

        Args:
            elements: parameter, gradient and state of each array.
            known: its numbers, and those of the step.
        """
        sums, sizes = dict[Any, list[float]](), {name: arrays["p"].size for name, arrays in elements.items()}
        for name, arrays in elements.items():
            every = known[name] | arrays
            returned = self._rule(*(every[argument] for argument in self._arguments))
            values = returned if isinstance(returned, tuple) else (returned,)
            for slot, value in zip(self._written, values, strict=False):
                arrays[slot][...] = value
            sums[name] = [float(value.sum()) for value in values[len(self._written) :]]
        if self._reduction.over_all and sums:
            of_all: list[float] = [sum(each) for each in zip(*sums.values(), strict=True)]
            sums = dict.fromkeys(sums, of_all)
            sizes = dict.fromkeys(sizes, sum(sizes.values()))
        return {name: self._of_sums(sums[name], sizes[name], known[name]) for name in sums}

    def _of_sums(self, sums: list[float], size: int, known: dict[str, Any]) -> dict[str, float]:
        found: dict[str, Any] = known | dict(zip(self._reduction.sums, sums, strict=True)) | {"size": size}
        for function in self._reduction.functions:
            with np.errstate(all="ignore"):
                found[function.__name__] = float(function(*(found[argument] for argument in arguments_of(function))))
        return {name: found[name] for name in self._reduction.results}
