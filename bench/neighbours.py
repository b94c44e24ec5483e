"""Who else was at work: with too few free cores a parallel region waits, and figures mean nothing."""

import os
from collections.abc import Callable
from pathlib import Path

STAT = Path("/proc/stat")  # Linux
IDLE = (3, 4)  # of its columns: idle, and idle while waiting for a disk
COLUMNS = 8  # the rest is counted in these already


class Neighbours:
    """The part of the machine's CPU time that other processes, and other machines on the same host, have taken.

    Args:
        own: the CPU time of processes that belong to the measurement and still run.
    """

    def __init__(self, own: Callable[[], float] = lambda: 0.0) -> None:
        self._own = own
        self._start = self._seconds()

    def share(self) -> float | None:
        """Since this object was made, from 0 to 1. None if the system does not say."""
        if self._start is None or (now := self._seconds()) is None:
            return None
        total, idle, own = (after - before for before, after in zip(self._start, now, strict=True))
        return max(0.0, total - idle - own) / total if total else None

    def _seconds(self) -> tuple[float, float, float] | None:
        """All CPUs' seconds, those of them idle, and those that this process and its children have used."""
        try:
            ticks = [int(word) for word in STAT.read_text().split()[1 : 1 + COLUMNS]]
        except (OSError, ValueError):
            return None
        per_second, own = os.sysconf("SC_CLK_TCK"), sum(os.times()[:4]) + self._own()
        return sum(ticks) / per_second, sum(ticks[i] for i in IDLE) / per_second, own
