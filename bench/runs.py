"""Saved runs: the JSON files that pytest-benchmark writes, with what our benchmarks add to them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.neighbours import LIMIT

Key = tuple[str, str, str]


class RunError(ValueError):
    """A file that is no saved run of these benchmarks, or one that lacks what was asked for."""


@dataclass(frozen=True)
class Case:
    """One benchmark's result.

    Attributes:
        key: workload, optimizer and contender.
        seconds: the median of one step, or of one process.
        gb_per_s: what a step reads and writes in a second; 0 for processes.
        ratio: its speed divided by that of the ceiling (of `import numba`, for processes), measured in turn with it.
        disturbed: whether others took so much of the machine that the result means little.
    """

    key: Key
    seconds: float
    gb_per_s: float
    ratio: float
    disturbed: bool


@dataclass(frozen=True)
class Run:
    """One file's results, and where and with what they were measured."""

    cases: dict[Key, Case]
    cpu: str
    threads: int
    versions: dict[str, str]

    @property
    def steps(self) -> list[Case]:
        """Steps of optimizers."""
        return [case for case in self.cases.values() if case.gb_per_s]

    @property
    def starts(self) -> list[Case]:
        """New processes."""
        return [case for case in self.cases.values() if not case.gb_per_s]

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{self.cpu}, {self.threads} threads; {versions}"


def load(path: Path) -> Run:
    """Read a file.

    Raises:
        RunError: it cannot be read, or holds something else.
    """
    try:
        benchmarks = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
        cases = [_case(each["stats"], each["extra_info"]) for each in benchmarks]
        machine = benchmarks[0]["extra_info"]
        return Run({case.key: case for case in cases}, machine["cpu"], machine["threads"], machine["versions"])
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, LookupError) as error:
        raise RunError(
            f"{path}: it is no saved run of these benchmarks ({type(error).__name__}: {error}); "
            "expected a file that `python -m pytest bench --benchmark-json FILE` wrote"
        ) from error


def _case(stats: dict[str, Any], info: dict[str, Any]) -> Case:
    ratio = info["ratio_to_import_numba" if info["work"] == "start" else "ratio_to_ceiling"]
    key = info["work"], info.get("optimizer", ""), info["contender"]
    disturbed = (info.get("neighbours") or 0) > LIMIT
    return Case(key, float(stats["median"]), float(info.get("gb_per_s", 0)), float(ratio), disturbed)
