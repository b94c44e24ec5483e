"""`scalars` is asked once for each step and each kind of name. Wrong numbers get a clear sentence."""

import re

import numpy as np
import pytest

from fastoptim import SGD, Adam, schedules
from support import assert_same_bits, like, random, snapshot

F4, F8 = np.float32, np.float64


class Asked(SGD):
    """Keeps what it was asked for: the step, and the learning rate that held."""

    _calls: list

    def scalars(self, t):
        self._calls.append((t, self.lr))
        return (self.lr,)


def asked(**options):
    opt = Asked(lr=0.5, **options)
    opt._calls = []
    return opt


def calls(opt, params, grads):
    """What is asked in one update."""
    del opt._calls[:]
    opt.update(params, grads)
    return list(opt._calls)


def test_plain_steps_ask_once(rng):
    params, opt = {"p": random(rng, (3,), F4), "q": random(rng, (2, 2), F4)}, asked()
    for t in range(1, 6):
        assert calls(opt, params, like(rng, params)) == [(t, 0.5)]


@pytest.mark.parametrize("options", [{"clip_norm": 1.0}, {"skip_nonfinite": True}, {"ema": 0.5}, {"zero_grads": True}])
def test_steps_with_options_ask_once(options, rng):
    params, opt = {"p": random(rng, (3,), F4), "q": random(rng, (2, 2), F8)}, asked(**options)
    for t in range(1, 4):
        assert calls(opt, params, like(rng, params)) == [(t, 0.5)]


def test_new_arrays_ask_once(rng):
    opt = asked()
    for t in range(1, 5):
        params = {"p": random(rng, (3,), F4)}
        assert calls(opt, params, like(rng, params)) == [(t, 0.5)]
        params = {"p": np.asfortranarray(params["p"])}
    for t in range(5, 8):
        params = {"p": random(rng, (6,), F4)[::2]}
        assert calls(opt, params, like(rng, params, F8)) == [(t, 0.5)]


def test_each_group_asks_once(rng):
    groups = {"a*": {"lr": 0.25}, "b*": {"lr": schedules.exponential(0.125, 0.5)}, "c*": {"weight_decay": 0.5}}
    params = {f"{letter}{i}": random(rng, (3,), F4) for letter in "abcd" for i in range(3)}
    opt = asked(groups=groups)
    for t in range(1, 5):
        found = calls(opt, params, like(rng, params))
        assert sorted(found) == sorted([(t, 0.25), (t, 0.125 * 0.5 ** (t - 1)), (t, 0.5), (t, 0.5)])


def test_each_count_of_steps_asks_once(rng):
    params, opt = {name: random(rng, (3,), F4) for name in ("a", "b", "late", "later")}, asked()
    only = {"late": None, "later": None}
    assert calls(opt, params, like(rng, params) | only) == [(1, 0.5)]
    assert calls(opt, params, like(rng, params) | {"later": None}) == [(2, 0.5), (1, 0.5)]
    assert sorted(calls(opt, params, like(rng, params))) == [(1, 0.5), (2, 0.5), (3, 0.5)]
    assert sorted(calls(opt, params, like(rng, params) | {"a": None})) == [(2, 0.5), (3, 0.5), (4, 0.5)]
    assert calls(opt, params, dict.fromkeys(params)) == []
    assert calls(opt, {}, {}) == []


def test_a_schedule_is_asked_once_and_before_the_numbers(rng):
    seen = []
    opt = asked()
    opt.lr = lambda step: seen.append(step) or 1 / (step + 1)
    params = {"p": random(rng, (3,), F4), "q": random(rng, (3,), F4)}
    for t in range(1, 5):
        assert calls(opt, params, like(rng, params)) == [(t, 1 / t)]
    assert seen == [0, 1, 2, 3]


