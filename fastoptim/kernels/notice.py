"""One line in the log when a kernel is being compiled for longer than a second, so that nobody thinks it hangs."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer

logger = logging.getLogger("fastoptim")
PATIENCE = 1.0  # seconds


@contextmanager
def compiling(what: str, *, kept: bool) -> Iterator[None]:
    """Within it, something is compiled. If that takes longer than a second, log it, once, while it lasts.

    The level is WARNING, so that it is seen on stderr where logging is not configured. `FASTOPTIM_QUIET=1` turns it
    off.

    Args:
        what: is compiled.
        kept: whether other processes will find it in the cache.
    """
    if os.environ.get("FASTOPTIM_QUIET", "0") not in ("", "0") or not logger.isEnabledFor(logging.WARNING):
        yield
        return
    when = "once; then cached" if kept else "in every process: it cannot be cached"
    timer = Timer(PATIENCE, logger.warning, ("fastoptim: compiling %s (%s)", what, when))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
