"""Where and with what a GPU's figures are measured, and why they cannot be."""

import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import fastoptim


def missing() -> str | None:
    """Why nothing can be measured here, if so."""
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0"):
        return "numba's simulator is switched on, which is no GPU: unset NUMBA_ENABLE_CUDASIM"
    info = fastoptim.cuda_info()
    if info["devices"]:
        return None
    return f"needs an NVIDIA GPU, found none: {' '.join(str(info['problem'] or 'the driver names none').split())}"


def machine() -> dict[str, Any]:
    """Where and with what it is measured."""
    info = fastoptim.cuda_info()
    first = info["devices"][0] if info["devices"] else {}
    found = {"python": platform.python_version(), "fastoptim": fastoptim.__version__}
    distributions = metadata.packages_distributions()
    for module in "numba", "numba_cuda", "llvmlite", "numpy", "torch", "cupy", "jax", "optax", "pytest":
        for name in sorted(set(distributions.get(module, ()))):
            found[name] = metadata.version(name)
    found |= {name: version for name, version in info["packages"].items() if version}
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "gpu": first.get("name", "unknown"),
        "gpus": info["devices"],
        "driver": _driver_version(),
        "cuda": info["driver"],
        "cpu": _cpu(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "versions": found,
    }


def _driver_version() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
        return lines[0].strip()
    except (OSError, subprocess.SubprocessError, LookupError):
        return "unknown"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
