"""Bad calls: the error names the key, what was found and what was expected, and nothing has changed."""

import warnings
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastoptim
from support import OPTIMIZERS, read_only, snapshot

F4, F8 = np.float32, np.float64


def good():
    room = np.arange(24, dtype=F4)
    return (
        {"W": room[:12].reshape(3, 4), "b": np.ones(4, F8), "s": np.ones((), F4)},
        {"W": np.ones((3, 4), F4), "b": np.ones(4, F8), "s": np.ones((), F4)},
    )


# what to change in good arguments -> the error, and what its message has in it
BAD = {
    "missing": (lambda p, g: g.pop("b"), KeyError, ["'b'", "grads has no"]),
    "shape": (lambda p, g: g.update(W=np.ones((4, 3), F4)), ValueError, ["grads['W']", "(3, 4)", "(4, 3)"]),
    "broadcast row": (lambda p, g: g.update(W=np.ones((1, 4), F4)), ValueError, ["grads['W']", "(1, 4)"]),
    "broadcast scalar": (lambda p, g: g.update(b=np.ones((), F8)), ValueError, ["grads['b']", "()"]),
    "flattened": (lambda p, g: g.update(W=np.ones(12, F4)), ValueError, ["grads['W']", "(12,)"]),
    "integer gradient": (lambda p, g: g.update(W=np.ones((3, 4), int)), TypeError, ["grads['W']", "int64", "float32"]),
    "bool gradient": (lambda p, g: g.update(W=np.ones((3, 4), bool)), TypeError, ["grads['W']", "bool"]),
    "complex gradient": (lambda p, g: g.update(b=np.ones(4, complex)), TypeError, ["grads['b']", "complex128"]),
    "object gradient": (lambda p, g: g.update(b=np.ones(4, object)), TypeError, ["grads['b']", "'O'"]),
    "swapped gradient": (lambda p, g: g.update(b=np.ones(4, ">f8")), TypeError, ["grads['b']", ">f8"]),
    "long double gradient": (lambda p, g: g.update(b=np.ones(4, np.longdouble)), TypeError, ["grads['b']"]),
    "masked gradient": (lambda p, g: g.update(b=np.ma.ones(4)), TypeError, ["grads['b']", "MaskedArray"]),
    "list gradient": (lambda p, g: g.update(b=[1.0, 1, 1, 1]), TypeError, ["grads['b']", "list"]),
    "float gradient": (lambda p, g: g.update(s=1.0), TypeError, ["grads['s']", "float"]),
    "integer": (lambda p, g: p.update(b=np.ones(4, int)), TypeError, ["params['b']", "int64", "float32"]),
    "long": (lambda p, g: p.update(b=np.ones(4, np.longdouble)), TypeError, ["params['b']", "expected dtype float32"]),
    "complex": (lambda p, g: p.update(b=np.ones(4, complex)), TypeError, ["params['b']", "complex128"]),
    "object": (lambda p, g: p.update(b=np.ones(4, object)), TypeError, ["params['b']", "'O'"]),
    "swapped": (lambda p, g: p.update(b=np.ones(4, ">f8")), TypeError, ["params['b']", ">f8"]),
    "float": (lambda p, g: p.update(s=1.0), TypeError, ["params['s']", "float"]),
    "numpy scalar": (lambda p, g: p.update(s=F4(1)), TypeError, ["params['s']", "float32"]),
    "list": (lambda p, g: p.update(b=[1.0] * 4), TypeError, ["params['b']", "list"]),
    "masked": (lambda p, g: p.update(b=np.ma.ones(4)), TypeError, ["params['b']", "MaskedArray"]),
    "read-only": (lambda p, g: read_only(p["b"]), ValueError, ["params['b']", "read-only"]),
    "broadcast": (
        lambda p, g: p.update(b=np.lib.stride_tricks.as_strided(np.ones(1), (4,), (0,))),
        ValueError,
        ["params['b']", "share memory"],
    ),
    "same array twice": (
        lambda p, g: (p.update(V=p["W"]), g.update(V=np.ones((3, 4), F4))),
        ValueError,
        ["params['W']", "params['V']", "share memory"],
    ),
    "overlapping": (
        lambda p, g: (p.update(V=p["W"].base[11:14]), g.update(V=np.ones(3, F4))),
        ValueError,
        ["params['W']", "params['V']", "share memory"],
    ),
    "gradient in another parameter": (
        lambda p, g: (p.update(V=np.ones((3, 4), F4)), g.update(V=p["W"])),
        ValueError,
        ["params['W']", "grads['V']", "share memory"],
    ),
    "gradient shifted": (
        lambda p, g: g.update(W=p["W"].base[1:13].reshape(3, 4)),
        ValueError,
        ["params['W']", "grads['W']", "share memory"],
    ),
    "gradient reversed": (lambda p, g: g.update(W=p["W"][::-1]), ValueError, ["grads['W']", "share memory"]),
}


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("case", BAD)
def test_refused(case, trained):
    change, error, words = BAD[case]
    params, grads = good()
    opt = fastoptim.Adam()
    if trained:
        for _ in range(2):
            opt.update(params, grads)
    change(params, grads)
    before = snapshot(opt, params, grads)
    with pytest.raises(error) as caught:
        opt.update(params, grads)
    for word in words:
        assert word in str(caught.value)
    assert snapshot(opt, params, grads) == before
    opt.update(*good())  # and it goes on
    assert opt.iter == before["saved"]["iter"] + 1


