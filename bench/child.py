"""A process that measures one contender when it is asked to: `bench.children` starts it and asks.

A question is a line of JSON on the standard input, an answer one on the standard output.
"""

import ctypes
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from time import process_time
from typing import Any

from bench.processes import keep_freed_memory
from bench.turns import Effort, Turn

PR_SET_PDEATHSIG = 1  # of prctl in Linux
Answer = dict[str, Any]


class Measurer:
    """Keeps the step that is measured at present."""

    def __init__(self) -> None:
        self._turn: Turn | None = None

    def make(self, function: str, arguments: list[Any], effort: dict[str, Any]) -> Answer:
        """Allocate everything anew. The answer says how long a turn will take."""
        self.drop()
        module, _, name = function.partition(":")
        make: Callable[..., Callable[[], object]] = getattr(import_module(module), name)
        self._turn = turn = Turn(make(*arguments), Effort(**effort))
        return {"takes": (turn.calls + turn.settling) * turn.seconds}

    def turn(self) -> Answer:
        """Seconds of one step, and the CPU time of all threads that this process has used so far."""
        if self._turn is None:
            raise ValueError("nothing was made")
        self._turn.settle()
        return {"seconds": self._turn.measure(self._turn.calls), "cpu": process_time()}

    def drop(self) -> Answer:
        """Give the memory back."""
        self._turn = None
        gc.collect()
        return {}


def main() -> None:
    """Answer until the input ends."""
    if sys.platform == "linux":  # a stopped process would not notice that its parent has gone
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    keep_freed_memory()
    measurer = Measurer()
    for line in sys.stdin:
        question, *arguments = json.loads(line)
        try:
            answer = getattr(measurer, question)(*arguments)
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
