"""When work is divided among threads, and how that goes wrong: small arrays, forks, other libraries' threads."""

import os
import threading
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Any

import numba

# After a matrix product the threads of BLAS spin on, and a parallel region that waits for one of their cores takes some
# milliseconds. Up to so many elements nothing else takes so long; then one thread makes the next updates, which cannot
# change a bit, and after each further such wait twice as many.
CONTENDED_LIMIT, WAIT = 262_144, 0.001  # elements, seconds
PATIENCE = 64, 4096  # updates, at first and at most

_forked = False
_launch_lock = threading.Lock()
_alone, _patience = 0, PATIENCE[0]  # updates that one thread makes yet, and those after the next wait


def run(serial: Any, parallel: Any, size: int, limit: int, *arguments: Any) -> Any:
    """Call `serial(*arguments)`, or `parallel(*arguments, workers)` for more elements than the limit.

    Both have to give the same bits.
    """
    if size <= limit or (count := workers(size)) == 1:
        return serial(*arguments)
    start = perf_counter()
    with _launch():
        result = parallel(*arguments, count)
    if size <= CONTENDED_LIMIT:
        learn(perf_counter() - start)
    return result


def workers(size: int) -> int:
    """How many threads work on `size` elements."""
    global _alone
    if _forked:
        return 1
    if _alone > 0 and size <= CONTENDED_LIMIT:
        _alone -= 1
        return 1
    return int(numba.get_num_threads())


def learn(seconds: float) -> None:
    """Take into account how long a parallel region took in which there was little to do."""
    global _alone, _patience
    if seconds > WAIT:
        _alone, _patience = _patience, min(2 * _patience, PATIENCE[1])
    else:
        _patience = PATIENCE[0]


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
