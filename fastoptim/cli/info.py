"""`fastoptim info`: what decides how fast the kernels are, and what a bug report should hold."""

import os
import platform
from importlib import import_module
from pathlib import Path

import llvmlite
import numba
import numpy as np
from llvmlite.binding import get_host_cpu_name

import fastoptim
from fastoptim.cli.arguments import OPTIMIZERS

# Numba's own modules by layer, in its order of preference; one that lacks its library does not import.
LAYERS = {"tbb": "tbbpool", "omp": "omppool", "workqueue": "workqueue"}


def run() -> int:
    rows = {
        "fastoptim": fastoptim.__version__,
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "NumPy": np.__version__,
        "Numba": f"{numba.__version__}, llvmlite {llvmlite.__version__}",
        "platform": platform.platform(),
        "processor": f"{_processor()}, for LLVM {get_host_cpu_name()}",
        "threads": _threads(),
        "threading layer": _threading_layer(),
        "kernel cache": _cache(),
        "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", "not set"),
        "CUDA": _cuda(),
    }
    width = max(map(len, rows))
    print("\n".join(f"{name:<{width}}  {value}" for name, value in rows.items()))
    return 0


def cache_folder() -> Path | None:
    """Where numba keeps the compiled kernels: all are made in one module, hence in one folder. None if it cannot."""
    path = next(iter(OPTIMIZERS.values())).kernels.cpu.stats.cache_path
    return None if path is None else Path(path)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _threads() -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    variable = os.environ.get("NUMBA_NUM_THREADS")
    return (
        f"{numba.config.NUMBA_NUM_THREADS} of {usable} usable cores (the machine has {os.cpu_count()}; "
        f"NUMBA_NUM_THREADS {'not set' if variable is None else f'= {variable}'})"
    )


def _threading_layer() -> str:
    available = ", ".join(layer for layer, module in LAYERS.items() if _imports(f"numba.np.ufunc.{module}"))
    try:
        numba.get_num_threads()  # starts them: numba chooses the layer then
        return f"{numba.threading_layer()} (available: {available})"
    except ValueError as error:  # the one that NUMBA_THREADING_LAYER names is not there
        return f"none (available: {available}): {' '.join(str(error).split())}"


def _imports(module: str) -> bool:
    try:
        import_module(module)
    except ImportError:
        return False
    return True


def _cache() -> str:
    folder = cache_folder()
    if folder is None:
        return "none: every process compiles anew"
    sizes = [file.stat().st_size for file in folder.glob("*.nbc")]
    return f"{folder} ({len(sizes)} kernels, {sum(sizes) / 1e6:.1f} MB)"


def _cuda() -> str:
    info = fastoptim.cuda_info()
    devices = [
        f"{device['name']} ({device['memory'] / 2**30:.0f} GiB, compute capability "
        f"{'.'.join(map(str, device['compute_capability']))})"
        for device in info["devices"]
    ]
    versions = [f"{name} {version}" for name, version in info["packages"].items() if version]
    found = f"driver for CUDA {info['driver']}, {', '.join(devices)}" if devices else info["problem"]
    return f"{found} ({', '.join(versions) or 'extra not installed'})"
