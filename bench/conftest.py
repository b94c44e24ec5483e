"""The option `--quick`, what every result says about the machine, and other libraries' warnings."""

import numba
import pytest
from cpuinfo import get_cpu_info

from bench.contenders import versions
from bench.turns import QUICK, Effort


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="one short round of each benchmark: does everything run?")


@pytest.fixture(scope="session")
def effort(request: pytest.FixtureRequest) -> Effort:
    """How long to measure."""
    return QUICK if request.config.getoption("quick") else Effort()


@pytest.fixture(scope="session")
def machine() -> dict[str, object]:
    """Where and with what a result was measured."""
    return {
        "cpu": get_cpu_info().get("brand_raw", "unknown"),
        "threads": numba.get_num_threads(),
        "versions": versions(),
    }
