"""The same bits for any number of threads, dict or flat, any order of names, and from the public kernels."""

import numba
import numpy as np
import pytest

import fastoptim
from internals import SERIAL_LIMIT, divide_work_among, never_go_on_alone
from sums_in_numpy import InNumpy
from support import DTYPES, LAYOUTS, OPTIMIZERS, assert_same_bits, has_public_kernel, random
from variants import switched_off

SHAPES = {"a": (300, 211), "b": (7,), "c": (), "d": (0, 3), "e": (50_003,), "f": (64, 64)}
MANY = numba.config.NUMBA_NUM_THREADS


@pytest.fixture(scope="module", autouse=True)
def all_threads():
    """On a busy machine, too, nothing is left to one thread."""
    with pytest.MonkeyPatch.context() as patch:
        never_go_on_alone(patch)
        yield


def arrays(seed, dtype):
    rng = np.random.default_rng(seed)
    return {name: random(rng, shape, dtype) for name, shape in SHAPES.items()}


def flattened(values):
    return np.concatenate([np.ravel(v) for v in values])


def train(cls, dtype, prepare=lambda params: params, gradients=lambda grads: grads, steps=4):
    """Parameters and state after some steps, as C-ordered arrays by name."""
    params = prepare(arrays(0, dtype))
    opt = cls(lr=0.05, **switched_off(cls))  # as public kernels have no options
    for step in range(steps):
        opt.update(params, gradients(arrays(step + 1, dtype)))
    result = {name: params[name] for name in SHAPES}
    for slot, views in opt.state.items():
        result |= {f"{slot} {name}": view for name, view in views.items()}
    return result


@pytest.fixture(scope="module", params=[(cls, dtype) for cls in OPTIMIZERS for dtype in DTYPES], ids=str)
def trained(request):
    cls, dtype = request.param
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    expected = train(cls, dtype)
    numba.set_num_threads(before)
    return cls, dtype, expected


def assert_alike(actual, expected):
    assert actual.keys() == expected.keys()
    for name in expected:
        assert_same_bits(actual[name], expected[name], name)


def test_the_arrays_here_are_enough_for_all_threads():
    assert sum(np.prod(shape, dtype=int) for shape in SHAPES.values()) > SERIAL_LIMIT


@pytest.mark.parametrize("threads", sorted({1, 2, 3, MANY} & set(range(1, MANY + 1))))
def test_any_number_of_threads(trained, threads):
    cls, dtype, expected = trained
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        assert_alike(train(cls, dtype), expected)
    finally:
        numba.set_num_threads(before)


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 64])
def test_any_division_of_the_work(trained, workers, monkeypatch):
    """More shares than this machine has threads: the kernel takes any number."""
    cls, dtype, expected = trained
    divide_work_among(workers, monkeypatch)
    assert_alike(train(cls, dtype), expected)


def test_any_order_of_names(trained):
    cls, dtype, expected = trained
    assert_alike(train(cls, dtype, lambda p: dict(reversed(p.items()))), expected)
    assert_alike(train(cls, dtype, gradients=lambda g: dict(sorted(g.items(), reverse=True))), expected)


@pytest.mark.parametrize("first", range(len(LAYOUTS)))
def test_any_layout(trained, first):
    """Each array lies in memory in one way, its gradient in another one."""
    cls, dtype, expected = trained
    makers = [*LAYOUTS.values()]

    def laid_out(arrays, first):
        return {name: makers[(first + i) % len(makers)](array) for i, (name, array) in enumerate(arrays.items())}

    assert_alike(train(cls, dtype, lambda p: laid_out(p, first), lambda g: laid_out(g, 5 * first + 1)), expected)


def test_flat(trained):
    cls, dtype, expected = trained
    assert_alike(train(cls, dtype, fastoptim.flatten), expected)
    layout = fastoptim.flatten(arrays(0, dtype))

    def same_layout(grads):
        flat = layout.zeros_like()
        for name, g in grads.items():
            flat[name][...] = g
        return flat

    def copy_of_layout(params):
        layout.buffer[...] = flattened(params.values())
        return layout.copy()

    assert_alike(train(cls, dtype, copy_of_layout, same_layout), expected)


@pytest.mark.parametrize("which", ["cpu", "cpu_serial"])
def test_public_kernels(trained, which):
    cls, dtype, expected = trained
    if not has_public_kernel(cls, dtype, which):
        pytest.skip("each takes seconds to compile: most optimizers have one of them in float32, the other in float64")
    if not cls.kernels.are_public:
        why = "sums over arrays before its rule" if cls.reductions else "updates matrices by a function"
        with pytest.raises(TypeError, match=rf"{cls.__name__} {why}: expected opt\.update"):
            getattr(cls.kernels, which)
        return
    kernel, numbers = getattr(cls.kernels, which), cls(lr=0.05).successive_scalars()
    p = flattened(arrays(0, dtype).values())
    state = np.zeros((len(cls.slots), p.size), dtype)
    for step in range(4):
        scalars = next(numbers)
        kernel(p, flattened(arrays(step + 1, dtype).values()), state, scalars if step % 2 else np.array(scalars))
    assert_same_bits(p, flattened(expected[name] for name in SHAPES))
    for slot, numbers in zip(cls.slots, state, strict=True):
        assert_same_bits(numbers, flattened(expected[f"{slot} {name}"] for name in SHAPES))


def test_the_rule_itself_in_numpy(trained):
    """IEEE arithmetic, nothing contracted: NumPy, an operation at a time, gets the same bits from the same rule.

    So do sums over arrays, in the order of additions that is promised.
    """
    cls, dtype, expected = trained
    if cls.shared_slots or cls.matrices is not None:
        pytest.skip("a step of one array depends on others, or is not made of rules alone")
    alone = InNumpy(cls(lr=0.05), arrays(0, dtype)["a"])
    for step in range(4):
        alone.step(arrays(step + 1, dtype)["a"])
    assert_same_bits(alone.elements["p"], expected["a"])
    for slot, numbers in (alone.elements | alone.numbers).items():
        if slot != "p":
            assert_same_bits(numbers, expected[f"{slot} a"], slot)
