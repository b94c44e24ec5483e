"""Every optimizer's formula in float64 NumPy, slow and obvious: what the kernels are held against.

A formula takes the parameter, the gradient, the state by slot, the step (1 is the first) and the hyperparameters, and
returns the new parameter and state, which may hold more than the slots. The formulas stand in `formulas_*.py`. What
every optimizer takes beside them is done pass after pass in `Reference`.
"""

from fnmatch import fnmatchcase
from functools import partial

import numpy as np

import formulas_adam
import formulas_averaging
import formulas_matrices
import formulas_of_arrays
import formulas_plain
import formulas_together
from fastoptim import schedules
from support import OPTIMIZERS, state_shapes
from variants import changed_options, own_hyperparameters

FILES = formulas_plain, formulas_adam, formulas_averaging, formulas_of_arrays, formulas_matrices, formulas_together
REFERENCES = {name: formula for file in FILES for name, formula in file.FORMULAS.items()}
# The optimizers that are compared with their formula. For any other one test fails, and says so:
# `test_every_optimizer_has_a_reference`.
WITH_REFERENCE = [cls for cls in OPTIMIZERS if cls.__name__ in REFERENCES]

# The options that every optimizer takes beside its own hyperparameters, and the defaults, with which they are off.
OPTIONS = {
    "weight_decay": 0.0,
    "decoupled": False,
    "cautious": False,
    "bounds": None,
    "nonnegative": False,
    "clip_norm": None,
    "clip_value": None,
    "grad_scale": 1.0,
    "skip_nonfinite": False,
    "accumulate": 1,
    "ema": None,
    "maximize": False,
    "zero_grads": False,
    "groups": None,
    "frozen": (),
}

# Each of them by itself, but that what is decoupled has to be something. Names end in 1 or do not, or begin with b.
GROUPS = {
    "b*": {"lr": 0.004, "weight_decay": 0.3, "nonnegative": False, "bounds": (None, 1.5)},
    "*[!1]": {"lr": schedules.linear(0, 0.05, steps=4)},
    "*": {"lr": 7},
}
ALONE = {
    "weight_decay": {"weight_decay": 0.3},
    "decoupled": {"weight_decay": 0.3, "decoupled": True},
    "cautious": {"cautious": True},
    "bounds": {"bounds": (-0.5, 0.75)},
    "nonnegative": {"nonnegative": True},
    "clip_norm": {"clip_norm": 0.7},
    "clip_value": {"clip_value": 0.4},
    "grad_scale": {"grad_scale": 3.0},
    "skip_nonfinite": {"skip_nonfinite": True},
    "accumulate": {"accumulate": 3},
    "ema": {"ema": 0.8},
    "maximize": {"maximize": True},
    "zero_grads": {"zero_grads": True},
    "groups": {"groups": GROUPS},
    "frozen": {"frozen": ("*[02s]",)},  # one name at least of those that tests have
}
# Some together, which takes fewer loops to be compiled: tests have these for few optimizers, and each alone for Adam.
SEVERAL = {
    "decay and norm": ("weight_decay", "clip_norm", "skip_nonfinite", "cautious"),
    "decoupled decay and averages": ("decoupled", "ema", "groups", "bounds"),
    "sums of gradients": ("clip_value", "grad_scale", "maximize", "accumulate", "zero_grads", "nonnegative", "frozen"),
}
SEVERAL = {key: {k: v for name in names for k, v in ALONE[name].items()} for key, names in SEVERAL.items()}
EVERYTHING = {"lr": schedules.exponential(0.02, 0.8)} | {k: v for case in ALONE.values() for k, v in case.items()}
del EVERYTHING["frozen"]  # which is no part of a step; see test_frozen for the two together


def norm_of(gradients):
    """The 2-norm of all elements, of which none is squared as it is, since that might overflow."""
    largest = max((np.abs(g).max() for g in gradients if g.size), default=0.0)
    if not 0 < largest < np.inf:
        return float(sum(np.abs(g).sum() for g in gradients))  # 0, inf or nan
    return float(largest * np.sqrt(sum(np.sum((g / largest) ** 2) for g in gradients)))


class Values:
    """The hyperparameters as they are for one parameter at one step: `values.lr`."""

    def __init__(self, look_up):
        self._look_up = look_up

    def __getattr__(self, name):
        return self._look_up(name)


