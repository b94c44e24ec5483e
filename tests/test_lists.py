"""Parameters and gradients as lists or tuples of arrays: their names are their positions."""

import numpy as np
import pytest

import fastoptim
from support import FEW, OPTIMIZERS, assert_same_bits, assert_state_same_bits, frozen, like, random, snapshot

SHAPES = [(3, 2), (2,), (), (400, 70)]


def arrays(rng, dtype=np.float32):
    return [random(rng, shape, dtype) for shape in SHAPES]


def by_position(values):
    return dict(enumerate(values))


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_the_bits_of_a_dict(cls, kind, rng):
    params = arrays(rng)
    copies = by_position([p.copy() for p in params])
    one, two = (cls(clip_norm=1.0 if cls in FEW else None) for _ in range(2))
    for _ in range(3):
        grads = arrays(rng)
        one.update(kind(params), kind(grads))
        two.update(copies, by_position(grads))
    for i, p in enumerate(params):
        assert_same_bits(p, copies[i])
        assert_state_same_bits(one, two, i)


def test_groups_averages_sums_and_none(rng):
    params = arrays(rng)
    copies = by_position([p.copy() for p in params])
    options = {"ema": 0.5, "accumulate": 2, "groups": {"1": {"lr": 0.3}}}
    one, two = fastoptim.Adam(**options), fastoptim.Adam(**options)
    for i in range(5):
        grads = arrays(rng)
        if i % 2:
            grads[3] = None
        one.update(params, grads)
        two.update(copies, by_position(grads))
    assert list(one.averages) == [0, 1, 2, 3]
    with one.averaged(params):
        for i, p in enumerate(params):
            assert_same_bits(p, two.averages[i])
    for i, p in enumerate(params):
        assert_same_bits(p, copies[i])


def test_flat_buffers(rng):
    params = arrays(rng)
    flat = fastoptim.flatten(params)
    grads = flat.zeros_like()
    opt = fastoptim.SGD(lr=1.0)
    for i in flat:
        grads[i][...] = 0.5
    opt.update(flat, grads)
    for i, p in enumerate(params):
        assert_same_bits(flat[i], p - np.float32(0.5))


def test_a_checkpoint_has_them_by_position(rng, tmp_path):
    params = arrays(rng)
    opt = fastoptim.Adam(ema=0.9, accumulate=3)
    for _ in range(4):
        opt.update(params, arrays(rng))
    fastoptim.save(tmp_path / "a", params, opt, epoch=1)
    checkpoint = fastoptim.load(tmp_path / "a")
    assert list(checkpoint.params) == [0, 1, 2, 3]
    again, resumed = [np.zeros_like(p) for p in params], fastoptim.Adam()
    checkpoint.restore(again, resumed)
    assert frozen(resumed.state_dict()) == frozen(opt.state_dict())
    grads = arrays(rng)
    opt.update(params, grads)
    resumed.update(again, grads)
    for p, q in zip(params, again, strict=True):
        assert_same_bits(p, q)
    with pytest.raises(KeyError, match="checkpoint has no 4, which params has"):
        checkpoint.restore([*again, np.zeros(1, np.float32)])


@pytest.mark.parametrize("names", [(-1,), (10**9,), (0, "a"), (0, True), (2**70,)])
def test_integers_that_are_no_positions_are_not_saved(names, tmp_path):
    params = {name: np.ones(2) for name in names}
    opt = fastoptim.SGD()
    opt.update(params, params)
    with pytest.raises(TypeError, match=r"params\[.*\]: expected names that are str, or all of them positions"):
        fastoptim.save(tmp_path / "a", params, opt)
    assert not (tmp_path / "a").exists()


def test_some_positions_are_saved(tmp_path):
    """Where others had no gradient, or were another network's."""
    params, opt = {3: np.ones(2), 1: np.zeros(3)}, fastoptim.Momentum()
    opt.update({7: np.ones(1), **params}, {7: np.ones(1), 3: None, 1: np.ones(3)})
    fastoptim.save(tmp_path / "a", params, opt)
    checkpoint, again = fastoptim.load(tmp_path / "a"), fastoptim.Momentum()
    checkpoint.restore({1: np.ones(3), 3: np.ones(2)}, again)
    assert list(checkpoint.params) == [3, 1]
    assert frozen(again.state_dict()) == frozen(opt.state_dict())


def test_what_is_refused(rng):
    params, opt = arrays(rng), fastoptim.Adam()
    opt.update(params, arrays(rng))
    before = snapshot(opt, by_position(params))
    grads = list(like(rng, by_position(params)).values())
    for wrong in grads[:-1], [*grads, grads[0]]:
        with pytest.raises(ValueError, match=f"grads: expected 4 arrays, as many as params has, got {len(wrong)}"):
            opt.update(params, wrong)
    with pytest.raises(TypeError, match=r"params: expected a mapping.*got ndarray; for one array, write \[params\]"):
        opt.update(params[0], grads[0])
    with pytest.raises(KeyError, match="grads has no 1, which params has; its names are 0"):
        opt.update(params, {0: grads[0]})
    assert snapshot(opt, by_position(params)) == before
