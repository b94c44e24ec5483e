"""Saved runs: the JSON files that pytest-benchmark writes, with what our benchmarks add to them."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.limits import BASELINES, Turns, doubt

Key = tuple[str, str, str]
RATIO = "ratio_to_"  # and the baseline's name: how a benchmark's ratio is called in a file


class RunError(ValueError):
    """A file that is no saved run of these benchmarks, or one that lacks what was asked for."""


@dataclass(frozen=True)
class Case:
    """One benchmark's result.

    Attributes:
        key: workload, recipe and contender.
        seconds: the median of one step, one process or one file.
        gb_per_s: what is read and written in a second; 0 for processes.
        baseline: what it was measured in turn with: for steps the "ceiling".
        ratio: its speed divided by the baseline's.
        turns: what the two are medians of; empty in files of older versions.
        neighbours: the part of the machine's CPU time that others have taken meanwhile, if it is known.
        threads: how many the contender took, None where it chose for itself.
        memory: what it needs in memory beyond the data, as a part of them; None where that was not measured.
    """

    key: Key
    seconds: float
    gb_per_s: float
    baseline: str
    ratio: float
    turns: Turns
    neighbours: float | None = None
    threads: int | None = None
    memory: float | None = None

    @cached_property
    def doubt(self) -> str:
        """Why it is inconclusive; empty if it is not."""
        return doubt(self.turns, self.baseline, self.neighbours)


@dataclass(frozen=True)
class Run:
    """One file's results, and where, with what and of which commit they were measured."""

    cases: dict[Key, Case]
    cpu: str
    threads: int
    versions: dict[str, str]
    commit: str = "an unknown commit"

    def against(self, baseline: str) -> list[Case]:
        """The results that were measured in turn with that."""
        return [case for case in self.cases.values() if case.baseline == baseline]

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{self.cpu}, {self.threads} threads; {versions}"


def load(path: Path) -> Run:
    """Read a file.

    Raises:
        RunError: it cannot be read, or holds something else.
    """
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        cases = [_case(each["stats"], each["extra_info"]) for each in saved["benchmarks"]]
        machine = saved["benchmarks"][0]["extra_info"]
        commit = _commit(saved.get("commit_info") or {})
        return Run({case.key: case for case in cases}, machine["cpu"], machine["threads"], machine["versions"], commit)
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, LookupError) as error:
        raise RunError(
            f"{path}: it is no saved run of these benchmarks ({type(error).__name__}: {error}); "
            "expected a file that `python -m pytest bench --benchmark-json FILE` wrote"
        ) from error


def _commit(info: dict[str, Any]) -> str:
    """A commit as pytest-benchmark describes it."""
    found = str(info.get("id") or "")
    if not found or found in ("unversioned", "unknown"):
        return "an unknown commit"
    branch = f" on {info['branch']}" if info.get("branch") else ""
    return f"commit {found[:12]}{branch}{', with changes that are not committed' if info.get('dirty') else ''}"


def _case(stats: dict[str, Any], info: dict[str, Any]) -> Case:
    ((baseline, ratio),) = ((name.removeprefix(RATIO), info[name]) for name in info if name.startswith(RATIO))
    if baseline not in BASELINES:
        raise ValueError(f"unknown baseline {baseline!r}")
    turns = info.get("turns", {"seconds": [], "baseline": []})
    return Case(
        key=(info["work"], info.get("optimizer", ""), info["contender"]),
        seconds=float(stats["median"]),
        gb_per_s=float(info.get("gb_per_s", 0)),
        baseline=baseline,
        ratio=float(ratio),
        turns=Turns.of(turns["seconds"], turns["baseline"]),
        neighbours=info.get("neighbours"),
        threads=info.get("threads_taken"),
        memory=info.get("memory"),
    )