class Reference:
    """Runs a reference beside an optimizer: float64 copies of the parameters, updated with the same gradients.

    Args:
        opt: the optimizer, asked for its own hyperparameters alone.
        params: copied.
        options: those of `OPTIONS` that are not off, and hyperparameters, which then need not be asked for; write into
            it, or have another one, when an attribute of the optimizer is assigned.

    One call of `update` is a sequence of passes, each of them over all that has a gradient.
    """

    def __init__(self, opt, params, options=None):
        cls = type(opt)
        self.opt, self.formula, self.own = opt, REFERENCES[cls.__name__], own_hyperparameters(cls)
        self.defaults = {name: value for name, value in OPTIONS.items() if name not in self.own} | changed_options(cls)
        self.options = dict(options or {})
        self.params, self.state, self.shared, self.dtypes = {}, {}, {}, {}
        self.steps, self.ema, self.sums = {}, {}, {}
        self.micro_steps = {}
        self.skipped = self.stepped = 0  # how many calls made no step, and how many steps were made
        self.scheduled = 0  # the step that schedules see
        self.grad_norm = None
        self.add(params)

    @property
    def iter(self):
        """The largest count of steps of all names."""
        return max(self.steps.values(), default=0)

    def add(self, params):
        """Parameters that appear later."""
        for name, p in params.items():
            self.params[name], self.dtypes[name] = np.array(p, np.float64), p.dtype
            self.state[name] = {slot: np.zeros(own) for slot, own in state_shapes(self.opt, name, p.shape).items()}

    def value(self, what, name=None):
        """A hyperparameter or option at this step, for one name."""
        groups = self.options.get("groups") or {}
        group = next((values for pattern, values in groups.items() if fnmatchcase(str(name), pattern)), {})
        chosen = {**self.defaults, **self.options, **(group if name is not None else {})}
        matrices = self.opt.matrices
        if matrices and name is not None and not self.opt.is_matrix(name, self.params[name].shape):
            what = matrices.for_others.get(what, what)
        value = chosen[what] if what in chosen else getattr(self.opt, what)
        return value(self.scheduled) if callable(value) else value

    def option(self, what, name):
        """An option that may differ by name. It is off where the optimizer has a hyperparameter of that name."""
        return OPTIONS[what] if what in self.own else self.value(what, name)

    def is_frozen(self, name):
        patterns = self.value("frozen")
        return any(fnmatchcase(str(name), x) for x in ([patterns] if isinstance(patterns, str) else patterns))

    def update(self, grads):
        with np.errstate(all="ignore"):
            names = [name for name in self.params if not self.is_frozen(name)]
            self._update({name: grads[name] for name in names if grads[name] is not None}, names)

    def _update(self, grads, names):
        grads = {name: np.asarray(g).astype(self.dtypes[name]).astype(np.float64) for name, g in grads.items()}

        if self.value("skip_nonfinite") and not all(np.isfinite(g).all() for g in grads.values()):
            self.skipped += 1
            return

        for name, g in grads.items():
            self.sums[name] = self.sums.get(name, 0) + g / self.value("grad_scale")
        due = {}
        for name in names:
            self.micro_steps[name] = self.micro_steps.get(name, 0) + 1
            if self.micro_steps[name] >= self.value("accumulate"):
                due.setdefault(self.micro_steps.pop(name), []).append(name)
        for count, names in sorted(due.items()):
            self._step({name: self.sums.pop(name) / count for name in names if name in self.sums})

    def _step(self, grads):
        self.scheduled = max((self.steps.get(name, 0) for name in grads), default=0)
        self.stepped += 1
        clip_norm = self.value("clip_norm")
        if clip_norm is not None:
            self.grad_norm = norm_of(grads.values())
            grads = {name: g * np.minimum(1, clip_norm / (self.grad_norm + 1e-6)) for name, g in grads.items()}

        for name, g in grads.items():
            clip_value = self.option("clip_value", name)
            if clip_value is not None:
                grads[name] = np.clip(g, -clip_value, clip_value)

        for name, g in grads.items():
            if self.option("maximize", name):
                grads[name] = -g

        before = {name: self.params[name] for name in grads}
        for name, g in grads.items():
            decay = self.option("weight_decay", name)
            if decay == 0:
                continue
            if self.option("decoupled", name):
                self.params[name] = before[name] - self.value("lr", name) * decay * before[name]
            else:
                grads[name] = g + decay * before[name]

        for name, (new, state) in self._updated(grads).items():
            self.state[name], p, g = state, self.params[name], grads[name]
            if self.value("cautious"):
                new = np.where((p - new) * np.sign(g) <= 0, p, new)
            low, high = self.value("bounds", name) or (None, None)
            new = np.clip(new, -np.inf if low is None else low, np.inf if high is None else high)
            self.params[name] = np.maximum(new, 0) if self.value("nonnegative", name) else new

        ema = self.value("ema")
        if ema is None:
            self.ema = {}
        else:
            for name in grads:
                average = self.ema.get(name, before[name])
                self.ema[name] = average + (1 - ema) * (self.params[name] - average)

    def _updated(self, grads):
        """What the formula makes of each name's parameter and state. The step is counted."""
        arrays = {}
        for name, g in grads.items():
            self.steps[name] = self.steps.get(name, 0) + 1
            values = Values(partial(self.value, name=name))
            arrays[name] = self.params[name], g, self.state[name], self.steps[name], values
        if self.formula not in formulas_together.FORMULAS.values():
            return {name: self.formula(*array) for name, array in arrays.items()}
        found, self.shared = self.formula(arrays, self.shared) if arrays else ({}, self.shared)
        self.state = {name: own | self.shared if name in self.steps else own for name, own in self.state.items()}
        return {name: (p, own | self.shared) for name, (p, own) in found.items()}
