"""An optimizer and its reference side by side."""

import numpy as np

from fastoptim import FlatDict
from references import Reference
from support import LAYOUTS, assert_close, assert_state_close, random
from variants import VARIANTS, accepted


class Pair:
    """An optimizer and the reference beside it: what is done to one is done to both."""

    def __init__(self, cls, params, **options):
        options = accepted(cls, options)
        self.opt = cls(**{**VARIANTS[cls.__name__][0], **options})
        self.params, self.reference = params, Reference(self.opt, params, options)

    def assign(self, **options):
        for name, value in options.items():
            setattr(self.opt, name, value)
        self.reference.options |= options

    def update(self, grads):
        before = self.reference.stepped
        self.reference.update(grads)
        self.stepped = self.reference.stepped > before
        assert self.opt.update(self.params, grads) is None
        if self.reference.value("zero_grads"):
            frozen = self.reference.is_frozen
            assert all(not g.any() for name, g in grads.items() if g is not None and not frozen(name))

    def check(self):
        """Parameters, state, averages, sums and counts."""
        opt, reference = self.opt, self.reference
        assert (opt.iter, opt.skipped) == (reference.iter, reference.skipped)
        for name, p in self.params.items():
            assert_close(p, reference.params[name], name)
            if name in reference.steps:
                assert_state_close(opt, name, p, reference.state[name])
        self._check_averages()
        saved = opt.state_dict()
        assert saved["micro_steps"] == reference.micro_steps
        assert {name: count for name, count in saved["steps"].items() if count} == reference.steps
        for name, total in saved["gradients"].items():
            assert_close(total, reference.sums.get(name, np.zeros(total.shape)), f"sum of {name}")
        assert set(saved["gradients"]) >= set(reference.sums)
        self._check_norm()

    def _check_averages(self):
        if self.reference.value("ema") is None:
            assert self.opt.averages is None
            return
        averages = self.opt.averages
        assert type(averages) is FlatDict
        assert set(averages) >= set(self.reference.ema)
        for name, average in averages.items():  # one that has not begun may be there already, as the parameter
            assert (average.dtype, average.shape) == (self.params[name].dtype, self.params[name].shape)
            expected = self.reference.ema.get(name, self.reference.params[name])
            assert_close(average, expected, f"average of {name}")

    def _check_norm(self):
        """After a step with clipping: what it is after others is left open."""
        if self.reference.value("clip_norm") is not None and self.stepped:
            assert type(self.opt.grad_norm) is float
            dtype = min((p.dtype for p in self.params.values()), default=np.dtype(np.float64))
            assert_close(dtype.type(self.opt.grad_norm), self.reference.grad_norm, "norm")


def train(pair, rng):
    """With gradients that are in other orders, of other dtypes, late, missing or, where they are skipped, nan."""
    names = list(pair.params)
    for call in range(7):
        grads = {}
        for i, (name, p) in enumerate(pair.params.items()):
            dtype = (np.float32, np.float32, np.float64, np.float16)[i % 4]
            grads[name] = [*LAYOUTS.values()][(i + call) % 6](random(rng, p.shape, dtype))
        if call < 3:
            grads[names[2]] = None
        grads[names[7 + call]] = None
        if pair.reference.value("skip_nonfinite") and call % 2:
            grads[names[3]][...] = [np.nan, np.inf, -np.inf][call // 2]
        pair.update(grads)
        pair.check()
