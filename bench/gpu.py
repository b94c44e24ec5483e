"""Tests, figures and checks on a GPU machine, in one command: `python -m bench.gpu --help`.

Only numba, numba-cuda, numpy and pytest have to be there; of torch, cupy, optax and compute-sanitizer what is there.
"""

import argparse
import faulthandler
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench import gpu_checks as checks
from bench.gpu_clock import Copy, Device, measure
from bench.gpu_contenders import CONTENDERS, TABLE, release, workloads
from bench.gpu_machine import machine, missing
from bench.gpu_report import figure, goals, text, with_ratios
from bench.workloads import Workload

RESERVE = 20.0  # seconds of the budget in which no part is begun any more


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    options = _parser().parse_args(arguments)
    if problem := missing():
        print(f"bench.gpu: {problem}", file=sys.stderr)
        return 2
    try:
        run = Run(options.output, options.budget)
    except OSError as error:
        print(f"bench.gpu: {options.output}: {error.strerror}", file=sys.stderr)
        return 2
    faulthandler.dump_traceback_later(options.budget, exit=True)  # a GPU that hangs; the file has what was found before
    try:
        everything(run, options.skip_tests)
    finally:
        faulthandler.cancel_dump_traceback_later()
    print(text(run.report))
    print(f"\nwritten to {options.output}")
    return int(any(part["status"] in ("failed", "error") for part in run.report["parts"].values()))


class Run:
    """Parts, one after another, of which one that fails keeps no other from being run; and the file they go to."""

    def __init__(self, output: Path, budget: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._output, self._clock, self._end = output, clock, clock() + budget
        self._figures: list[dict[str, Any]] = []
        self.report: dict[str, Any] = {"budget": budget, "machine": machine(), "parts": {}, "figures": [], "goals": []}
        self.save()

    @property
    def left(self) -> float:
        """Seconds in which parts may still run."""
        return self._end - self._clock() - RESERVE / 2

    def part(self, name: str, do: Callable[[], Any]) -> Any:
        """Run a part, if there is time left, and record how it ended; None if it did not end well."""
        start, found, entry = self._clock(), None, dict[str, Any]()
        if self.left < RESERVE / 2:
            self.report["parts"][name] = {"status": "skipped", "message": "no time left"}
            self.save()
            return None
        try:
            found = do()
            entry = {"status": "done", "result": found}
        except checks.SkippedError as reason:
            entry = {"status": "skipped", "message": str(reason)}
        except checks.FailedError as error:
            entry = {"status": "failed", "message": str(error), "result": error.found}
        except Exception as error:
            entry = {"status": "error", "message": f"{type(error).__name__}: {error}"}
        self.report["parts"][name] = {"seconds": self._clock() - start, **entry}
        self.save()
        return found

    def add(self, each: dict[str, Any]) -> None:
        """Take a figure, and compare all with each other anew."""
        self._figures.append(each)
        self.report["figures"] = with_ratios(self._figures)
        self.report["goals"] = goals(self.report["figures"])
        self.save()

    def save(self) -> None:
        """Write the file, at once: whatever happens then, it is whole."""
        beside = self._output.with_name(self._output.name + ".part")
        beside.write_text(json.dumps(self.report, indent=1, default=str) + "\n", encoding="utf-8")
        beside.replace(self._output)


def everything(run: Run, skip_tests: bool = False) -> None:
    """All parts: what says whether it works at all, then the figures, then what takes long."""
    if not skip_tests:
        run.part("tests", lambda: checks.tests(0.55 * run.left))
    for check in checks.bits, checks.launches, checks.graph:
        run.part(check.__name__, check)
    device = run.part("device", lambda: {"device": Device()})
    if device is not None:
        device = device["device"]
        run.report["parts"]["device"]["result"] = {"free_memory": device.free_memory()}
        loads = workloads(device.free_memory())  # the same for all contenders
        for name, work in loads.items():
            for contender in TABLE:
                run.part(f"{name}: {contender}", partial(contend, run, device, name, work, contender))
    for tool in "memcheck", "racecheck":
        run.part(tool, partial(_sanitize, run, tool))


def contend(run: Run, device: Device, name: str, work: Workload, contender: str) -> None:
    """Measure a contender on a workload, and add the figure to the run."""
    each = TABLE[contender]
    if contender not in CONTENDERS:
        raise checks.SkippedError(f"needs {' and '.join(each.packages)}, of which something is not installed")
    release()
    device.free_memory()  # gives back Numba's, too
    copy = Copy(each.moved * work.size, device)
    made = each.make(work)
    try:
        measured = measure(made.step, copy, device, made.wait)
        run.add(figure(name, contender, each.title, work.size, len(work.shapes), measured, each.moved))
    finally:
        device.drain()


def _sanitize(run: Run, tool: str) -> dict[str, Any]:
    return checks.sanitizer(tool, 0.5 * run.left if tool == "memcheck" else run.left)


def _positive(value: str) -> float:
    number = float(value)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"expected seconds, above 0, got {value}")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu",
        description="On a machine with an NVIDIA GPU: run the tests that need one, measure float32 Adam in turn with a "
        "copy on the device and with torch, CuPy and Optax as far as they are installed, check launches, bits, graphs "
        "and memory accesses, and write all of it to one JSON file.",
        epilog="Exit status: 0 if all went well, 1 if a part failed or had an error, 2 if nothing could be run.",
    )
    parser.add_argument(
        "--output", type=Path, default="gpu.json", metavar="FILE.json", help="where to write (default: %(default)s)"
    )
    parser.add_argument("--skip-tests", action="store_true", help="leave out pytest")
    parser.add_argument(
        "--budget", type=_positive, default=480.0, metavar="SECONDS", help="end after so long (default: %(default)g)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
