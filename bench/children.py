"""Contenders in processes of their own, of which one is at work at a time.

Libraries keep threads that spin for a while when their work is done: OpenMP's, OpenBLAS's, PyTorch's, Numba's. In one
process they would be in each other's way. Here every process but one is stopped, threads and all.
"""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from typing import Any

from bench.processes import ROOT
from bench.turns import Effort

# How many threads a library takes, by the variables that each one reads when it starts
THREADS = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"
XLA_SINGLE = "--xla_cpu_multi_thread_eigen=false"  # which has no number of threads


class ChildError(RuntimeError):
    """A contender could not make its step; the text is what its process says about it."""


class Child:
    """A process with so many threads. Between questions it is stopped."""

    def __init__(self, threads: int) -> None:
        environment = os.environ | dict.fromkeys(THREADS, str(threads)) | {"PYTHONPATH": str(ROOT)}
        if threads == 1:
            environment["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {XLA_SINGLE}".strip()
        self.threads, self.cpu = threads, 0.0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.child"],
            cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def make(self, function: str, arguments: tuple[Any, ...], effort: Effort) -> float:
        """Let it allocate everything anew by calling `function`, "module:name". Returns how long a turn will take."""
        return float(self._ask("make", function, arguments, asdict(effort))["takes"])

    def turn(self) -> float:
        """Seconds of one step, the mean of a turn."""
        answer = self._ask("turn")
        self.cpu = answer["cpu"]
        return float(answer["seconds"])

    def drop(self) -> None:
        """Let it give its memory back."""
        self._ask("drop")

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, *question: Any) -> dict[str, Any]:
        process = self._process
        assert process.stdin
        assert process.stdout
        process.send_signal(signal.SIGCONT)
        try:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise ChildError(f"the process ended with status {process.wait()}")
        process.send_signal(signal.SIGSTOP)
        found: dict[str, Any] = json.loads(answer)
        if "error" in found:
            raise ChildError(found["error"])
        return found


class Children:
    """The processes of a whole run, by contender and number of threads. They are started when they are needed."""

    def __init__(self) -> None:
        self._children: dict[tuple[str, int], Child] = {}

    def get(self, name: str, threads: int) -> Child:
        """That contender's process with so many threads."""
        child = self._children.get((name, threads))
        if child is None:
            child = self._children[name, threads] = Child(threads)
        return child

    def drop(self, name: str) -> None:
        """End a contender's processes: one has failed."""
        for key in [key for key in self._children if key[0] == name]:
            self._children.pop(key).close()

    def cpu(self) -> float:
        """The CPU time that all of them have used."""
        return sum(child.cpu for child in self._children.values())

    def close(self) -> None:
        """End them all."""
        for name, _ in list(self._children):
            self.drop(name)
