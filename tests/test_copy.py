"""Copies between layouts and dtypes against `np.copyto`: every bit, and no byte beside the target's elements."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import types

from fastoptim.kernels.copy import Copy, Side, can_copy
from fastoptim.kernels.launch import Launches, run_parallel

DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
PAIRS = list(product(DTYPES, DTYPES))
ALWAYS, NEVER = 10**12, 0  # limits: one thread for any number of elements, or for none
MARGIN = 64  # bytes before and behind an array, which nobody may touch


# A layout is `(shape, order, steps)`: the order of the axes in memory, outermost first, and the step along each axis.


def view_of(buffer, layout, dtype):
    """The array of a layout that lies in a buffer."""
    shape, order, steps = layout
    room = [shape[axis] * abs(steps[axis]) for axis in order]
    view = buffer[MARGIN:-MARGIN].view(dtype).reshape(room).transpose(np.argsort(np.array(order, int)))
    return view[(*(slice(None, None, step) for step in steps), ...)]


def random_buffer(layout, dtype, rng):
    """A buffer with elements of all kinds, nan with any payload too, and margins."""
    shape, _, steps = layout
    size = math.prod(shape) * abs(math.prod(steps))
    buffer = np.full(2 * MARGIN + size * dtype.itemsize, 0xA5, np.uint8)
    elements = buffer[MARGIN:-MARGIN].view(dtype)
    elements[:] = rng.integers(0, 2 ** (8 * dtype.itemsize), size, f"u{dtype.itemsize}").view(dtype)
    usual, special = rng.random(size) < 0.5, rng.random(size) < 0.1
    elements[usual] = rng.standard_normal(np.count_nonzero(usual))
    elements[special] = rng.choice([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e39, 1e-46], np.count_nonzero(special))
    return buffer


def made_ready(source, target, cells):
    sides = (Side(array.dtype, array.strides, cells.ctypes.data + 8 * i) for i, array in enumerate((source, target)))
    return Copy(source.shape, *sides)


def run(copy, workers):
    """Make a copy: on one thread, on all of them, or as so many shares of the work."""
    if workers in (ALWAYS, NEVER):
        launches = Launches([copy.launch()], workers)
        launches.compile()
        launches.run()
    else:
        words = np.array(copy.launch()[:5], np.int64)
        run_parallel.compile((types.int64, types.int64))
        run_parallel(words.ctypes.data, workers)


def check(source_layout, target_layout, dtypes, workers, seed=0):
    rng = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        source_buffer, buffer = (
            random_buffer(source_layout, dtypes[0], rng),
            random_buffer(target_layout, dtypes[1], rng),
        )
        unchanged, expected = source_buffer.copy(), buffer.copy()
        source, target = view_of(source_buffer, source_layout, dtypes[0]), view_of(buffer, target_layout, dtypes[1])
        np.copyto(view_of(expected, target_layout, dtypes[1]), source, casting="same_kind")
    cells = np.array([source.ctypes.data, target.ctypes.data])
    copy = made_ready(source, target, cells)
    assert copy.elements == source.size
    run(copy, workers)
    assert buffer.tobytes() == expected.tobytes()
    assert source_buffer.tobytes() == unchanged.tobytes()


def c_order(shape):
    return shape, tuple(range(len(shape))), (1,) * len(shape)


def f_order(shape):
    return shape, tuple(reversed(range(len(shape)))), (1,) * len(shape)


def strided(shape):
    return shape, tuple(range(len(shape))), (2,) * len(shape)


def reversed_(shape):
    return shape, tuple(range(len(shape))), (-1,) * len(shape)


def strided_f_order(shape):
    return shape, tuple(reversed(range(len(shape)))), (-2, 3, 1, 2, -1)[: len(shape)]


def axes_moved(shape):
    return shape, (*range(1, len(shape)), 0)[: len(shape)], (1,) * len(shape)


def part_of_rows(shape):
    return shape, tuple(range(len(shape))), (1, 1, 1, 1, 2)[5 - len(shape) :]


LAYOUTS = [c_order, f_order, strided, reversed_, strided_f_order, axes_moved, part_of_rows]
SHAPES = [
    (),
    (1,),
    (3001,),
    (8, 8),
    (7, 300),
    (300, 7),
    (131, 97),
    (1, 40, 1),
    (9, 40, 33),
    (500, 3, 3),
    (33, 17, 3, 3),
    (5, 4, 3, 2, 9),
]


@pytest.mark.parametrize("dtypes", PAIRS, ids=lambda pair: f"{pair[0]}-{pair[1]}")
@pytest.mark.parametrize("target", LAYOUTS)
@pytest.mark.parametrize("source", LAYOUTS)
def test_layouts(source, target, dtypes):
    for shape in SHAPES:
        check(source(shape), target(shape), dtypes, workers=3)


@pytest.mark.parametrize("dtypes", PAIRS[::2], ids=lambda pair: f"{pair[0]}-{pair[1]}")
@pytest.mark.parametrize("shape", [(700, 900), (2_100_003,), (3, 100_001), (100_001, 3)])
@pytest.mark.parametrize("source", [f_order, c_order, strided])
def test_large(source, shape, dtypes):
    """Tiles grow with the array, and end at no multiple of their sides."""
    check(source(shape), c_order(shape), dtypes, NEVER)


@pytest.mark.parametrize("workers", [ALWAYS, NEVER, 1, 2, 3, 4, 7, 16, 1000])
@pytest.mark.parametrize("source", [f_order, c_order, part_of_rows, strided])
def test_threads(source, workers):
    for shape in ((250, 333), (70_001,), (2, 30_000)):
        check(source(shape), c_order(shape), PAIRS[0], workers)
        check(c_order(shape), source(shape), PAIRS[2], workers)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 5, 2), (4, 0, 0, 3)])
@pytest.mark.parametrize("workers", [ALWAYS, NEVER, 2])
def test_empty(shape, workers):
    check(f_order(shape), c_order(shape), PAIRS[1], workers)


@st.composite
def layouts(draw):
    """Two layouts of one shape."""
    shape, room = [], 20_000
    for _ in range(draw(st.integers(0, 5))):
        shape.append(draw(st.one_of(st.integers(0, 4), st.integers(0, max(1, min(80, room))))))
        room //= max(shape[-1], 1)
    steps = st.tuples(*(st.sampled_from([1, 1, 1, 2, 3, -1, -2]) for _ in shape))
    orders = st.permutations(range(len(shape)))
    return tuple((tuple(shape), tuple(draw(orders)), draw(steps)) for _ in range(2))


@settings(deadline=None, max_examples=400)
@given(layouts(), st.sampled_from(PAIRS), st.sampled_from([ALWAYS, NEVER, 2, 3, 5]), st.integers(0, 2**32))
def test_any(pair, dtypes, workers, seed):
    check(*pair, dtypes, workers, seed)


@pytest.mark.parametrize("broadcast", [np.arange(50.0), np.arange(40.0)[:, None], np.float64(3)])
def test_broadcast_source(broadcast):
    source = np.broadcast_to(broadcast, (40, 50))
    for target in (np.zeros((40, 50), np.float32), np.zeros((50, 40), np.float32).T):
        cells = np.array([source.ctypes.data, target.ctypes.data])
        run(made_ready(source, target, cells), ALWAYS)
        np.testing.assert_array_equal(target, source)


def test_addresses_are_read_when_it_runs():
    source, target = np.zeros((20, 30)), np.zeros((20, 30))
    cells = np.array([source.ctypes.data, target.ctypes.data])
    copy = made_ready(source, target, cells)
    launches = Launches([copy.launch()], ALWAYS)
    other_source, other_target = np.arange(600.0).reshape(20, 30), np.zeros((20, 30))
    cells[:] = other_source.ctypes.data, other_target.ctypes.data
    launches.run()
    np.testing.assert_array_equal(other_target, other_source)
    assert not target.any()


def test_overflow_warns_of_nothing():
    source, target = np.full((30, 20), 1e300), np.zeros((30, 20), np.float32)
    cells = np.array([source.ctypes.data, target.ctypes.data])
    with np.errstate(all="raise"):
        run(made_ready(source, target, cells), ALWAYS)
        assert np.add(target, 1, dtype=np.float32).max() == np.inf
    assert (target == np.inf).all()


def test_can_copy():
    assert all(can_copy(*pair) for pair in PAIRS)
    for dtype in ("float16", "int32", "complex64", ">f8" if np.dtype("f8").isnative else "<f8", "O"):
        assert not can_copy(np.dtype(dtype), DTYPES[0])
        assert not can_copy(DTYPES[0], np.dtype(dtype))
