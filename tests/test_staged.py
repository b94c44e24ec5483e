"""Staged copies: arrays in any layout and of any float dtype give the bits of dense ones, above and below the limit."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastoptim import SGD, Adam
from internals import SERIAL_LIMIT, bound_step, divide_work_among, never_go_on_alone
from support import LAYOUTS, assert_same_bits, like, random

F2, F4, F8 = np.float16, np.float32, np.float64


@pytest.fixture(scope="module", autouse=True)
def all_threads():
    with pytest.MonkeyPatch.context() as patch:
        never_go_on_alone(patch)
        yield


def laid_out(a, order, steps, offset):
    """The same numbers with the axes in another order in memory, gaps between them, some backwards."""
    shape = [a.shape[axis] * abs(steps[axis]) for axis in order]
    room = np.full(math.prod(shape) * a.itemsize + offset, 0xA5, np.uint8)
    view = room[offset:].view(a.dtype).reshape(shape).transpose(np.argsort(np.array(order, int)))
    view = view[(*(slice(None, None, step) for step in steps), ...)]
    assert view.shape == a.shape
    view[...] = a
    return view, room


@st.composite
def layouts(draw, shape):
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 1, 1, 2, -1, -2, 3])) for _ in shape]
    return order, steps, draw(st.sampled_from([0, 0, 0, 1, 3, 4, 8]))


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "zero_grads": st.just(True),
        "clip_norm": st.just(0.5),
        "ema": st.just(0.75),
        "accumulate": st.just(2),
        "skip_nonfinite": st.just(True),
    },
)
SHAPES = [(), (1,), (7,), (0, 3), (3, 5), (2, 3, 4), (1, 6, 1), (33, 17), (9, 3, 3, 2)]
LARGE = [(SERIAL_LIMIT + 1,), (131, 131), (SERIAL_LIMIT // 4, 5), (3, SERIAL_LIMIT // 2), (40, 20, 3, 9)]


def gap_bytes(room, view):
    """The bytes of a buffer that are no element of a view."""
    kept = view.copy()
    view.view(f"u{view.itemsize}")[...] = 0
    bytes_around = room.tobytes()
    view[...] = kept
    return bytes_around


def check(data, shapes, dtype, options, cls=Adam, calls=4):
    """An optimizer with arrays as they come beside one with dense arrays of the parameters' dtype."""
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    start = {str(i): random(rng, shape, dtype) for i, shape in enumerate(shapes)}
    opt, twin = cls(lr=0.1, **options), cls(lr=0.1, **options)
    placed = {name: laid_out(p, *data.draw(layouts(p.shape))) for name, p in start.items()}
    params = {name: view for name, (view, _) in placed.items()}
    gaps = {name: gap_bytes(room, view) for name, (view, room) in placed.items()}
    kinds = {name: (data.draw(layouts(p.shape)), data.draw(st.sampled_from([F2, F4, F8]))) for name, p in start.items()}
    for call in range(calls):
        given, dense, rooms = {}, {}, {}
        for name, p in start.items():
            layout, their = kinds[name]
            g = random(rng, p.shape, their)
            if options.get("skip_nonfinite") and call == 1 and g.size:
                g.flat[0] = np.nan
            given[name], rooms[name] = laid_out(g, *layout)
            with np.errstate(all="ignore"):
                dense[name] = g.astype(dtype)
        around = {name: gap_bytes(rooms[name], g) for name, g in given.items()}
        kept = {name: g.copy() for name, g in given.items()}
        opt.update(params, given)
        twin.update(start, dense)
        for name, p in start.items():
            assert_same_bits(params[name], p, f"{call} {name}")
            if options.get("zero_grads"):
                assert not given[name].any()
            else:
                assert_same_bits(given[name], kept[name], name)
            assert gap_bytes(rooms[name], given[name]) == around[name]
            assert gap_bytes(placed[name][1], params[name]) == gaps[name]
    assert (opt.iter, opt.skipped, opt.grad_norm) == (twin.iter, twin.skipped, twin.grad_norm)
    for slot in opt.slots:
        for name in start if opt.iter else ():
            assert_same_bits(opt.state[slot][name], twin.state[slot][name], f"{slot} {name}")
    for name in opt.averages or ():
        assert_same_bits(opt.averages[name], twin.averages[name], f"average {name}")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_random_layouts_and_dtypes(data):
    shapes = data.draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=4))
    dtype, cls = data.draw(st.sampled_from([F4, F4, F8])), data.draw(st.sampled_from([SGD, Adam]))
    check(data, shapes, dtype, data.draw(OPTIONS), cls)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_large_random_layouts_and_dtypes(data):
    shapes = [data.draw(st.sampled_from(LARGE)), data.draw(st.sampled_from(SHAPES))]
    check(data, shapes, F4, data.draw(OPTIONS), calls=3)


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_division_of_the_work(layout, workers, monkeypatch, rng):
    start = {"W": random(rng, (301, 97), F4), "T": random(rng, (33, 30, 30), F4), "b": random(rng, (7,), F4)}
    assert all(p.size > SERIAL_LIMIT for name, p in start.items() if name != "b")
    params = {name: LAYOUTS[layout](p) for name, p in start.items()}
    options = {"clip_norm": 0.5, "ema": 0.75, "zero_grads": True}
    opt, twin = Adam(**options), Adam(**options)
    for _ in range(3):
        grads = like(rng, start)
        given = {name: LAYOUTS[layout](g.astype(F8)) for name, g in grads.items()}
        with monkeypatch.context() as patch:
            divide_work_among(workers, patch)
            opt.update(params, given)
        twin.update(start, grads)
        assert not any(g.any() for g in given.values())
    assert bound_step(opt) is not None
    for name, p in start.items():
        assert_same_bits(params[name], p, name)
        assert_same_bits(opt.averages[name], twin.averages[name], name)


def test_staged_steps_of_different_sizes_in_turn(rng):
    """They share their memory, which grows and moves."""
    sizes = {f"p{n}": (n, 5) for n in (3, 900, 40, 5000, 2)}
    start = {name: random(rng, shape, F4) for name, shape in sizes.items()}
    params, opt, twin = {name: np.asfortranarray(p)[::-1] for name, p in start.items()}, Adam(lr=0.1), Adam(lr=0.1)
    start = {name: np.ascontiguousarray(p) for name, p in params.items()}
    for turn in range(4):
        for name in [*sizes, *reversed(sizes)]:
            g = random(rng, sizes[name], F4)
            opt.update({name: params[name]}, {name: np.asfortranarray(g)})
            twin.update({name: start[name]}, {name: g})
            assert_same_bits(params[name], start[name], f"{turn} {name}")


def test_a_gradient_that_is_its_parameter_in_gaps(rng):
    for size in 50, SERIAL_LIMIT + 1:
        start = random(rng, (size,), F4)
        p, theirs = LAYOUTS["strided"](start), start.copy()
        opt, twin = Adam(lr=0.1, clip_norm=0.5), Adam(lr=0.1, clip_norm=0.5)
        for _ in range(3):
            opt.update({"p": p}, {"p": p})
            twin.update({"p": theirs}, {"p": theirs})
        assert_same_bits(p, theirs)
