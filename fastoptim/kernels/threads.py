"""When work is divided among threads, and how that goes wrong: small arrays, forks, other libraries' threads."""

import os
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numba

# After a matrix product the threads of BLAS spin on, and a parallel region that waits for one of their cores takes some
# milliseconds. Other processes on the machine have the same effect. So the regions' time is compared with what one
# thread would need. If they take longer, one thread makes the next updates, which changes no bit. After each further
# attempt that fails, it makes twice as many.
WAIT = 0.0005  # seconds: shorter regions are no reason to change anything
SLOWER = 1.25  # times what one thread needs: less is noise
PATIENCE = 8, 4096  # updates, at first and at most
PACE = 1e-9  # seconds an element on one thread, before it is measured: a wrong guess costs a few updates, which teach
MEMORY = 0.25  # how much a new measurement counts beside those before

_forked = False
_launch_lock = threading.Lock()


@dataclass(slots=True)
class Contention:
    """What was learned about one pass.

    Attributes:
        alone: how many more updates one thread makes.
        patience: how many it will make after the next failed attempt with all threads.
        pace: seconds an element on one thread.
        region: seconds of a parallel region, averaged over the last ones.
    """

    alone: int = 0
    patience: int = PATIENCE[0]
    pace: float = PACE
    region: float | None = None

    def learn_serial(self, seconds: float, elements: int) -> None:
        """Take into account how long one thread took."""
        pace = seconds / elements
        self.pace = pace if self.pace == PACE else min(self.pace + MEMORY * (pace - self.pace), 2 * pace)

    def learn_parallel(self, seconds: float, elements: int) -> None:
        """Take into account how long a parallel region took."""
        self.region = seconds if self.region is None else self.region + MEMORY * (seconds - self.region)
        if self.region > max(WAIT, SLOWER * self.pace * elements):
            self.alone, self.patience = self.patience, min(2 * self.patience, PATIENCE[1])
            self.region = None
        else:
            self.patience = PATIENCE[0]


_contention: dict[Any, Contention] = {}


def run(serial: Any, parallel: Any, launch: int, key: Any, elements: int) -> None:
    """Call `serial(launch, 1)`, or `parallel(launch, workers)`. Both give the same bits.

    Args:
        serial: the launcher for one thread.
        parallel: that for all threads.
        launch: the address of what they have to call.
        key: tells apart what differs in speed.
        elements: how many there are, at least one.
    """
    if _forked or (workers := int(numba.get_num_threads())) == 1:
        serial(launch, 1)
        return
    key = key, elements.bit_length()  # small arrays say nothing of large ones
    known = _contention.get(key)
    if known is None:
        known = _contention[key] = Contention()
    start = perf_counter()
    if known.alone > 0:
        known.alone -= 1
        serial(launch, 1)
        known.learn_serial(perf_counter() - start, elements)
    else:
        with _launch():
            parallel(launch, workers)
        known.learn_parallel(perf_counter() - start, elements)


def _after_fork_in_child() -> None:
    # GNU OpenMP kills a forked child that enters a parallel region once its parent has, and numba's workqueue has lost
    # its threads there. One thread gives the same bits.
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_after_fork_in_child)


def _launch() -> AbstractContextManager[Any]:
    """Held while a parallel region runs where two of them at once would abort the process.

    Numba chooses its threading layer at the first launch; until then nobody knows whether it is a safe one.
    """
    try:
        return _launch_lock if numba.threading_layer() == "workqueue" else nullcontext()
    except ValueError:  # no launch yet
        return _launch_lock
