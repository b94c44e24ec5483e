"""One line in the log when a kernel is being compiled for longer than a second, so that nobody thinks it hangs."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Timer
from typing import Any
from weakref import WeakKeyDictionary

from numba.core import event

logger = logging.getLogger("fastoptim")
PATIENCE = 1.0  # seconds


class _Listener(event.Listener):  # type: ignore[misc]  # numba's class is Any to mypy
    """Is told by numba when a function is compiled: not when it is loaded from the cache."""

    def __init__(self) -> None:
        self.descriptions: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        self._timers: dict[int, Timer] = {}

    def on_start(self, started: Any) -> None:
        dispatcher = started.data["dispatcher"]
        what = self.descriptions.get(dispatcher)
        if what is not None:
            self._timers[id(started.data)] = _timer(what, kept=dispatcher.stats.cache_path is not None)

    def on_end(self, ended: Any) -> None:
        timer = self._timers.pop(id(ended.data), None)
        if timer is not None:
            timer.cancel()


_listener = _Listener()
event.register("numba:compile", _listener)


def announce(dispatcher: Any, what: str) -> None:
    """Have the compilations of a function of numba's logged where they take long.

    Args:
        dispatcher: what `numba.njit` returned.
        what: a description of it.
    """
    _listener.descriptions[dispatcher] = what


@contextmanager
def compiling(what: str) -> Iterator[None]:
    """Within it, something is compiled that no other process will find in a cache. Log it where that takes long."""
    timer = _timer(what, kept=False)
    try:
        yield
    finally:
        timer.cancel()


def _timer(what: str, *, kept: bool) -> Timer:
    """Starts to wait. If it is not cancelled within a second, it writes a line to the log.

    The level is WARNING, so that the line is seen on stderr where logging is not configured. `FASTOPTIM_QUIET=1` turns
    it off.
    """
    when = "once; then cached" if kept else "in every process: it cannot be cached"
    timer = Timer(PATIENCE, logger.warning, ("fastoptim: compiling %s (%s)", what, when))
    timer.daemon = True
    if os.environ.get("FASTOPTIM_QUIET", "0") in ("", "0") and logger.isEnabledFor(logging.WARNING):
        with suppress(RuntimeError):  # no new thread: the system allows no more, or the interpreter shuts down
            timer.start()
    return timer
