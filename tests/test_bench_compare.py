"""Two saved runs side by side: made-up turns, of the same code and of a slower one, on machines that have moods."""

from collections import Counter

import numpy as np
import pytest

from bench.compare import compare
from bench.limits import Turns
from bench.runs import Case, Run, RunError
from bench.verdicts import Change, Status, Verdict, paired, status, student

SEEDS = range(200)
EFFECT = 0.1
VERSIONS = {"numpy": "2", "torch": "2", "optax": "0.2", "jax": "0.10"}
# Speeds as parts of the ceiling's
SPEEDS = {
    "fastoptim": 0.8,
    "fastoptim-flat": 0.9,
    "numpy": 0.05,
    "torch-fused": 0.6,
    "torch-foreach": 0.1,
    "optax": 0.3,
}
WORKS = {"flat_1m": 4e-4, "rl_mlp": 1e-6}  # the ceiling's seconds
ROUNDS = 21

DECENT = {"jitter": 0.03, "outliers": 0.05, "mood": 0.01}
NOISY = {"jitter": 0.15, "outliers": 0.2, "mood": 0.06, "drift": 0.5, "jump": 0.5}
# From turn to turn nothing is seen, but each run has a mood of its own, or each ceiling
MOODY = {"jitter": 0.02, "outliers": 0.05, "mood": 0.15}
CEILINGS = {"jitter": 0.02, "outliers": 0.05, "mood": 0.01, "ceiling": 0.5}
MIXED = {"jitter": 0.06, "outliers": 0.1, "mood": 0.02, "drift": 0.3, "jump": 0.1}
NOISES = {"decent": DECENT, "mixed": MIXED, "noisy": NOISY, "moody": MOODY, "ceilings": CEILINGS}


def made_up(rng, slower=0.0, *, jitter, outliers, mood, drift=0.0, jump=0.0, ceiling=0.0, chosen=SPEEDS, works=WORKS):
    """A run: `slower` is for how much longer our steps take, 0.2 for 20 %."""

    def noise(size):
        found = np.exp(rng.normal(0, jitter, size))
        hit = rng.random(size) < outliers
        return np.where(hit, found * rng.uniform(1.2, 6, size), found)

    cases = {}
    for work, seconds in works.items():
        machine = np.exp(np.linspace(0, rng.normal(0, drift), ROUNDS))
        # what happens to the ceiling alone: it has another speed in the whole run, or from some turn on
        alone = np.full(ROUNDS, np.exp(rng.normal(0, ceiling)))
        alone[rng.integers(ROUNDS) :] *= np.exp(rng.normal(0, jump))
        baseline = seconds * machine * alone * noise(ROUNDS)
        for name in chosen:
            longer = 1 + slower if name.startswith("fastoptim") else 1
            step = seconds / SPEEDS[name] * longer * np.exp(rng.normal(0, mood)) * machine * noise(ROUNDS)
            turns = Turns(tuple(step), tuple(baseline))
            key = (work, "adam", name)
            cases[key] = Case(key, float(np.median(step)), 1.0, "ceiling", float(np.median(turns.ratios)), turns)
    return Run(cases, "a CPU", 2, VERSIONS)


def verdicts(noise, slower=0.0, **more):
    """How often each verdict and each exit status comes of comparing a run with an older one, over many seeds."""
    found = Counter()
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        old, new = made_up(rng, **noise, **more), made_up(rng, slower, **noise, **more)
        compared = compare(old, new, EFFECT)
        found.update(row.verdict for row in compared.rows if not row.control)
        found[compared.status] += 1
    return found


@pytest.mark.parametrize("noise", NOISES)
def test_the_same_code_is_never_slower_or_faster(noise):
    found = verdicts(NOISES[noise])
    assert found.keys() <= {Verdict.SAME, Verdict.INCONCLUSIVE, Status.FINE, Status.INCONCLUSIVE}


@pytest.mark.parametrize("noise", NOISES)
def test_slower_code_is_never_faster(noise):
    found = verdicts(NOISES[noise], slower=0.2)
    assert not found[Verdict.FASTER]
    assert not found[Verdict.SAME]


def test_in_decent_noise_it_is_said():
    assert verdicts(DECENT, slower=0.2)[Status.SLOWER] > 0.8 * len(SEEDS)
    assert verdicts(DECENT, slower=-0.2)[Verdict.FASTER] > 0.6 * len(SEEDS) * 4
    assert verdicts(DECENT)[Verdict.SAME] > 0.7 * len(SEEDS) * 4


