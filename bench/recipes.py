"""What a step computes: each optimizer alone, and Adam with all that a training loop has around it."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import fastoptim
from bench.ceiling import Traffic
from bench.options import options
from fastoptim import Optimizer


class Recipe(NamedTuple):
    """One of our optimizers and its options: contenders translate them.

    Attributes:
        what: what it consists of.
        make: a new optimizer.
    """

    what: str
    make: Callable[[], Optimizer]

    @property
    def traffic(self) -> Traffic:
        """What a step has to read and write."""
        optimizer = self.make()
        h = options(optimizer)
        return Traffic(updates=1 + len(optimizer.slots) + (h.ema is not None), reads=1 + (h.clip_norm is not None))


_PUBLIC = (getattr(fastoptim, name) for name in fastoptim.__all__)
_FOUND = [x for x in _PUBLIC if isinstance(x, type) and issubclass(x, Optimizer) and x is not Optimizer]
_WHOLE = partial(fastoptim.Adam, eps_hat=False, clip_norm=1.0, weight_decay=0.01, decoupled=True, ema=0.999)
_ALL = {x.__name__.lower(): Recipe(x.__name__, x) for x in _FOUND} | {
    "whole step": Recipe("clip + AdamW + EMA", _WHOLE)
}
# by traffic: those that share a ceiling follow each other
RECIPES = dict(sorted(_ALL.items(), key=lambda item: (item[1].traffic, item[0])))
