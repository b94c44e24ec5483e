"""Contenders that are measured in turn, each in a process of its own."""

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.children import THREADS, XLA_SINGLE, Child, ChildError, Children
from bench.neighbours import Neighbours
from bench.replay import CLOCK, replay
from bench.steps import threads_of
from bench.together import Job, Result, measure_surely, measure_together
from bench.turns import QUICK, Effort, Measured, measure_in_turn

SHORT = Effort(seconds=0.01, rounds=(6, 6), layouts=3, round_seconds=0.001, settle_seconds=0.001)
NUMPY = Job("bench.steps:contender", ("rl_mlp", "sgd", "numpy"), (1,))
NOBODY = Job("bench.steps:contender", ("rl_mlp", "sgd", "nobody"), (1,))
ENDS = Job("os:abort", (), (1,))


@pytest.fixture
def children():
    made = Children()
    yield made
    made.close()


def state(child):
    """What Linux says that the process does: T for stopped."""
    return Path(f"/proc/{child._process.pid}/stat").read_text().rsplit(")")[-1].split()[0]


def test_turns(children):
    jobs = {"numpy": NUMPY, "fastoptim": NUMPY._replace(arguments=("rl_mlp", "sgd", "fastoptim")), "no": NOBODY}
    found = measure_together(jobs, "numpy", SHORT, children)
    assert found.keys() == jobs.keys()
    assert all(len(found[name].measured.turns) == 6 for name in ("numpy", "fastoptim"))
    assert found["fastoptim"].measured.baseline == found["numpy"].measured.turns
    assert 0 < found["fastoptim"].measured.seconds < 0.1
    assert isinstance(found["no"], ChildError)
    assert "KeyError: 'nobody'" in str(found["no"])


def test_a_baseline_that_fails(children):
    with pytest.raises(ChildError, match="nobody"):
        measure_together({"numpy": NUMPY, "no": NOBODY}, "no", QUICK, children)


def test_a_process_that_ends(children):
    found = measure_together({"numpy": NUMPY, "ends": ENDS}, "numpy", QUICK, children)
    assert str(found["ends"]).startswith("the process ended with status -")
    assert isinstance(found["numpy"], Result)


def test_the_fastest_number_of_threads_is_taken(children, monkeypatch):
    times = {1: 2.0, 2: 1.0, 3: 1.5}

    class Fake:
        def __init__(self, threads):
            self.threads, self.cpu = threads, 0.0

        def make(self, function, arguments, effort):
            return 0.01

        def turn(self):
            return times[self.threads]

        def drop(self):
            pass

    monkeypatch.setattr(children, "get", lambda name, threads: Fake(threads))
    found = measure_together({"x": NUMPY._replace(threads=(1, 2, 3, 1))}, "x", SHORT, children)
    assert found["x"].threads == 2


@pytest.mark.parametrize(("spreads", "taken"), [([2, 1, 1], 1), ([1], 0), ([2, 2, 2], 0)])
def test_what_is_inconclusive_is_measured_again(spreads, taken, monkeypatch):
    def measured(spread):
        turns = [1.0, 1.0 * spread] * 4
        return {"x": Result(Measured(turns, [0.5] * 8, None), 1), "no": ChildError("failed")}

    tries = [measured(spread) for spread in spreads]
    given = iter(tries)
    monkeypatch.setattr("bench.together.measure_together", lambda *arguments: next(given))
    found = measure_surely({}, "ceiling", replace(SHORT, tries=3), None)
    assert found is tries[taken]
    assert len(list(given)) == (1 if taken else 0)


def test_ours_choose_their_threads_themselves():
    assert len(threads_of("fastoptim")) == len(threads_of("fastoptim-flat")) == len(threads_of("ceiling")) == 1
    assert threads_of("torch-fused")[0] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads the state of a process from /proc")
def test_only_one_process_works_at_a_time(children):
    child = children.get("numpy", 1)
    child.make(NUMPY.function, NUMPY.arguments, QUICK)
    for _ in range(50):  # the signal takes a moment
        if state(child) == "T":
            break
        time.sleep(0.1)
    assert state(child) == "T"
    assert child.turn() > 0
    assert child.cpu > 0
    process = child._process
    children.close()
    assert process.poll() is not None


@pytest.mark.parametrize("threads", [1, 3])
def test_a_library_is_told_its_number_of_threads(threads, monkeypatch):
    given = {}
    monkeypatch.setattr("bench.children.subprocess.Popen", lambda command, **options: given.update(options["env"]))
    Child(threads)
    assert {given[name] for name in THREADS} == {str(threads)}
    assert (XLA_SINGLE in given.get("XLA_FLAGS", "")) == (threads == 1)


class Benchmark:
    """As much of pytest-benchmark's fixture as is used here."""

    disabled = False

    def __init__(self, timer):
        self.timer, self.stats = timer, self
        self.data = []

    def pedantic(self, step, rounds, iterations, teardown=None):
        for _ in range(rounds):
            start = self.timer()
            for _ in range(iterations):
                step()
            self.data.append((self.timer() - start) / iterations)
            if teardown:
                teardown()


def test_what_was_measured_elsewhere_is_handed_on():
    turns = [1e-6, 3e-6, 2e-6]
    benchmark = Benchmark(CLOCK.now)
    result = Result(Measured(turns, [1e-6] * 3, None), 2)
    assert replay(benchmark, result) is result
    np.testing.assert_allclose(benchmark.data, turns)
    with pytest.raises(pytest.fail.Exception, match="it failed"):
        replay(benchmark, ChildError("it failed"))


def test_the_turns_of_one_process_are_kept():
    benchmark = Benchmark(time.perf_counter)
    benchmark.stats = type("Stats", (), {"stats": benchmark})
    measured = measure_in_turn(benchmark, lambda: time.sleep(0.002), lambda: time.sleep(0.001), SHORT)
    assert len(measured.turns) == len(measured.baseline) == 6
    info = measured.info("numpy")
    assert info["turns"] == {"seconds": measured.turns, "baseline": measured.baseline}
    assert info["ratio_to_numpy"] < 1


def test_the_time_of_other_processes_that_belong_to_us_is_ours(monkeypatch):
    stat = iter(["cpu 0 0 0 0 0 0 0 0", "cpu 100 0 0 100 0 0 0 0"])
    monkeypatch.setattr("bench.neighbours.STAT", type("Stat", (), {"read_text": lambda self: next(stat)})())
    own = iter([0.0, 0.5])
    neighbours = Neighbours(lambda: next(own))
    assert neighbours.share() == pytest.approx(0.25, abs=0.1)