@pytest.mark.parametrize("slower", [0.0, 0.2])
def test_without_contenders_that_stayed_the_same_nothing_is_said(slower):
    found = verdicts(MOODY, slower, chosen=["fastoptim", "fastoptim-flat"])
    assert found.keys() == {Verdict.INCONCLUSIVE, Status.INCONCLUSIVE}


def pair(slower=0.2):
    rng = np.random.default_rng(0)
    return made_up(rng, **DECENT), made_up(rng, slower, **DECENT)


def test_a_run_against_itself_has_no_change():
    run, _ = pair()
    compared = compare(run, run, EFFECT)
    assert {row.verdict for row in compared.rows} == {Verdict.SAME}
    assert compared.status == Status.FINE


def test_controls_do_not_count():
    old, new = pair()
    rows = compare(old, new, EFFECT).rows
    assert {row.key[2] for row in rows if row.control} == SPEEDS.keys() - {"fastoptim", "fastoptim-flat"}
    newer = Run(new.cases, new.cpu, new.threads, VERSIONS | {"torch": "3"})
    rows = compare(old, newer, EFFECT).rows
    assert {row.key[2] for row in rows if row.control} == {"numpy", "optax"}


def test_runs_of_two_machines_are_not_compared():
    old, new = pair()
    other = Run(new.cases, "another CPU", new.threads, new.versions)
    compared = compare(old, other, EFFECT)
    assert {(row.verdict, row.why) for row in compared.rows} == {(Verdict.INCONCLUSIVE, "another machine")}


def test_runs_with_nothing_in_common():
    old, new = pair()
    with pytest.raises(RunError, match="no case in common"):
        compare(old, Run({("x", *key[1:]): case for key, case in new.cases.items()}, "", 2, {}), EFFECT)


def test_verdicts():
    def verdict(log, error):
        return Change(log, error, degrees=20, tests=1).verdict(EFFECT)

    assert verdict(0.0, 0.001) is verdict(0.08, 0.001) is verdict(-0.08, 0.001) is Verdict.SAME
    assert verdict(0.2, 0.001) is Verdict.FASTER
    assert verdict(-0.2, 0.001) is Verdict.SLOWER
    assert verdict(0.0, 0.1) is verdict(-0.2, 0.1) is verdict(-0.1, 0.03) is Verdict.INCONCLUSIVE


def test_the_more_is_judged_the_more_it_takes():
    assert Change(-0.2, 0.05, 20, tests=1).verdict(EFFECT) is Verdict.SLOWER
    assert Change(-0.2, 0.05, 20, tests=50).verdict(EFFECT) is Verdict.INCONCLUSIVE


def test_status():
    same, faster, slower, unknown = Verdict.SAME, Verdict.FASTER, Verdict.SLOWER, Verdict.INCONCLUSIVE
    assert status([]) == status([same]) == status([same, faster]) == 0
    assert status([faster, slower, unknown]) == status([slower]) == 1
    assert status([unknown, same]) == status([unknown, faster]) == 2
    assert Status.ERROR == 3


@pytest.mark.parametrize(("degrees", "outside", "expected"), [
    (1, 0.1, 6.3138), (2, 0.05, 4.3027), (3, 0.01, 5.8409), (4, 0.001, 8.6103), (9, 0.05, 2.2622), (30, 0.001, 3.6460),
    (1000, 0.05, 1.9623),
])  # fmt: skip
def test_student(degrees, outside, expected):
    """The numbers of printed tables."""
    assert student(degrees, outside) == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize("sigma", [0.02, 0.05, 0.15])
def test_rounds_in_turn(sigma):
    """Eight rounds of two checkouts in turn, with outliers."""
    found = {0.0: Counter(), 0.2: Counter()}
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        for slower in found:
            logs = rng.normal(-np.log1p(slower), sigma, 8) + (rng.random(8) < 0.05) * rng.normal(0, 0.5, 8)
            found[slower][paired(list(logs), tests=1).verdict(EFFECT)] += 1
    assert not found[0.0][Verdict.SLOWER] + found[0.0][Verdict.FASTER]
    assert not found[0.2][Verdict.FASTER] + found[0.2][Verdict.SAME]
    if sigma == 0.02:
        assert found[0.0][Verdict.SAME] > 0.6 * len(SEEDS)
        assert found[0.2][Verdict.SLOWER] > 0.6 * len(SEEDS)


def test_few_rounds_say_nothing():
    assert paired([0.0] * 4, tests=1) is None
