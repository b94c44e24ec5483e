"""Fixtures that several modules use, and how a run of the whole suite is divided among the cores.

Where pytest-xdist is installed, `python -m pytest` divides the suite's files among as many processes as the machine has
cores. A selection of tests runs in one process, and so does everything with `-n 0`.
"""

import os

# NumPy reads it when it is imported. The processes of the suite use all cores: more threads would wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import gc
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from support import ROOT

os.environ.setdefault("FASTOPTIM_QUIET", "1")  # tests look at what programs print, and compile while they do

# Files that take long are begun first, so that the last of them does not run while other cores have nothing to do.
LONGEST = [
    *(
        "test_documents_guides",
        "test_gpu_simulated",
        "test_documents_porting",
        "test_cuda_code",
        "test_code",
        "test_cache",
        "test_moved_arrays",
        "test_programs",
    ),
    *("test_staged", "test_resume", "test_checkpoint_file"),
]


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def few_objects():
    """Has the garbage collector look at new objects alone: JAX and PyTorch leave millions, which take it a second."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def threads():
    """Sets numba's number of threads until the end of the test."""
    before = numba.get_num_threads()
    yield numba.set_num_threads
    numba.set_num_threads(before)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    option = config.option
    if not config.pluginmanager.hasplugin("xdist") or hasattr(config, "workerinput"):
        return
    if option.numprocesses is None and option.dist == "no" and _is_whole_suite(config):
        option.numprocesses = "auto"
    if option.numprocesses:
        if option.dist == "no":
            option.dist = "loadfile"  # the tests of a file share what they have compiled
        option.loadscopereorder = False  # keeps the order that is made below
        option.benchmark_disable = True  # nothing here is measured, and pytest-benchmark warns of several processes


def _is_whole_suite(config):
    option = config.option
    selected = option.keyword or option.markexpr or getattr(option, "lf", False) or option.usepdb or option.collectonly
    return not selected and all(Path(argument).resolve() == ROOT / "tests" for argument in config.args)


def pytest_collection_modifyitems(items):
    order = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session):
    """Compile what most files need, once and on all cores, before several processes look for it at the same time."""
    processes = session.config.option.tx if session.config.pluginmanager.hasplugin("xdist") else []
    if len(processes) > 1:
        parts = [
            subprocess.Popen([sys.executable, ROOT / "tests" / "compile_kernels.py", str(i), str(len(processes))])
            for i in range(len(processes))
        ]
        for part in parts:  # what failed is compiled again in a test, which says why
            part.wait()