def test_what_is_no_mapping():
    params, grads = good()
    opt = fastoptim.Adam()
    with pytest.raises(TypeError, match=r"params: expected a mapping.*dict_values"):
        opt.update(params.values(), grads)
    for wrong in grads.values(), None:
        with pytest.raises(TypeError, match="grads: expected a mapping"):
            opt.update(params, wrong)
    assert opt.iter == 0


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_a_known_parameter_keeps_its_shape_and_dtype(cls):
    params, grads = good()
    opt = cls()
    opt.update(params, grads)
    for other, error in (np.ones((4, 3), F4), ValueError), (np.ones((3, 4), F8), TypeError):
        changed, before = {**params, "W": other}, snapshot(opt, params)
        with pytest.raises(error, match=r"params\['W'\].*but the optimizer's state has"):
            opt.update(changed, {**grads, "W": other.copy()})
        assert snapshot(opt, params) == before


def test_an_array_changed_in_place_is_looked_at_again():
    params, grads = good()
    opt = fastoptim.Adam()
    opt.update(params, grads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # NumPy is about to forbid it, but not yet
        params["W"].shape = (4, 3)
    with pytest.raises(ValueError, match=r"grads\['W'\]|params\['W'\]"):
        opt.update(params, grads)


def test_a_stream_on_the_cpu_is_refused_before_there_is_state():
    opt = fastoptim.Adam()
    with pytest.raises(ValueError, match="stream: expected None"):
        opt.update(*good(), stream=3)
    assert opt.iter == 0
    assert not opt.state["m"]


def test_a_mapping_that_makes_up_what_it_lacks_is_not_asked_to():
    params, grads = good()
    made_up = defaultdict(float, {name: grads[name] for name in ("W", "s")})
    with pytest.raises(KeyError, match="grads has no 'b'"):
        fastoptim.Adam().update(params, made_up)
    assert list(made_up) == ["W", "s"]


def test_columns_of_one_matrix_are_apart():
    matrix = np.ones((5, 4), F4)
    params = {"even": matrix[:, ::2], "odd": matrix[:, 1::2]}
    fastoptim.SGD(lr=1).update(params, {"even": np.ones((5, 2), F4), "odd": np.zeros((5, 2), F4)})
    assert (matrix == [0, 1, 0, 1]).all()
    with pytest.raises(ValueError, match="share memory"):
        fastoptim.SGD().update({**params, "last": matrix[:, 3]}, {**params, "last": np.ones(5, F4)})


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_overlaps_are_found_exactly(data):
    """Against a count of bytes: windows of one buffer as parameters and gradients, direct ones and strided ones."""
    buffer = np.zeros(40, F4)

    def window():
        start, size, step = (data.draw(st.integers(*r)) for r in ((0, 30), (1, 6), (1, 3)))
        return buffer[start : start + size * step : step]

    names = [str(i) for i in range(data.draw(st.integers(1, 3)))]
    params = {name: window() for name in names}
    grads = {}
    for name, p in params.items():
        choice = data.draw(st.sampled_from(["new", "itself", "window"]))
        grads[name] = np.zeros(p.shape, F4) if choice == "new" else p if choice == "itself" else window()
    grads = {
        name: g if g.shape == params[name].shape else np.zeros(params[name].shape, F4) for name, g in grads.items()
    }

    def cells(a):
        if not np.shares_memory(a, buffer):
            return set()
        first = (a.ctypes.data - buffer.ctypes.data) // 4
        return {first + i * a.strides[0] // 4 for i in range(a.size)}

    def same(a, b):
        return a.ctypes.data == b.ctypes.data and (a.strides == b.strides or a.size == b.size == 1)

    clash = any(cells(params[a]) & cells(params[b]) for a in names for b in names if a < b) or any(
        cells(params[a]) & cells(grads[b]) for a in names for b in names if a != b or not same(params[a], grads[b])
    )
    opt = fastoptim.SGD()
    bound = data.draw(st.booleans())
    if bound and not any(cells(params[a]) & cells(params[b]) for a in names for b in names if a < b):
        opt.update(params, {name: np.zeros(p.shape, F4) for name, p in params.items()})  # the fast way from now on
    if clash:
        with pytest.raises(ValueError, match="share memory"):
            opt.update(params, grads)
    else:
        opt.update(params, grads)
