"""Programs in a process of their own: nothing is imported, compiled or allocated there yet."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(program: str) -> str:
    """Run a program in a new Python, from its start to its end; what it printed."""
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE
    ).stdout
