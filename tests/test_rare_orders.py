"""Rare orders of events, each with a small program."""

import copy

import numpy as np
import pytest

import fastoptim
from fastoptim import SGD, Adam, Number, Optimizer, nonnegative, rule
from fastoptim.kernels import threads
from fastoptim.kernels.errors import explaining
from internals import bound_step, bytes_of_state, forget_waits

F4 = np.float32


def ones(n=3):
    return np.ones(n, F4)


@pytest.mark.parametrize("order", ["AB", "BA"])
def test_averages_of_a_name_that_steps_beside_a_new_one(order):
    """With one call, A makes its third step and B its first: the averages move between the two."""
    a, opt = np.zeros(3, F4), SGD(0.1, ema=0.5, accumulate=2)
    for _ in range(3):
        opt.update({"A": a}, {"A": ones()})
    before, opt.accumulate = opt.averages["A"].copy(), 1
    params = {name: a if name == "A" else np.zeros(3, F4) for name in order}
    opt.update(params, {"A": ones(), "B": ones()})
    np.testing.assert_allclose(opt.averages["A"], before + (a - before) / 2)
    np.testing.assert_allclose(opt.averages["B"], params["B"] / 2)


def test_small_arrays_say_nothing_of_how_long_large_ones_take(monkeypatch):
    forget_waits(monkeypatch)
    monkeypatch.setattr("numba.get_num_threads", lambda: 2)
    now, alone = [0.0], []
    monkeypatch.setattr(threads, "perf_counter", lambda: now[0])

    def parallel(seconds):
        now[0] += seconds

    for _ in range(50):
        for elements, seconds in (4_000_000, 0.002), (40_000, 0.00002):
            threads.run(lambda *_: alone.append(1), lambda *_, s=seconds: parallel(s), 0, 0, elements)
    assert not alone


@rule
def scaled(p, g, lr):
    return p - lr * g


class Carrying(Optimizer):
    rule = scaled
    lr: Number = nonnegative(0.5)
    carry = 1.0
    following = staticmethod(lambda carry: carry / 2)

    def next_carry(self, t):
        return self.following(self.carry)

    def scalars(self, t):
        return (self.lr * self.carry,)


def test_a_carry_of_numpy_is_a_number():
    class Half(Carrying):
        following = staticmethod(lambda carry: F4(carry) / F4(2))

    p, opt = {"p": ones()}, Half()
    opt.update(p, {"p": ones()})
    assert copy.deepcopy(opt).state_dict()["carry"] == opt.state_dict()["carry"] == {"p": 0.5}


@pytest.mark.parametrize("wrong", ["x", None, [1.0, 2.0]])
def test_a_carry_that_is_no_number_changes_nothing(wrong):
    class Wrong(Carrying):
        following = staticmethod(lambda carry: wrong)

    p, opt = {"p": ones()}, Wrong()
    with pytest.raises(TypeError, match=r"Wrong\.next_carry\(1\): expected a number, got"):
        opt.update(p, {"p": ones()})
    assert (opt.iter, p["p"].tolist()) == (0, [1, 1, 1])


def test_wrong_numbers_are_an_error_also_where_the_call_would_be_skipped():
    p, opt = {"p": ones()}, SGD(lr=lambda t: -1.0, skip_nonfinite=True, zero_grads=True)
    g = np.full(3, np.inf, F4)
    with pytest.raises(ValueError, match="lr: expected"):
        opt.update(p, {"p": g})
    assert opt.skipped == 0
    assert np.isinf(g).all()


def test_what_is_no_fault_of_the_rule_is_not_blamed_on_it():
    with pytest.raises(OSError, match="No space"), explaining(scaled):
        raise OSError(28, "No space left on device")


def test_names_that_have_come_to_be_alike_are_one_kind_again():
    params, opt = fastoptim.flatten({"a": ones(), "b": ones()}), SGD()
    opt.update(params, params.zeros_like())
    opt.groups = {"a": {"lr": 0.5}}
    opt.update(params, params.zeros_like())
    assert len(bound_step(opt).kinds) == 2
    opt.groups = None
    opt.update(params, params.zeros_like())
    assert len(bound_step(opt).kinds) == 1
    assert bound_step(opt).key is params.layout
    assert opt.iter == 3


def test_state_of_another_order_is_kept_once():
    """A loaded state takes the parameters' order in memory, and leaves nothing behind."""
    params, opt = {"W": np.ones((40, 30), F4, "F"), "b": ones()}, Adam()
    opt.update(params, {name: np.ones_like(p) for name, p in params.items()})
    saved = copy.deepcopy(opt.state_dict())
    saved["slots"] = {
        slot: {name: np.ascontiguousarray(x) for name, x in views.items()} for slot, views in saved["slots"].items()
    }
    twin = Adam()
    twin.load_state_dict(saved)
    theirs = {name: p.copy("K") for name, p in params.items()}
    for each, arrays in (opt, params), (twin, theirs):
        each.update(arrays, {name: np.ones_like(p) for name, p in arrays.items()})
    assert theirs["W"].tobytes("A") == params["W"].tobytes("A")
    held = sum(view.nbytes for views in twin.state.values() for view in views.values())
    assert bytes_of_state(twin) < 1.2 * held + 2000