def test_sums_ask_once_a_step(rng):
    params, opt = {"p": random(rng, (3,), F4), "q": random(rng, (3,), F4)}, asked(accumulate=3, clip_norm=1.0)
    for call in range(1, 10):
        expected = [] if call % 3 else [(call // 3, 0.5)]
        assert calls(opt, params, like(rng, params)) == expected


def test_a_refused_call_is_asked_again(rng):
    """Numbers may be asked for in vain, but no step is left out."""
    params, opt = {"p": random(rng, (3,), F4)}, asked(skip_nonfinite=True)
    for grads in {"p": np.full(3, np.nan, F4)}, like(rng, params):
        assert calls(opt, params, grads) == [(1, 0.5)]  # a skipped call asks, too, as wrong numbers are an error there
    with pytest.raises(ValueError, match="shape"):
        calls(opt, params, {"p": np.ones(4, F4)})
    assert calls(opt, params, like(rng, params)) == [(2, 0.5)]


def test_attributes_read_what_was_assigned(rng):
    """Between the steps nobody sees a group's values, nor a schedule's."""
    lr = schedules.linear(0.5, 0.25, steps=3)
    opt = Adam(lr=lr, ema=0.75, groups={"p": {"lr": 0.125}})
    params = {"p": random(rng, (3,), F4), "q": random(rng, (3,), F4)}
    for _ in range(3):
        opt.update(params, like(rng, params))
        assert opt.lr is lr
        assert opt.ema == 0.75
        assert type(opt.ema) is float
        assert set(opt.averages) == {"p", "q"}


class Returns(SGD):
    _numbers: object

    def scalars(self, t):
        return self._numbers


def words_for(numbers):
    """A pattern of what was returned, as a tuple or as a list."""
    if not isinstance(numbers, tuple | list):
        return "got " + re.escape(repr(numbers))
    return r"got [\[(]" + ", ".join(re.escape(repr(x)) for x in numbers) + r",?[\])]"


WRONG = [0.5, (), (0.5, 0.5), "a", "ab", ("0.5",), (None,), None, [None], 3, {"lr": 0.5}]


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("wrong", WRONG, ids=repr)
@pytest.mark.parametrize("options", [{}, {"clip_norm": 1.0}], ids=["plain", "clip_norm"])
def test_what_scalars_returns_is_looked_at(wrong, steps, options, rng):
    params, opt = {"p": random(rng, (3,), F4), "q": random(rng, (3,), F8)}, Returns(**options)
    opt._numbers = (0.5,)
    for _ in range(steps):
        opt.update(params, like(rng, params))
    grads = like(rng, params)
    before = snapshot(opt, params, grads)
    opt._numbers = wrong
    with pytest.raises(ValueError, match=rf"Returns\.scalars\({steps + 1}\): expected 1 floats? \(lr\), got") as caught:
        opt.update(params, grads)
    assert "test_numbers.py" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert options or re.search(words_for(wrong), str(caught.value))
    opt._numbers = (0.5,)
    assert snapshot(opt, params, grads) == before
    opt.update(params, grads)
    assert opt.iter == steps + 1


@pytest.mark.parametrize("options", [{"clip_norm": 1.0}, {"ema": 0.5}, {"groups": {"p": {"lr": 1.0}}}], ids=str)
def test_the_error_shows_what_was_returned_alone(options, rng):
    """And neither the numbers of options behind it, nor those of other names."""
    params, opt = {"p": random(rng, (3,), F4), "q": random(rng, (3,), F8)}, Returns(**options)
    opt._numbers = (None,)
    with pytest.raises(ValueError, match=words_for((None,))):
        opt.update(params, like(rng, params))


@pytest.mark.parametrize("options", [{}, {"groups": {"q": {"lr": 0.5}}}, {"ema": 0.5, "clip_norm": 1.0}])
@pytest.mark.parametrize("steps", [0, 2])
def test_numbers_that_float32_cannot_hold(options, steps, rng):
    params, opt = {"q": random(rng, (3,), F8), "p": random(rng, (3,), F4)}, Adam(**options)
    for _ in range(steps):
        opt.update(params, like(rng, params))
    opt.lr, grads = 1e40, like(rng, params)
    before = snapshot(opt, params, grads)
    with pytest.raises(ValueError, match="float32") as caught:
        opt.update(params, grads)
    assert "e+39" in str(caught.value)  # the learning rate with its bias correction
    assert snapshot(opt, params, grads) == before
    opt.lr = 0.1
    opt.update(params, grads)
    only = Adam(lr=1e40)
    only.update({"q": params["q"]}, {"q": np.zeros(3)})  # float64 can


@pytest.mark.parametrize("wrong", [1e39, -1e39, 10**39, 10**400, F8(1e39)], ids="abcde")
def test_integers_and_others_that_float32_cannot_hold(wrong, rng):
    params, opt = {"p": random(rng, (3,), F4)}, Returns()
    opt._numbers = (wrong,)
    before = params["p"].copy()
    with pytest.raises(ValueError, match="which float32 cannot hold"):
        opt.update(params, like(rng, params))
    assert_same_bits(params["p"], before)
    assert opt.iter == 0


def test_an_error_within_scalars_is_the_users_own(rng):
    class Broken(SGD):
        def scalars(self, t):
            return (self.lr + "1",)

    params = {"p": random(rng, (3,), F4)}
    opt = Broken()
    before = snapshot(opt, params)
    with pytest.raises(TypeError, match="unsupported operand"):
        opt.update(params, like(rng, params))
    assert snapshot(opt, params) == before
