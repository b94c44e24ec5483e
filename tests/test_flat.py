"""FlatDict: views of one buffer per dtype, and one kernel call for an update."""

import copy
import pickle

import numpy as np
import pytest

import fastoptim
from fastoptim.arrays.memory import ALIGNMENT
from internals import count_rows
from support import LAYOUTS, assert_same_bits, random

F4, F8 = np.float32, np.float64


@pytest.fixture
def params():
    rng = np.random.default_rng(0)
    return {"W": random(rng, (3, 4), F4), "b": random(rng, (), F4), "none": random(rng, (0, 2), F4)}


def test_the_arrays_are_views_of_an_aligned_buffer(params):
    flat = fastoptim.flatten(params)
    assert flat.buffer.shape == (13,)
    assert flat.buffer.dtype == F4
    assert flat.buffer.ctypes.data % ALIGNMENT == 0
    assert list(flat) == list(params)
    for name, p in params.items():
        assert_same_bits(flat[name], p)
        assert not np.shares_memory(flat[name], p)
    flat.buffer[...] = 7
    assert (flat["W"] == 7).all()
    assert flat["b"] == 7


def test_it_is_a_mapping(params):
    flat = fastoptim.flatten(params)
    assert dict(flat).keys() == params.keys() == flat.keys()
    assert dict(flat)["W"] is flat["W"]
    assert [v.shape for v in flat.values()] == [p.shape for p in params.values()]
    assert [k for k, _ in flat.items()] == list(params)
    assert len(flat) == 3
    assert "W" in flat
    assert "no" not in flat
    assert flat.get("no") is None
    with pytest.raises(KeyError):
        flat["no"]
    assert "'W': float32 (3, 4)" in repr(flat)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_becomes_contiguous(layout, params):
    flat = fastoptim.flatten({name: LAYOUTS[layout](p) for name, p in params.items()})
    for name, p in params.items():
        assert flat[name].flags.c_contiguous
        assert_same_bits(flat[name], p)


def test_two_dtypes_have_two_buffers(params):
    flat = fastoptim.flatten({"x": np.ones(2, F8), **params, "y": np.full(3, 2.0)})
    assert {dtype: b.size for dtype, b in flat.buffers.items()} == {np.dtype(F8): 5, np.dtype(F4): 13}
    assert (flat.buffers[np.dtype(F8)] == [1, 1, 2, 2, 2]).all()
    with pytest.raises(AttributeError, match="float64 or float32"):
        _ = flat.buffer


def test_nothing_at_all():
    flat = fastoptim.flatten({})
    assert len(flat) == 0
    fastoptim.Adam().update(flat, flat.zeros_like())
    with pytest.raises(AttributeError):
        _ = flat.buffer


def test_writing_into_it_and_binding_a_name_anew(params):
    flat = fastoptim.flatten(params)
    view = flat["W"]
    flat["W"][...] = 1
    flat["W"] += 2
    assert flat["W"] is view
    assert (flat.buffer[:12] == 3).all()
    with pytest.raises(TypeError, match=r"flat\['W'\]\[\.\.\.\] = x"):
        flat["W"] = np.zeros((3, 4), F4)
    with pytest.raises(TypeError, match="new"):
        flat["new"] = np.zeros(1, F4)
    with pytest.raises(TypeError, match="deleted"):
        del flat["W"]


def test_copies(params):
    flat = fastoptim.flatten(params)
    zeros = flat.zeros_like()
    assert zeros.layout is flat.layout
    assert (zeros.buffer == 0).all()
    for twin in (
        flat.copy(),
        copy.copy(flat),
        copy.deepcopy(flat),
        pickle.loads(pickle.dumps(flat)),
        fastoptim.flatten(flat),
    ):
        assert type(twin) is fastoptim.FlatDict
        assert_same_bits(twin.buffer, flat.buffer)
        assert not np.shares_memory(twin.buffer, flat.buffer)
        assert np.shares_memory(twin["W"], twin.buffer)
        assert list(twin) == list(flat)


def test_two_that_are_pickled_together_keep_their_layout(params):
    flat = fastoptim.flatten(params)
    one, other = pickle.loads(pickle.dumps((flat, flat.zeros_like())))
    assert one.layout is other.layout
    assert_same_bits(one.buffer, flat.buffer)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({1}, "mapping.*set"),
        ([1], r"params\[0\].*int; numbers are immutable"),
        ({"W": 1.0}, r"params\['W'\].*float"),
        ({"W": np.ones(3, int)}, r"params\['W'\].*float32, float64, float16 or bfloat16.*int64"),
        ({"W": np.ones(3, ">f4")}, r"params\['W'\]"),
    ],
)
def test_what_flatten_refuses(wrong, words):
    with pytest.raises(TypeError, match=words):
        fastoptim.flatten(wrong)


@pytest.fixture
def rows(monkeypatch):
    return count_rows(monkeypatch)


def test_an_update_of_one_layout_is_one_call_of_one_row(params, rows):
    flat = fastoptim.flatten(params)
    opt = fastoptim.Adam()
    for _ in range(3):
        opt.update(flat, flat.zeros_like())  # new buffers each time
    assert rows == [1, 1, 1]
    opt.update(flat.copy(), flat.zeros_like())
    assert rows == [1, 1, 1, 1]
    opt.update(flat, dict(flat.zeros_like()))  # the general way: a row for each array, still one call
    assert rows[4:] == [3]


def test_state_made_in_another_order_is_found(params):
    flat, opt = fastoptim.flatten(params), fastoptim.Momentum(lr=1, momentum=0.5)
    expected, grads = copy.deepcopy(params), flat.copy()
    plain = fastoptim.Momentum(lr=1, momentum=0.5)
    opt.update({name: flat[name] for name in reversed(flat)}, grads)
    plain.update(expected, dict(grads))
    for _ in range(2):
        opt.update(flat, grads)
        plain.update(expected, dict(grads))
    for name in params:
        assert_same_bits(flat[name], expected[name])


def test_a_buffer_made_read_only_is_refused(params):
    flat = fastoptim.flatten(params)
    opt = fastoptim.SGD()
    opt.update(flat, flat.zeros_like())
    flat.buffer.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        opt.update(flat, flat.zeros_like())


def test_the_buffer_takes_part_in_arithmetic_but_stays(params):
    flat = fastoptim.flatten({"a": np.full(3, 2.0)})
    buffer = flat.buffer
    flat.buffer *= 3
    assert flat.buffer is buffer
    assert (flat["a"] == 6).all()
    with pytest.raises(AttributeError, match=r"flat\.buffer\[\.\.\.\] = x"):
        flat.buffer = np.zeros(3)
    with pytest.raises(AttributeError, match=r"flat\.buffer\[\.\.\.\] = x"):
        fastoptim.flatten(params).buffer = np.zeros(18)
    assert (flat["a"] == 6).all()
