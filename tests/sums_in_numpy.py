"""A step of an optimizer in NumPy by its own functions, to the bit: sums in the order of kernels/blocks.py."""

import numpy as np

from fastoptim.kernels.adapt import arguments_of
from support import scalars_of_step

BLOCK, PART, LANES = 4096, 1024, 128


def pairwise(lanes):
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = lanes[:half] + lanes[half:]
    return lanes[0]


def dealt_out(numbers):
    """The sum of numbers that are dealt out to lanes in turn."""
    lanes = np.zeros(LANES)
    for start in range(0, len(numbers), LANES):
        row = numbers[start : start + LANES]
        lanes[: len(row)] += row
    return pairwise(lanes)


def of_block(x):
    """The sum of a block: of its parts in the dtype of the numbers, and of what stands in each place in float64."""
    parts = np.zeros(PART, x.dtype)
    for start in range(0, len(x), PART):
        part = x[start : start + PART]
        parts[: len(part)] += part
    return dealt_out(parts.astype(np.float64))


def sum_of(x):
    """The sum of an array, in C order: of its blocks, and of each one's elements."""
    x = np.ravel(x)
    return dealt_out([of_block(x[start : start + BLOCK]) for start in range(0, len(x), BLOCK)])


def applied(rule, operands, numbers):
    """What a rule returns for arrays: of all elements at once or, where it decides by an element's value, of each."""
    try:
        returned = rule(*operands, *numbers)
        return returned if isinstance(returned, tuple) else (returned,)
    except ValueError:  # "the truth value of an array is ambiguous"
        each = [applied(rule, elements, numbers) for elements in zip(*map(np.ravel, operands), strict=True)]
        return [np.array(values, operands[0].dtype).reshape(operands[0].shape) for values in zip(*each, strict=True)]


def in_numpy(function):
    """The same function, with NumPy's root."""
    return type(function)(function.__code__, {**function.__globals__, "sqrt": np.sqrt}, function.__name__)


class InNumpy:
    """One array and its state, updated by an optimizer's own rules and functions.

    Attributes:
        elements: the parameter as "p", and the state by slot.
        numbers: those of the state that the array has one of, by slot.
    """

    def __init__(self, opt, p):
        self.opt, self.dtype, self.t = opt, p.dtype.type, 0
        self.elements = {"p": p} | {slot: np.zeros(p.shape, p.dtype) for slot in opt.slots}
        self.numbers = {slot: np.float64(0) for slot in opt.array_slots}

    def step(self, g):
        opt, self.t = self.opt, self.t + 1
        scalars = map(self.dtype, scalars_of_step(opt, self.t))
        known, given = dict(zip(opt.kernels.scalar_names, scalars, strict=True)), dict(self.numbers)
        for reduction in opt.reductions:
            returned = self._applied(reduction.rule, g, known | {name: self.dtype(x) for name, x in given.items()})
            own = [name for name in arguments_of(reduction.rule) if name in opt.slots]
            self.elements |= dict(zip(own, returned, strict=False))
            sums = dict(zip(reduction.sums, map(sum_of, returned[len(own) :]), strict=True))
            floats = {name: np.float64(x) for name, x in known.items()} | sums | {"size": float(g.size)}
            for function in reduction.functions:
                every = floats | given
                with np.errstate(all="ignore"):
                    result = in_numpy(function)(*(every[name] for name in arguments_of(function)))
                given[function.__name__] = np.float64(result)
        self.numbers = {slot: given[slot] for slot in self.numbers}
        returned = self._applied(opt.rule, g, known | {name: self.dtype(x) for name, x in given.items()})
        self.elements |= dict(zip(("p", *opt.slots), returned, strict=True))

    def _applied(self, rule, g, numbers):
        elements = self.elements | {"g": g}
        operands = [elements[name] for name in arguments_of(rule) if name in elements]
        return applied(in_numpy(rule), operands, [numbers[name] for name in arguments_of(rule) if name not in elements])
