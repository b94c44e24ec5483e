"""Programs in a process of their own, and the state in which a process allocates memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np

LARGEST = 31 * 2**20  # bytes: a little less than what glibc keeps at most

ROOT = Path(__file__).parents[1]


def run(program: str) -> str:
    """Run a program in a new Python, from its start to its end; what it printed."""
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE
    ).stdout


def keep_freed_memory() -> None:
    """Let malloc keep freed memory, as it does in every program that has worked for a while.

    glibc gives the memory of large arrays back to the system, up to the size of the largest that was ever freed (or 32
    MB). In a new process, NumPy's temporary arrays would come anew from the system in every operation, or not, as their
    addresses happen to lie: one step of Adam on 1M parameters took 2 ms or 16 ms.
    """
    np.ones(LARGEST, np.uint8)
