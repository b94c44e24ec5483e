"""The file that `save` writes and `load` reads: round trips, into one's own arrays, what is refused, where it lies."""

import os
import stat
import sys
from importlib.util import find_spec
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from checkpoint_support import FakeOptimizer, any_json, assert_loads, assert_same, example, here
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays

from fastoptim.arrays.flat import flatten
from fastoptim.checkpoint import CheckpointError, load, pieces, save
from support import DTYPES, LAYOUTS, SHAPES, assert_same_bits, python

safetensors = pytest.importorskip("safetensors")
tensors = pytest.importorskip("safetensors.numpy")
needs_posix = pytest.mark.skipif(os.name != "posix", reason="signals, permissions and links as POSIX has them")


# Round trips

names = st.text(max_size=8)
shapes = array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
any_array = st.builds(
    lambda array, layout: LAYOUTS[layout](array),
    st.sampled_from(DTYPES).flatmap(lambda dtype: arrays(dtype, shapes)),
    st.sampled_from(sorted(LAYOUTS)),
)
any_arrays = st.dictionaries(names, any_array, max_size=4)
any_state = st.fixed_dictionaries(
    {
        "optimizer": names,
        "hyperparameters": st.dictionaries(names, any_json, max_size=3),
        "iter": st.integers(0),
        "skipped": st.integers(0),
        "micro_steps": st.dictionaries(st.text(), st.integers(0)),
        "steps": st.dictionaries(names, st.integers(0), max_size=3),
        "slots": st.dictionaries(names.filter(lambda name: "/" not in name), any_arrays, max_size=2),
        "ema": any_arrays,
        "gradients": any_arrays,
    }
)
keywords = names.filter(lambda name: name not in ("path", "params", "opt"))


@settings(here, max_examples=150)
@given(params=any_arrays, state=st.none() | any_state, metadata=st.dictionaries(keywords, any_json, max_size=3))
def test_what_is_loaded_is_what_was_saved(tmp_path, params, state, metadata):
    path = tmp_path / "a.safetensors"
    save(path, params, None if state is None else FakeOptimizer(state), **metadata)
    found = assert_loads(path, params, state, metadata)
    assert all(array.flags.writeable and array.flags.c_contiguous for array in found.params.values())
    assert {name for name in tensors.load_file(path) if name.startswith("params/")} == {
        f"params/{name}" for name in params
    }


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_bit(tmp_path, dtype, layout, monkeypatch):
    """Not a number of any kind, -0.0, infinities; in one piece and in many."""
    kind = np.uint32 if dtype is np.float32 else np.uint64
    rng = np.random.default_rng(0)
    for piece in 64, pieces.PIECE:
        monkeypatch.setattr(pieces, "PIECE", piece)
        params = {}
        for shape in SHAPES:
            bits = rng.integers(0, np.iinfo(kind).max, shape, kind, endpoint=True)
            params[str(shape)] = LAYOUTS[layout](np.asarray(bits).view(dtype))
        special = np.array([np.nan, -np.nan, -0.0, 0.0, np.inf, -np.inf, np.finfo(dtype).smallest_subnormal], dtype)
        params["special"] = LAYOUTS[layout](special)
        params["signalling"] = np.array([0x7F800001], np.uint32).view(np.float32)
        save(tmp_path / "a", params)
        assert_loads(tmp_path / "a", params, None, {})


