"""Hands to pytest-benchmark what was measured in another process, as if it were measured here."""

from typing import Any

import pytest

from bench.children import ChildError
from bench.together import Result
from bench.turns import Stopwatch

CLOCK = Stopwatch()  # has to be the benchmark's timer


def replay(benchmark: Any, found: Result | ChildError) -> Result:
    """Let the clock run by each measured turn. Fails if the contender has failed."""
    if isinstance(found, ChildError):
        pytest.fail(str(found), pytrace=False)
    turns = iter(found.measured.turns)
    CLOCK.seconds = 0.0

    def turn() -> None:
        CLOCK.seconds += next(turns)

    benchmark.pedantic(turn, rounds=len(found.measured.turns), iterations=1)
    return found
