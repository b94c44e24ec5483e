"""What has to hold on a GPU besides speed: the tests, one launch an update, the CPU's bits, graphs, no bad accesses."""

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

import fastoptim
from bench.workloads import WORKLOADS, Arrays, Shape

ADAM = fastoptim.Adam
ROOT = Path(__file__).parents[1]
STEPS = 10
LARGE = 10**6 + 3  # elements: more than one block's, and no multiple of what a thread loads at once
TAIL = 6000  # characters of what a failed process printed

# Every kind of launch, on few elements: a sanitizer slows them down a hundredfold.
TINY = """
import numpy as np
import fastoptim
for dtype in "float32", "float64":
    for capturable in False, True:
        host = {i: np.ones(n, dtype) for i, n in enumerate((1, 7, 64, 1029))}
        params, grads = (fastoptim.flatten(host, device="cuda") for _ in range(2))
        for make in (lambda flat: flat), dict:
            opt = fastoptim.Adam(capturable=capturable)
            for _ in range(3):
                opt.update(make(params), make(grads))
        print(float(params.to_host()[0][0]))
"""


class FailedError(AssertionError):
    """A check that did not hold; the message says what was found, and `found` all of it."""

    def __init__(self, message: str, found: Any = None) -> None:
        super().__init__(message)
        self.found = found


class SkippedError(Exception):
    """A check that cannot be made here; the message says why."""


def tests(seconds: float) -> dict[str, Any]:
    """The tests that need a GPU, in a process of their own."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "-rs", "tests/test_gpu.py"]
    found = process(command, seconds)
    if found["exit_status"]:
        raise FailedError(f"exit status {found['exit_status']}: {found['last_line']}", found)
    return {"exit_status": 0, "last_line": found["last_line"]}


def process(command: list[str], seconds: float) -> dict[str, Any]:
    """Run a command from the project's root and say how it ended.

    Raises:
        FailedError: it took longer than the seconds given.
    """
    try:
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        printed = (error.output or b"").decode(errors="replace")
        raise FailedError(f"stopped after {seconds:.0f} s", {"output": printed[-TAIL:]}) from None
    printed = done.stdout.decode(errors="replace")
    lines = printed.strip().splitlines()
    return {"exit_status": done.returncode, "last_line": lines[-1] if lines else "", "output": printed[-TAIL:]}


def launches(shapes: Sequence[Shape] = tuple(WORKLOADS["resnet50"].shapes)) -> dict[str, Any]:
    """How many kernels an update of ResNet-50's 161 arrays launches, once nothing is new to it."""
    from fastoptim.kernels.cuda.launch import Loaded
    from fastoptim.kernels.cuda.memory import cuda

    counted = 0
    original = Loaded.launch

    def launch(self: Any, *arguments: Any) -> None:
        nonlocal counted
        counted += 1
        original(self, *arguments)

    params, grads = (
        {f"array{i}": cuda.to_device(np.zeros(shape, np.float32)) for i, shape in enumerate(shapes)} for _ in range(2)
    )
    opt = ADAM()
    with patch.object(Loaded, "launch", launch):  # what is bound at the first update is this one
        opt.update(params, grads)
        counted = 0
        for _ in range(STEPS):
            opt.update(params, grads)
        found: dict[str, Any] = {"arrays": len(params), "launches": counted / STEPS}
        found["by_profiler"] = profiled(lambda: opt.update(params, grads))
    if found["launches"] != 1:
        raise FailedError(f"expected 1 launch an update, found {found['launches']:g}", found)
    return found


def profiled(step: Any) -> dict[str, float] | str:
    """What the GPU does in a step, as torch's profiler sees it: how often each kernel or copy; or why that is unknown.

    A second opinion: it sees launches that do not go through fastoptim's own function.
    """
    if find_spec("torch") is None:
        return "torch is not installed"
    try:
        torch: Any = import_module("torch")
        kinds = torch.profiler.ProfilerActivity
        torch.cuda.synchronize()
        with torch.profiler.profile(activities=[kinds.CPU, kinds.CUDA]) as profile:
            for _ in range(STEPS):
                step()
            torch.cuda.synchronize()
        names = Counter(event.name for event in profile.events() if str(event.device_type).endswith("CUDA"))
        return {name[:80]: count / STEPS for name, count in names.items()} or "the profiler saw nothing"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def bits(size: int = LARGE) -> dict[str, Any]:
    """Whether Adam gives the CPU's bits, in both dtypes, for a dict and for flat buffers."""
    from fastoptim.kernels.cuda.memory import cuda

    found = {}
    for dtype in np.float32, np.float64:

        def arrays(seed: int, dtype: Any = dtype) -> Arrays:
            rng = np.random.default_rng(seed)
            return {name: rng.standard_normal(n).astype(dtype) for name, n in (("large", size), ("small", 7))}

        host, expected = arrays(0), ADAM()
        flat = fastoptim.flatten(host, device="cuda")
        separate = {name: cuda.to_device(value) for name, value in host.items()}
        opts = ADAM(), ADAM()
        for step in range(STEPS):
            grads = arrays(step + 1)
            expected.update(host, grads)
            opts[0].update(separate, {name: cuda.to_device(value) for name, value in grads.items()})
            opts[1].update(flat, fastoptim.flatten(grads, device="cuda"))
        updated: dict[str, Any] = {"dict": separate, "flat": flat}
        for kind, params in updated.items():
            pairs = [(params[name].copy_to_host().view(np.uint8), own.view(np.uint8)) for name, own in host.items()]
            found[f"{kind} {np.dtype(dtype)}"] = sum(int(np.count_nonzero(one != other)) for one, other in pairs)
    result = {"elements": size, "steps": STEPS, "bytes_that_differ": found}
    if any(found.values()):
        raise FailedError(f"not the CPU's bits: {found}", result)
    return result


def graph() -> dict[str, Any]:
    """Whether replays of a captured update give the bits of calls."""
    if find_spec("torch") is None:
        raise SkippedError("captures with torch, which is not installed")
    torch: Any = import_module("torch")
    rng = np.random.default_rng(0)
    host, grad = ({"p": rng.standard_normal(LARGE).astype(np.float32)} for _ in range(2))
    params, grads = ({"p": torch.tensor(x["p"], device="cuda")} for x in (host, grad))
    expected, opt = ADAM(), ADAM(capturable=True)
    opt.update(params, grads)
    torch.cuda.synchronize()
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        opt.update(params, grads, stream=torch.cuda.current_stream())
    for _ in range(STEPS - 1):
        captured.replay()
    torch.cuda.synchronize()
    for _ in range(STEPS):
        expected.update(host, grad)
    found = {"replays": STEPS - 1, "same_bits": params["p"].cpu().numpy().tobytes() == host["p"].tobytes()}
    if not found["same_bits"]:
        raise FailedError("replays do not give the bits of calls", found)
    return found


def sanitizer(tool: str, seconds: float) -> dict[str, Any]:
    """What compute-sanitizer's tool says of a few small updates."""
    path = shutil.which("compute-sanitizer")
    if path is None:
        raise SkippedError("compute-sanitizer, a part of the CUDA toolkit, is not on PATH")
    command = [path, "--tool", tool, "--error-exitcode", "86", sys.executable, "-c", TINY]
    found = process(command, seconds)
    if found["exit_status"] or "SUMMARY: 0 " not in found["output"]:
        raise FailedError(f"exit status {found['exit_status']}: {found['last_line']}", found)
    return {"exit_status": 0, "last_line": found["last_line"]}
