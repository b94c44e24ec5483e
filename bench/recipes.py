"""What a step computes: each optimizer alone, and Adam with all that a training loop has around it."""

from collections.abc import Callable, Collection
from functools import partial
from typing import NamedTuple

import fastoptim
from bench.ceiling import Traffic
from bench.options import options
from fastoptim import Optimizer, schedules


class Recipe(NamedTuple):
    """One of our optimizers and its options: contenders translate them.

    Attributes:
        what: what it consists of.
        make: a new optimizer.
        works: the workloads that it suits, or None for all.
    """

    what: str
    make: Callable[[], Optimizer]
    works: Collection[str] | None = None

    def suits(self, work: str) -> bool:
        """Whether this workload takes it."""
        return self.works is None or work in self.works

    @property
    def traffic(self) -> Traffic:
        """What a step has to read and write, in all of its passes."""
        optimizer = self.make()
        h, used = options(optimizer), [stage.used for stage in optimizer.stages]
        read, written = (sum(map(len, names)) for names in zip(*used, strict=True))
        updates = written + (h.ema is not None)
        return Traffic(updates, reads=read - written + (h.clip_norm is not None))


_PUBLIC = (getattr(fastoptim, name) for name in fastoptim.__all__)
_FOUND = [x for x in _PUBLIC if isinstance(x, type) and issubclass(x, Optimizer) and x is not Optimizer]
_WHOLE = partial(fastoptim.Adam, eps_hat=False, clip_norm=1.0, weight_decay=0.01, decoupled=True, ema=0.999)


def _training_loop() -> Optimizer:
    """Everything that the README's loop switches on: networks have biases, which do not decay."""
    lr = schedules.warmup(schedules.cosine(1e-3, steps=10_000), steps=500)
    return _WHOLE(lr=lr, groups={"b*": {"weight_decay": 0.0}})


EACH = {x.__name__.lower(): Recipe(x.__name__, x) for x in _FOUND}
RECIPES = EACH | {
    "whole step": Recipe("clip + AdamW + EMA", _WHOLE),
    "training loop": Recipe("clip + AdamW + groups + EMA + schedule", _training_loop, ("mnist_mlp", "rl_mlp")),
}