def test_a_large_array_is_written_from_its_memory():
    array = np.zeros((3, pieces.PIECE // 4), np.float32)
    places = [np.frombuffer(piece, np.uint8).ctypes.data - array.ctypes.data for piece in pieces.bytes_of(array)]
    assert places == [0, pieces.PIECE, 2 * pieces.PIECE]
    assert max(map(len, pieces.bytes_of(array.T))) <= pieces.PIECE


def test_large_arrays_with_the_checksum_in_a_thread(tmp_path):
    rng = np.random.default_rng(0)
    params = {"a": rng.standard_normal((1500, 1501)), "b": rng.standard_normal((2000, 1000), np.float32).T}
    save(tmp_path / "a", params)
    assert_loads(tmp_path / "a", params, None, {})


def test_at_the_end_of_the_interpreter_without_threads(tmp_path):
    code = """
import atexit, sys
import numpy as np
from fastoptim.checkpoint import save
atexit.register(save, sys.argv[1], {"W": np.ones(2_000_000)})
import concurrent.futures
"""
    python(code, tmp_path / "a")
    assert_same_bits(load(tmp_path / "a").params["W"], np.ones(2_000_000))


def test_a_flat_dict(tmp_path):
    params, state = example()
    flat = flatten(params)
    save(tmp_path / "a", flat, FakeOptimizer(state), note="x")
    found = assert_loads(tmp_path / "a", params, state, {"note": "x"})
    flat.buffers[np.dtype(np.float32)][...] = 0
    found.restore(flat)
    assert_same(dict(flat), params)


@pytest.mark.skipif(find_spec("numba_cuda") is None, reason="needs numba-cuda: pip install 'fastoptim[cuda13]'")
def test_a_flat_dict_on_a_gpu(tmp_path):
    """The simulator's."""
    code = """
import sys
import numpy as np
import fastoptim
from fastoptim.checkpoint import load, save
params = {"W": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3), "empty": np.ones((0, 2))}
flat = fastoptim.flatten(params, "cuda")
save(sys.argv[1], flat)
save(sys.argv[1] + "2", dict(flat))
for path in sys.argv[1], sys.argv[1] + "2":
    found = load(path)
    other = flat.zeros_like()
    found.restore(other)
    for mapping in found.params, other.to_host():
        print(all(mapping[name].tobytes() == array.tobytes() for name, array in params.items()))
try:
    found.restore(fastoptim.flatten({**params, "b": np.ones(4)}, "cuda"))
except ValueError as error:
    print(error)
"""
    out = python(code, tmp_path / "a", NUMBA_ENABLE_CUDASIM="1", PYTHONWARNINGS=None).splitlines()
    assert out == ["True"] * 4 + ["params['b']: expected the checkpoint's shape (3,), got (4,)"]


# Into one's own arrays


def test_restore_writes_into_the_arrays_there_are(tmp_path):
    params, state = example()
    save(tmp_path / "a", params, FakeOptimizer(state))
    mine = {name: np.zeros_like(array, order="F") for name, array in reversed(params.items())}
    same, opt = dict(mine), FakeOptimizer(None)
    load(tmp_path / "a").restore(mine, opt)
    for name, array in params.items():
        assert mine[name] is same[name]
        assert_same_bits(mine[name], array)
    assert_same({**state, **opt.state}, state)
    load(tmp_path / "a").restore(mine)  # an optimizer in the file need not be taken


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda p: set(p), TypeError, "params: expected a mapping"),
        (lambda p: {name: p[name] for name in p if name != "b"}, KeyError, "params has no 'b', which the checkpoint"),
        (lambda p: {**p, "c": p["b"]}, KeyError, "the checkpoint has no 'c', which params has"),
        (lambda p: {**p, "b": p["b"].astype(np.float32)}, TypeError, "expected the checkpoint's dtype float64"),
        (lambda p: {**p, "b": np.zeros((7, 1))}, ValueError, r"expected the checkpoint's shape \(7,\), got \(7, 1\)"),
        (lambda p: {**p, "b": read_only(p["b"])}, ValueError, "read-only"),
        (lambda p: {**p, "b": list(p["b"])}, TypeError, "expected a numpy.ndarray"),
        (lambda p: {**p, "": p["b"][:1].reshape(())}, ValueError, "share memory"),
    ],
)
def test_restore_refuses_before_anything_is_changed(tmp_path, change, error, message):
    params, state = example()
    save(tmp_path / "a", params, FakeOptimizer(state))
    mine = {name: np.zeros_like(array) for name, array in params.items()}
    opt = FakeOptimizer("old")
    with pytest.raises(error, match=message):
        load(tmp_path / "a").restore(change(mine), opt)
    assert opt.state == "old"
    assert not any(array.any() for array in mine.values())


def test_restore_changes_nothing_when_the_optimizer_refuses(tmp_path):
    params, state = example()
    save(tmp_path / "a", params, FakeOptimizer(state))
    save(tmp_path / "b", params)
    mine = {name: np.zeros_like(array) for name, array in params.items()}
    for path, opt in ("a", FakeOptimizer(None, refuses=True)), ("b", FakeOptimizer(None)):
        with pytest.raises(ValueError, match=r"refused|without an optimizer"):
            load(tmp_path / path).restore(mine, opt)
        assert not any(array.any() for array in mine.values())


# What save refuses


def circular():
    inner = []
    inner.append(inner)
    return inner


