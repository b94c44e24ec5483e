"""`zero_grads`: gradients are zeroed in place, in every call, and nothing around them."""

import numpy as np
import pytest

import fastoptim
from fastoptim import Adam
from support import LAYOUTS, assert_same_bits, like, random, read_only, snapshot

F4, F8 = np.float32, np.float64


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float16, F4, F8])
def test_gradients_are_zeroed_in_place(layout, dtype, rng):
    p, g = random(rng, (9, 7), F4), LAYOUTS[layout](random(rng, (9, 7), dtype))
    grads = {"p": g, "other": np.ones(3, F4)}
    opt = Adam(zero_grads=True)
    for _ in range(2):
        opt.update({"p": p}, grads)
        assert grads["p"] is g
        assert not g.any()
        assert not np.signbit(g).any()
        assert (grads["other"] == 1).all()
        g[...] = random(rng, (9, 7), dtype)


def test_nothing_around_a_gradient_is_zeroed():
    room = np.ones((8, 6), F4)
    params = {"even": np.zeros((4, 3), F4), "column": np.zeros(8, F4)}
    Adam(zero_grads=True).update(params, {"even": room[::2, ::2], "column": room[:, 5]})
    expected = np.ones((8, 6), F4)
    expected[::2, ::2] = expected[:, 5] = 0
    assert_same_bits(room, expected)


def test_gradients_are_zeroed_in_every_call(rng):
    params = {"p": random(rng, (50,), F4), "q": LAYOUTS["strided"](random(rng, (5,), F4))}
    opt = Adam(zero_grads=True, accumulate=2, skip_nonfinite=True)
    for call in range(5):
        grads = like(rng, params) | {"q": None if call == 0 else random(rng, (5,), (np.float16, F8)[call % 2])}
        if call in (1, 2):
            grads["p"][7] = np.nan
        opt.update(params, grads)
        assert not grads["p"].any()
        assert not np.any(grads["q"])
    assert (opt.iter, opt.skipped) == (1, 2)


def test_flat_gradients_are_zeroed(rng):
    params = fastoptim.flatten({"p": random(rng, (50,), F4), "q": random(rng, (5,), F4)})
    opt, grads = Adam(zero_grads=True), params.zeros_like()
    for _ in range(3):
        for g in grads.values():
            g[...] = 1
        opt.update(params, grads)
        assert not any(buffer.any() for buffer in grads.arrays)


def test_gradients_of_torch_are_zeroed():
    torch = pytest.importorskip("torch", reason="takes gradients of torch, which is not installed")
    g = torch.ones(4)
    Adam(zero_grads=True).update({"p": np.zeros(4, F4)}, {"p": g})
    assert not g.any()


@pytest.mark.parametrize("options", [{"zero_grads": True}, {"zero_grads": True, "accumulate": 3}])
@pytest.mark.parametrize("case", ["read-only", "twice", "itself", "another's", "overlapping", "scalar"])
def test_gradients_that_cannot_be_zeroed(case, options, rng):
    room = random(rng, (40,), F4)
    params = {"W": random(rng, (3, 4), F4), "b": random(rng, (12,), F4), "s": np.ones((), F4)}
    grads = {"W": room[:12].reshape(3, 4), "b": room[20:32], "s": np.ones((), F4)}
    opt = Adam(**options)
    opt.update(params, grads)
    room[...] = 1
    bad = {
        "read-only": {"b": read_only(np.ones(12, F4))},
        "twice": {"b": grads["W"].reshape(12)},
        "itself": {"b": params["b"]},
        "another's": {"b": params["W"].reshape(12)},
        "overlapping": {"b": room[11:23]},
        "scalar": {"s": F4(1)},
    }[case]
    name = next(iter(bad))
    given = {**grads, **bad}
    before = snapshot(opt, params, given)
    with pytest.raises(ValueError, match=rf"grads\['{name}'\]"):
        opt.update(params, given)
    assert snapshot(opt, params, given) == before
    opt.update(params, grads)
    opt.zero_grads = False
    if case != "another's":
        opt.update(params, given)
