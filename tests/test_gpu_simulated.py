"""The tests of arrays on a GPU, but those of the hardware, in numba's simulator, where there is no GPU."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from support import ROOT, python


@pytest.mark.skipif(find_spec("numba_cuda") is None, reason="needs numba-cuda: pip install 'fastoptim[cuda13]'")
@pytest.mark.parametrize("module", ["test_gpu", "test_gpu_options", "test_gpu_low_precision", "test_gpu_rows"])
def test_in_the_simulator(module):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(ROOT / "tests" / f"{module}.py")],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}, capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    assert "passed" in done.stdout


NO_PACKAGE = """
import sys
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "numba_cuda" else find_spec(name, *rest)
import numpy as np
import fastoptim
class OnGpu:
    __cuda_array_interface__ = {"shape": (3,), "typestr": "<f4", "data": (64, False), "version": 3}
def message(call):
    try:
        call()
    except RuntimeError as error:
        return str(error)
print(message(lambda: fastoptim.flatten({"p": np.ones(3)}, device="cuda")))
print(message(lambda: fastoptim.SGD().update({"p": OnGpu()}, {"p": OnGpu()})))
print(message(lambda: fastoptim.SGD().to("cuda")))
print(message(lambda: fastoptim.SGD.kernels.cuda))
print(fastoptim.cuda_info()["extra"])
"""


def test_without_the_extra_the_error_says_what_to_install():
    lines = python(NO_PACKAGE).splitlines()
    assert all("pip install 'fastoptim[cuda12]'" in line and "cuda13" in line for line in lines[:4])
    assert lines[4] == "False"
