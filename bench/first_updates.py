"""The first update ever, with nothing compiled, and the second: seconds, and how many kernels were compiled."""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.workloads import WORKLOADS

PROGRAM = f"""
import json, os
from pathlib import Path
from time import perf_counter, process_time
import numpy, fastoptim

cache = Path(os.environ["NUMBA_CACHE_DIR"])
shapes = {WORKLOADS["rl_mlp"].shapes}
params, *grads = ({{i: numpy.ones(shape, "float32") for i, shape in enumerate(shapes)}} for _ in range(3))
opt, found, before = fastoptim.Adam(), [], 0
for each in grads:
    cpu, wall = process_time(), perf_counter()
    opt.update(params, each)
    cpu, wall = process_time() - cpu, perf_counter() - wall
    kernels = len(list(cache.rglob("*.nbc")))
    found.append((cpu, wall, kernels - before))
    before = kernels
print(json.dumps(found))
"""

# By name, how a number is written
FIRST = {
    "first update, cold": "{:.2f} s",
    "second update, cold": "{:.4f} s",
    "kernels compiled for the first": "{:.0f}",
    "kernels compiled for the second": "{:.0f}",
}
COUNTS = [name for name in FIRST if name.startswith("kernels")]  # which are no times


def first_updates(checkout: Path) -> dict[str, tuple[float, float]]:
    """By the names of `FIRST`, CPU seconds and seconds on the clock; for kernels, their number twice."""
    with TemporaryDirectory() as empty:
        environment = os.environ | {"NUMBA_CACHE_DIR": empty, "PYTHONPATH": str(checkout)}
        command = [sys.executable, "-c", PROGRAM]
        done = subprocess.run(
            command, cwd=checkout, env=environment, check=True, text=True, stdout=subprocess.PIPE
        )  # Python looks into the working directory first
    first, second = json.loads(done.stdout)
    return dict(zip(FIRST, (first[:2], second[:2], first[2:] * 2, second[2:] * 2), strict=True))