@pytest.mark.parametrize(
    ("params", "metadata", "error", "message"),
    [
        ({1}, {}, TypeError, "params: expected a mapping"),
        ([1], {}, TypeError, r"params\[0\]: expected a numpy.ndarray, got int"),
        (
            {"a": np.ones(2), 1: np.ones(2)},
            {},
            TypeError,
            r"params\[1\]: .* str, or all of them positions.*got 1",
        ),
        ({True: np.ones(2)}, {}, TypeError, r"params\[True\]: .* str, .*, got True"),
        ({"a\ud800": np.ones(2)}, {}, ValueError, "Unicode"),
        ({"W": [1.0]}, {}, TypeError, r"params\['W'\]: expected a numpy.ndarray, got list"),
        (
            {"W": np.ones(2, np.int32)},
            {},
            TypeError,
            r"params\['W'\]: expected dtype float32, float64, float16 or bfloat16",
        ),
        ({"W": np.ones(2, ">f4")}, {}, TypeError, r"params\['W'\]: expected dtype"),
        ({"W": np.ma.ones(2)}, {}, TypeError, "MaskedArray"),
        ({}, {"a": (1, 2)}, TypeError, r"metadata 'a': expected .* got \(1, 2\)"),
        ({}, {"a": [{"b": {1}}]}, TypeError, r"metadata 'a': expected .* got \{1\}"),
        ({}, {"a": {1: 2}}, TypeError, "metadata 'a': expected keys that are str, got 1"),
        ({}, {"a": np.float32(1)}, TypeError, "metadata 'a': expected"),
        ({}, {"a": np.ones(1)}, TypeError, "metadata 'a': expected"),
        ({}, {"a": b"x"}, TypeError, "metadata 'a': expected"),
        ({}, {"a": circular()}, ValueError, "metadata 'a': .* nested"),
        ({}, {"opt": 3}, TypeError, "opt: expected an optimizer, got int"),
        ({}, {"a": 10**5000}, ValueError, "digits"),
        ({}, {"a": "x" * 100_000_000}, ValueError, "expected at most 100,000,000"),
    ],
    ids=lambda value: None if isinstance(value, dict) else str(value),
)
def test_refused(tmp_path, params, metadata, error, message):
    save(tmp_path / "a", {"old": np.ones(3)})
    with pytest.raises(error, match=message):
        save(tmp_path / "a", params, **metadata)
    assert list(load(tmp_path / "a").params) == ["old"]
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: s["slots"]["m"].update(b=[1.0]), TypeError, r"slots/m\['b'\]: expected a numpy.ndarray"),
        (lambda s: s["slots"].update({"m/x": {}}), TypeError, "names without '/', got 'm/x'"),
        (lambda s: s["ema"].update({3: np.ones(1)}), TypeError, r"ema\[3\]"),
        (lambda s: s["hyperparameters"].update(lr=np.float32(1)), TypeError, "state: expected"),
    ],
)
def test_refused_states(tmp_path, change, error, message):
    params, state = example()
    change(state)
    with pytest.raises(error, match=message):
        save(tmp_path / "a", params, FakeOptimizer(state))
    assert os.listdir(tmp_path) == []


def test_saving_leaves_the_optimizer_s_dict_alone(tmp_path):
    params, state = example()
    save(tmp_path / "a", params, FakeOptimizer(state))
    assert_same(state, example()[1])


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for call in lambda: save(tmp_path / "a", {}), lambda: load(tmp_path / "a"):
        with pytest.raises(RuntimeError, match=r"pip install 'fastoptim\[checkpoint\]'"):
            call()


def test_the_package_is_imported_when_it_is_needed():
    assert python("import sys, fastoptim.checkpoint; print('safetensors' in sys.modules)") == "False\n"


# The file's place


@needs_posix
def test_permissions(tmp_path):
    path = tmp_path / "a"
    for mask in 0o022, 0o077:
        before = os.umask(mask)
        try:
            save(path, {})
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
        path.chmod(0o640)
        save(path, {"W": np.ones(2)})
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.unlink()


@needs_posix
def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(Path("there") / "target")
    for fill in 1.0, 2.0:  # at first it leads nowhere
        save(tmp_path / "link", {"W": np.full(3, fill)})
        assert (tmp_path / "link").is_symlink()
        assert load(tmp_path / "there" / "target").params["W"][0] == fill
    assert os.listdir(tmp_path / "there") == ["target"]


def test_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in "a", b"a", Path("a"), "x" * 255:
        save(path, {"W": np.ones(2)})
        assert_same_bits(load(path).params["W"], np.ones(2))
    with pytest.raises(FileNotFoundError):
        load("nowhere")
    with pytest.raises(FileNotFoundError):
        save(tmp_path / "nowhere" / "a", {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        save("folder", {})
    with pytest.raises(CheckpointError, match="folder: expected a file"):
        load("folder")


@needs_posix
def test_a_protected_file_is_not_replaced(tmp_path, monkeypatch):
    save(tmp_path / "a", {"W": np.ones(2)})
    (tmp_path / "a").chmod(0o444)
    monkeypatch.setattr(os, "access", lambda path, mode: not (mode == os.W_OK and path == str(tmp_path / "a")))  # root
    with pytest.raises(PermissionError):
        save(tmp_path / "a", {})
    assert_loads(tmp_path / "a", {"W": np.ones(2)}, None, {})
