"""`cautious`: no element moves along its gradient. Held against its definition and another library's C-Lion."""

import numpy as np
import pytest

from fastoptim import LAMB, SGD, Adam, Lion, Momentum
from support import assert_close, assert_same_bits, random

F4, F8 = np.float32, np.float64


def test_elements_move_as_without_it_or_not_at_all(rng):
    """And the state is that of an optimizer without it, as the gradients are the same."""
    p, opt, other = random(rng, (400,), F4), Adam(0.1, cautious=True), Adam(0.1)
    shares = []
    for _ in range(6):
        g, before, moved = random(rng, p.shape, F4), p.copy(), p.copy()
        other.update({"p": moved}, {"p": g})
        opt.update({"p": p}, {"p": g})
        agrees = np.sign(before - moved) == np.sign(g)
        assert_same_bits(p, np.where(agrees, moved, before))
        for slot in Adam.slots:
            assert_same_bits(opt.state[slot]["p"], other.state[slot]["p"], slot)
        shares.append(agrees.mean())
    assert shares[0] == 1
    assert 0.4 < min(shares) < 0.9


@pytest.mark.parametrize("decoupled", [False, True])
def test_the_gradient_has_the_decay_unless_it_is_decoupled(decoupled):
    p, zeros = np.array([1.0, -1.0, 1.0]), np.zeros(3)
    opt = Momentum(0.5, 0.5, cautious=True, weight_decay=0.25, decoupled=decoupled)
    opt.update({"p": p}, {"p": zeros})
    decayed = np.array([0.875, -0.875, 0.875])
    assert_same_bits(p, decayed)
    opt.state["v"]["p"][:] = [0.0, 0.0, 1.0]  # the last one's velocity goes away from zero
    opt.update({"p": p}, {"p": zeros})
    decayed[: 3 if decoupled else 2] *= 0.875
    assert_same_bits(p, decayed)


def test_sgd_is_always_cautious(rng):
    options = {"weight_decay": 0.5, "maximize": True, "clip_value": 0.3}
    p, g = random(rng, (50,), F8), random(rng, (50,), F8)
    q, g[:3] = p.copy(), 0
    SGD(0.1, **options).update({"p": p}, {"p": g})
    SGD(0.1, cautious=True, **options).update({"p": q}, {"p": g})
    assert_same_bits(p, q)


def test_numbers_whose_product_is_zero_in_float32():
    p, g = np.zeros(4, F4), np.array([1e-30, -1e-30, 1e-40, -1e-44], F4)
    SGD(0.5, cautious=True).update({"p": p}, {"p": g})
    assert_same_bits(p, -g * F4(0.5))


def test_nan_is_seen():
    p, opt = np.ones(3, F4), Adam(0.5, cautious=True)
    opt.update({"p": p}, {"p": np.array([np.nan, 1.0, -1.0], F4)})
    assert list(np.isnan(p)) == [True, False, False]
    opt.update({"p": p}, {"p": np.ones(3, F4)})
    assert list(np.isnan(p)) == [True, False, False]


@pytest.mark.parametrize("decoupled", [False, True])
def test_the_c_lion_of_another_library(decoupled, rng):
    """It divides by the share of the elements that move, 1 added to their number: by 2 in arrays of one element."""
    torch = pytest.importorskip("torch", reason="compares with pytorch_optimizer, which needs PyTorch")
    theirs = pytest.importorskip("pytorch_optimizer", reason="compares with pytorch_optimizer")
    params = {"p": random(rng, (40,), F8)}
    tensors = [torch.nn.Parameter(torch.tensor([x], dtype=torch.float64)) for x in params["p"]]
    decay = 0.25 if decoupled else 0.5  # theirs is multiplied by their lr, which is twice ours
    peer = theirs.Lion(tensors, 0.2, (0.7, 0.6), weight_decay=decay, weight_decouple=decoupled, cautious=True)
    opt = Lion(0.1, 0.7, 0.6, weight_decay=0.5, decoupled=decoupled, cautious=True)
    for _ in range(50):
        g = random(rng, (40,), F8)
        for tensor, x in zip(tensors, g, strict=True):
            tensor.grad = torch.tensor([x], dtype=torch.float64)
        peer.step()
        opt.update(params, {"p": g})
    assert_close(params["p"], np.array([tensor.item() for tensor in tensors]))


@pytest.mark.parametrize("cls", [Adam, LAMB])
def test_rescaled(cls, rng):
    """Elements that make a step make a longer one: by the number of all over the number of these plus 1."""
    p = {"a": rng.standard_normal((70, 90)), "b": rng.standard_normal(13)}
    plain, opt, other = {k: x.copy() for k, x in p.items()}, cls(0.1, cautious="rescaled"), cls(0.1)
    for t in range(3):
        g, old = {k: rng.standard_normal(x.shape) for k, x in p.items()}, {k: x.copy() for k, x in p.items()}
        for k in p:
            plain[k][...] = p[k]
        opt.update(p, g)
        other.update(plain, g)
        for k in p:
            step = old[k] - plain[k]
            goes_down = step * g[k] > 0
            assert goes_down.all() if t == 0 else 0 < goes_down.sum() < step.size
            assert_close(p[k], old[k] - step * goes_down * (step.size / (goes_down.sum() + 1)), k)
