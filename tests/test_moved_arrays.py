"""Arrays that lie elsewhere in the next call: what they share is found, and what has changed about them, too."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastoptim
from fastoptim import SGD, Adam
from internals import bound_step
from support import LAYOUTS, assert_same_bits, like, random, read_only, snapshot

F4, F8 = np.float32, np.float64


def same_elements(a, b):
    steps = zip(a.shape, a.strides, b.strides, strict=True)
    return a.ctypes.data == b.ctypes.data and all(size == 1 or one == two for size, one, two in steps)


def clashes(params, grads, zeroing, adding=False):
    """Whether a call has to be refused: NumPy says which arrays share memory.

    Where gradients are added to a sum (`adding`), they may lie in parameters, as these are written to later.
    """
    names = list(params)
    for i, name in enumerate(names):
        for other in names:
            if other in names[:i] and np.shares_memory(params[name], params[other]):
                return True
            if adding and not zeroing:
                continue
            own = name == other and not zeroing and same_elements(params[name], grads[name])
            if not own and np.shares_memory(params[name], grads[other]):
                return True
            if zeroing and other in names[:i] and np.shares_memory(grads[name], grads[other]):
                return True
    return False


SHAPES = [(4,), (2, 3), (1,), (0,), ()]
WINDOWS = ["C", "C", "C", "strided", "reversed", "F"]


def window(data, buffer, shape, layout):
    """An array of a shape and a layout, somewhere in a buffer."""
    size = int(np.prod(shape))
    step = 2 if layout == "strided" else 1
    start = data.draw(st.integers(0, buffer.size - max(1, size) * step))
    part = buffer[start : start + max(1, size) * step : step][:size]
    if layout == "reversed":
        part = part[::-1]
    return part.reshape(shape, order="F" if layout == "F" else "C")


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_what_moved_arrays_share_is_found(data):
    """Shapes and layouts stay, so that steps stay bound; addresses move at random in two buffers."""
    zeroing = data.draw(st.booleans())
    accumulate = data.draw(st.sampled_from([1, 1, 2]))
    kinds = {
        str(i): (data.draw(st.sampled_from(SHAPES)), *(data.draw(st.sampled_from(WINDOWS)) for _ in range(2)))
        for i in range(data.draw(st.integers(1, 3)))
    }
    room = data.draw(st.integers(30, 80))
    opt = SGD(lr=1.0, zero_grads=zeroing, accumulate=accumulate)
    for _ in range(data.draw(st.integers(2, 6))):
        buffers = [np.arange(room, dtype=F4) + 1, np.arange(room, dtype=F4) + 100]
        params, grads = {}, {}
        for name, (shape, own, their) in kinds.items():
            params[name] = window(data, buffers[0], shape, own)
            itself = own == their and not data.draw(st.integers(0, 3))
            there = buffers[data.draw(st.sampled_from([0, 1, 1]))]
            grads[name] = params[name] if itself else window(data, there, shape, their)
        before, kept = [buffer.copy() for buffer in buffers], opt.state_dict()["micro_steps"]
        if clashes(params, grads, zeroing, accumulate > 1):
            with pytest.raises(ValueError, match="share memory"):
                opt.update(params, grads)
            for buffer, old in zip(buffers, before, strict=True):
                assert_same_bits(buffer, old)
            assert opt.state_dict()["micro_steps"] == kept
        elif accumulate == 1:
            expected = {name: p - grads[name] for name, p in params.items()}
            opt.update(params, grads)
            for name, p in params.items():
                assert_same_bits(p, np.asarray(expected[name], F4), name)
                assert not (zeroing and grads[name].any())
        else:
            opt.update(params, grads)
            assert all(not g.any() for g in grads.values()) or not zeroing


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_what_moves_alone_is_the_same_as_bound_anew(data):
    """One optimizer keeps its steps, the other forgets them: both accept and refuse the same calls."""
    count = data.draw(st.integers(2, 4))
    keeping, zeroing = SGD(lr=1.0), data.draw(st.booleans())
    keeping.zero_grads = zeroing
    for _ in range(4):
        rooms = [np.arange(40, dtype=F4) for _ in range(2)]
        places = [[data.draw(st.integers(0, 36)) for _ in range(count)] for _ in range(2)]
        inside = data.draw(st.booleans())
        results = []
        for opt in keeping, SGD(lr=1.0, zero_grads=zeroing):
            p_room, g_room = (room.copy() for room in rooms)
            params = {i: p_room[place : place + 4] for i, place in enumerate(places[0])}
            grads = {i: (p_room if inside else g_room)[place : place + 4] for i, place in enumerate(places[1])}
            try:
                opt.update(params, grads)
                results.append((False, p_room.tobytes(), g_room.tobytes()))
            except ValueError as error:
                results.append(("share memory" in str(error), p_room.tobytes(), g_room.tobytes()))
        assert results[0] == results[1]


def trained(rng, layout, **options):
    params = {"W": LAYOUTS[layout](random(rng, (4, 3), F4)), "b": random(rng, (3,), F4)}
    opt = Adam(**options)
    for _ in range(2):
        opt.update(params, {name: LAYOUTS[layout](g) for name, g in like(rng, params).items()})
    assert bound_step(opt) is not None
    return opt, params


@pytest.mark.parametrize("options", [{}, {"clip_norm": 1.0, "ema": 0.5}, {"accumulate": 2}], ids=str)
@pytest.mark.parametrize("layout", ["C", "F", "strided"])
def test_a_parameter_that_becomes_read_only(layout, options, rng):
    opt, params = trained(rng, layout, **options)
    for _ in range(2):
        params["W"].flags.writeable = False
        grads = like(rng, params)
        before = snapshot(opt, params, grads)
        with pytest.raises(ValueError, match=r"params\['W'\].*read-only"):
            opt.update(params, grads)
        assert snapshot(opt, params, grads) == before
        params["W"].flags.writeable = True
        opt.update(params, grads)


@pytest.mark.parametrize("layout", ["C", "F", "strided"])
@pytest.mark.parametrize("options", [{"zero_grads": True}, {"zero_grads": True, "accumulate": 2}], ids=str)
def test_a_gradient_that_becomes_read_only(layout, options, rng):
    opt, params = trained(rng, layout, **options)
    grads = {name: LAYOUTS[layout](g) for name, g in like(rng, params).items()}
    read_only(grads["W"])
    before = snapshot(opt, params, grads)
    with pytest.raises(ValueError, match=r"grads\['W'\].*read-only"):
        opt.update(params, grads)
    assert snapshot(opt, params, grads) == before
    opt.zero_grads = False
    opt.update(params, grads)


def resized(a):
    a.resize((5, 3), refcheck=False)


def reshaped(a):
    a.shape = (3, 4)


def retyped(a):
    a.dtype = np.int32


@pytest.mark.parametrize("is_param", [True, False])
@pytest.mark.parametrize("change", [resized, reshaped, retyped])
def test_an_array_that_is_changed_in_place(change, is_param, rng):
    """NumPy is about to forbid it, but there are programs that do it."""
    opt, params = trained(rng, "C")
    grads = like(rng, params)
    opt.update(params, grads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        change((params if is_param else grads)["W"])
    before = snapshot(opt, params, grads)
    with pytest.raises((TypeError, ValueError), match=r"\['W'\]"):
        opt.update(params, grads)
    assert snapshot(opt, params, grads) == before


def test_a_flat_buffer_that_becomes_read_only(rng):
    flat, opt = fastoptim.flatten({"W": random(rng, (4, 3), F4)}), Adam()
    grads = flat.zeros_like()
    for _ in range(2):
        opt.update(flat, grads)
    flat.buffer.flags.writeable = False
    before = snapshot(opt, flat, grads)
    with pytest.raises(ValueError, match="read-only"):
        opt.update(flat, grads)
    assert snapshot(opt, flat, grads) == before
    flat.buffer.flags.writeable = True
    opt.update(flat, grads)
    assert opt.iter == 3


def test_parameters_that_change_places(rng):
    """Two arrays of one shape under each other's names: the state stays with the name."""
    a, b = random(rng, (4,), F4), random(rng, (4,), F4)
    opt, twins = Adam(lr=0.1), {name: Adam(lr=0.1) for name in "ab"}
    theirs = [a.copy(), b.copy()]
    for step in range(5):
        grads = {name: random(rng, (4,), F4) for name in "ab"}
        order = (0, 1) if step % 2 else (1, 0)
        opt.update(dict(zip("ab", [(a, b)[i] for i in order], strict=True)), grads)
        for name, i in zip("ab", order, strict=True):
            twins[name].update({name: theirs[i]}, grads)
    for p, their in zip((a, b), theirs, strict=True):
        assert_same_bits(p, their)
