"""The option `--quick`, what every result says about the machine, and contenders that are measured together."""

from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec

import pytest

if find_spec("pytest_benchmark") is None:
    raise pytest.UsageError("the benchmarks need pytest-benchmark: pip install '.[bench]'")

import numba
from cpuinfo import get_cpu_info

from bench.children import ChildError, Children
from bench.contenders import versions
from bench.processes import keep_freed_memory
from bench.together import Job, Result, measure_surely
from bench.turns import QUICK, Effort

Together = Callable[[Mapping[str, Job], str], dict[str, Result | ChildError]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="one short round of each benchmark: does everything run?")
    parser.addoption("--optimizer", metavar="NAME", help="its steps alone, as adam, or 'whole step'")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "summary: what `bench.report --summary` shows")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if (wanted := config.option.optimizer) is None:
        return
    names = {item: str(item.callspec.params.get("recipe", "")) for item in items if hasattr(item, "callspec")}
    kept = [item for item in items if names.get(item) == wanted]
    if not kept:
        known = ", ".join(filter(None, dict.fromkeys(names.values())))
        raise pytest.UsageError(f"--optimizer: expected one of {known or 'nothing: no steps were found'}; got {wanted}")
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


@pytest.fixture(scope="session")
def effort(request: pytest.FixtureRequest) -> Effort:
    """How long to measure."""
    keep_freed_memory()
    option = request.config.option
    return QUICK if option.quick or option.benchmark_disable else Effort()


@pytest.fixture(scope="session")
def machine() -> dict[str, object]:
    """Where and with what a result was measured."""
    return {
        "cpu": get_cpu_info().get("brand_raw", "unknown"),
        "threads": numba.get_num_threads(),
        "versions": versions(),
    }


@pytest.fixture(scope="session")
def together(effort: Effort) -> Iterator[Together]:
    """Measures jobs together, once: the cases that share them follow each other, and each takes its own result."""
    children = Children()
    last: tuple[tuple[str, Job], ...] = ()
    found: dict[str, Result | ChildError] = {}

    def measure(jobs: Mapping[str, Job], baseline: str) -> dict[str, Result | ChildError]:
        nonlocal last, found
        if last != (wanted := tuple(jobs.items())):
            last, found = wanted, measure_surely(jobs, baseline, effort, children)
        return found

    yield measure
    children.close()
