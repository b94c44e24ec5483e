"""When a result of the benchmarks is inconclusive, by made-up turns."""

import numpy as np
import pytest

from bench import limits
from bench.limits import BASELINES, Turns, doubt, lead
from bench.tables import OTHERS

ROUNDS = 21


def turns(seconds=2e-4, baseline=1e-4, jitter=0.02, seed=0):
    rng = np.random.default_rng(seed)
    own, other = (each * np.exp(rng.normal(0, jitter, ROUNDS)) for each in (seconds, baseline))
    return Turns(tuple(own), tuple(other))


def changed(given, **lists):
    return given._replace(**{name: tuple(values) for name, values in lists.items()})


def test_decent_turns_are_in_no_doubt():
    for seed in range(100):
        assert not doubt(turns(seed=seed), "ceiling", neighbours=0.1)
        assert not doubt(turns(seed=seed), "numpy", neighbours=None)


def test_some_outliers_do_not_matter():
    given = turns()
    given = changed(given, seconds=[x * (20 if i % 7 == 0 else 1) for i, x in enumerate(given.seconds)])
    assert not doubt(given, "ceiling", 0.0)


def test_a_slow_drift_of_the_whole_machine_does_not_matter():
    given, drift = turns(), np.linspace(1, 1.8, ROUNDS)
    assert not doubt(changed(given, seconds=given.seconds * drift, baseline=given.baseline * drift), "ceiling", 0.0)


@pytest.mark.parametrize("count", [0, 1, limits.FEWEST - 1])
def test_few_turns(count):
    given = turns()
    found = doubt(Turns(given.seconds[:count], given.baseline[:count]), "ceiling", 0.0)
    assert found == ("its turns were not saved" if count == 0 else f"{count} turns of 5")


def test_nothing_is_faster_than_the_ceiling():
    """As it was reported once: 47919 % of the ceiling."""
    assert doubt(turns(1e-6, 4.79e-4, jitter=0), "ceiling", 0.0) == "479 x as fast as ceiling"
    assert doubt(turns(1e-6, 1.5e-6), "undisturbed", 0.0)
    assert not doubt(turns(1e-6, 1.1e-6), "ceiling", 0.0)
    assert not doubt(turns(1e-6, 4.79e-4), "numpy", 0.0)  # than NumPy, it may be


def test_two_speeds():
    given = turns()
    given = changed(given, seconds=[x * (1 + i % 2) for i, x in enumerate(given.seconds)])
    assert doubt(given, "ceiling", 0.0) == "turns spread by 2 x"


def test_a_baseline_that_moves():
    given = turns()
    speeds = np.tile([1.0, 2.0, 1.5], ROUNDS // 3)
    moved = changed(given, seconds=given.seconds * speeds, baseline=given.baseline * speeds)
    assert doubt(moved, "ceiling", 0.0).startswith("ceiling moved by")
    jumped = changed(given, baseline=[x * (3 if i > 10 else 1) for i, x in enumerate(given.baseline)])
    assert "spread" in doubt(jumped, "ceiling", 0.0)


def test_turns_and_times_that_contradict_each_other():
    """Neither spreads much, but the median of the one's times is of other turns than that of the other's."""
    own, baseline = np.repeat([1.0, 1.3, 1.3], 7), np.repeat([1.24, 1.3, 1.56], 7)
    assert doubt(Turns(tuple(own), tuple(baseline)), "numpy", 0.0) == "turns say 1.2, times 1"


def test_busy_neighbours():
    assert doubt(turns(), "ceiling", 0.57) == "others took 57%"


def test_a_time_of_zero():
    given = turns()
    assert doubt(changed(given, seconds=[0.0, *given.seconds[1:]]), "ceiling", 0.0) == "a time of zero"


def test_a_lead_cannot_contradict_the_times():
    """As it was reported once: 98.6 x, for 168 us beside 178 us."""
    given = turns(168e-6)
    other = changed(given, seconds=turns(178e-6, seed=1).seconds)
    times, why = lead(given, other)
    assert (times, why) == (pytest.approx(178 / 168, rel=0.03), "")
    jumping = changed(other, seconds=[x * (100 if i % 2 else 1) for i, x in enumerate(other.seconds)])
    assert "spreads" in lead(given, jumping)[1]


def test_every_baseline_has_a_table():
    assert BASELINES.keys() == OTHERS.keys() | {"ceiling"}
