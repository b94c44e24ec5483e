"""The file that `save` writes and `load` reads: round trips, writers killed or failing anywhere, damaged files."""

import copy
import errno
import json
import os
import random as chance
import signal
import stat
import struct
import subprocess
import sys
import time
import zlib
from importlib.util import find_spec
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.extra.numpy import array_shapes, arrays

from fastoptim import checkpoint
from fastoptim.buffers import flatten
from fastoptim.checkpoint import CheckpointError, load, save
from support import DTYPES, LAYOUTS, ROOT, SHAPES, assert_same_bits, python

safetensors = pytest.importorskip("safetensors")
tensors = pytest.importorskip("safetensors.numpy")
needs_posix = pytest.mark.skipif(os.name != "posix", reason="signals, permissions and links as POSIX has them")


class FakeOptimizer:
    """Has the states that optimizers have, and refuses one when it is told to."""

    def __init__(self, state, refuses=False):
        self.state, self.refuses = state, refuses

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        if self.refuses:
            raise ValueError("refused")
        self.state = copy.deepcopy(state)


def example(fill=1.0, size=7):
    params = {"W/1": np.full((size, 3), fill, np.float32), "b": np.full(size, fill), "": np.array(fill)}
    state = {
        "optimizer": "Adam",
        "hyperparameters": {"lr": 0.1, "amsgrad": False, "clip": None},
        "iter": 2**70,
        "skipped": 0,
        "calls": 5,
        "steps": dict.fromkeys(params, 3),
        "slots": {slot: {name: np.asarray(array * 2) for name, array in params.items()} for slot in "mv"},
        "ema": {"W/1": params["W/1"] + 1},
        "gradients": {},
    }
    return params, state


def assert_same(actual, expected, what=""):
    """The same types, numbers and order, all the way down; arrays bit for bit."""
    if isinstance(expected, np.ndarray):
        assert_same_bits(actual, expected, what)
    elif isinstance(expected, dict):
        assert list(actual) == list(expected), what
        for key in expected:
            assert_same(actual[key], expected[key], f"{what}[{key!r}]")
    elif isinstance(expected, list):
        assert len(actual) == len(expected), what
        for i, (mine, other) in enumerate(zip(actual, expected, strict=True)):
            assert_same(mine, other, f"{what}[{i}]")
    else:
        assert type(actual) is type(expected), what
        assert actual == expected or actual != actual != expected != expected, what


def assert_loads(path, params, state, metadata):
    found = load(path)
    assert_same(found.params, dict(params))
    if state is None:
        assert found.optimizer is None
    else:
        assert_same({**state, **found.optimizer}, state)
        assert found.optimizer.keys() == state.keys()
    assert_same(found.metadata, metadata)
    return found


# Round trips

names = st.text(max_size=8)
shapes = array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
any_array = st.builds(
    lambda array, layout: LAYOUTS[layout](array),
    st.sampled_from(DTYPES).flatmap(lambda dtype: arrays(dtype, shapes)),
    st.sampled_from(sorted(LAYOUTS)),
)
any_arrays = st.dictionaries(names, any_array, max_size=4)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
any_state = st.fixed_dictionaries(
    {
        "optimizer": names,
        "hyperparameters": st.dictionaries(names, any_json, max_size=3),
        "iter": st.integers(0),
        "skipped": st.integers(0),
        "calls": st.integers(0),
        "steps": st.dictionaries(names, st.integers(0), max_size=3),
        "slots": st.dictionaries(names.filter(lambda name: "/" not in name), any_arrays, max_size=2),
        "ema": any_arrays,
        "gradients": any_arrays,
    }
)
keywords = names.filter(lambda name: name not in ("path", "params", "opt"))
here = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


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
    for piece in 64, checkpoint.PIECE:
        monkeypatch.setattr(checkpoint, "PIECE", piece)
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
    array = np.zeros((3, checkpoint.PIECE // 4), np.float32)
    places = [np.frombuffer(piece, np.uint8).ctypes.data - array.ctypes.data for piece in checkpoint._pieces(array)]
    assert places == [0, checkpoint.PIECE, 2 * checkpoint.PIECE]
    assert max(map(len, checkpoint._pieces(array.T))) <= checkpoint.PIECE


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
        (lambda p: list(p), TypeError, "params: expected a mapping"),
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
        ([1], {}, TypeError, "params: expected a mapping"),
        ({1: np.ones(2)}, {}, TypeError, r"params\[1\]: .* str, got int"),
        ({"a\ud800": np.ones(2)}, {}, ValueError, "Unicode"),
        ({"W": [1.0]}, {}, TypeError, r"params\['W'\]: expected a numpy.ndarray, got list"),
        ({"W": np.ones(2, np.float16)}, {}, TypeError, r"params\['W'\]: expected dtype float32 or float64"),
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


# Writers that fail or are killed. Each call to the system is a moment at which something may happen.

CALLS = ["open", "chmod", "write", "lseek", "posix_fadvise", "fsync", "close", "replace"]


class Moments:
    """Counts the calls to the system, and does something at the n-th, or after half of what it was to write."""

    def __init__(self, at, happens, after=False):
        self.at, self.happens, self.after = at, happens, after
        self.calls, self.done = [], []

    def install(self, setattr=setattr):
        for name in CALLS:
            if hasattr(os, name):
                setattr(os, name, self.wrap(getattr(os, name), name))

    def wrap(self, function, name):
        def call(*args, **kwargs):
            self.calls.append(name)
            now = len(self.calls) == self.at
            if now and self.after and name == "write":
                function(args[0], args[1][: len(args[1]) // 2])
            elif self.after or not now:
                result = function(*args, **kwargs)
                self.done.append(name)
            return self.happens() if now else result

        return call


def old_and_new():
    return example(1.0, 300), example(2.0, 400)


def write(path, params, state):
    before, checkpoint.PIECE = checkpoint.PIECE, 1 << 10
    try:
        save(path, params, FakeOptimizer(state), fill=float(params["b"][0]))
    finally:
        checkpoint.PIECE = before


def moments_of_a_save(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        counting = Moments(0, None)
        counting.install(patched.setattr)
        write(tmp_path / "count", *old_and_new()[1])
        return len(counting.calls)


@needs_posix
def test_a_writer_killed_at_any_moment_leaves_the_old_or_the_new_file(tmp_path, monkeypatch):
    (old, old_state), (new, new_state) = old_and_new()
    total = moments_of_a_save(tmp_path, monkeypatch)
    assert total > 40
    code = f"""
import sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forks
import os, signal
from pathlib import Path
from test_checkpoint_file import Moments, old_and_new, write
folder = Path(sys.argv[1])
(old, old_state), (new, new_state) = old_and_new()
for at in range(1, {total} + 1):
    for after in False, True:
        path = folder / f"{{at}}-{{after}}"
        write(path, old, old_state)
        pid = os.fork()
        if pid == 0:
            Moments(at, lambda: os.kill(os.getpid(), signal.SIGKILL), after).install()
            write(path, new, new_state)
            os._exit(7)
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
"""
    folder = tmp_path / "killed"
    folder.mkdir()
    python(code, folder)
    fills = []
    for at in range(1, total + 1):
        for after in False, True:
            path = folder / f"{at}-{after}"
            fills.append(load(path).metadata["fill"])
            expected = (new, new_state) if fills[-1] == 2 else (old, old_state)
            assert_loads(path, *expected, {"fill": fills[-1]})
    assert set(fills) == {1.0, 2.0}
    assert fills == sorted(fills)
    assert all(name.endswith((".tmp", "-True", "-False")) for name in os.listdir(folder))


@needs_posix
def test_a_writer_killed_at_random_times(tmp_path):
    path = tmp_path / "a"
    code = """
import sys, time
import numpy as np
from fastoptim.checkpoint import save
fill = 0
while True:
    fill += 1
    save(sys.argv[1], {str(i): np.full((50 + fill % 7, 2000), fill, np.float32).T for i in range(8)}, fill=fill)
    print(fill, flush=True)
"""
    rng = chance.Random(0)
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        saved = int(writer.stdout.readline())
        time.sleep(rng.random() * 0.5)
        writer.send_signal(signal.SIGKILL)
        done = [saved, *map(int, writer.stdout.read().split())]
        writer.wait()
        writer.stdout.close()
        fill = load(path).metadata["fill"]
        assert fill in (done[-1], done[-1] + 1)
        for i, array in load(path).params.items():
            assert_same_bits(array, np.full((2000, 50 + fill % 7), fill, np.float32), i)


@pytest.mark.parametrize("kind", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("after", [False, True])
def test_a_failing_writer_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, kind, after):
    (old, old_state), (new, new_state) = old_and_new()
    total = moments_of_a_save(tmp_path, monkeypatch)
    folder = tmp_path / "failed"
    folder.mkdir()

    def fail():
        raise kind

    for at in range(1, total + 1):
        write(folder / "a", old, old_state)
        moments, raised = Moments(at, fail, after), False
        with monkeypatch.context() as patched:
            moments.install(patched.setattr)
            try:
                write(folder / "a", new, new_state)
            except type(kind):
                raised = True
        advice = moments.calls[at - 1] in ("lseek", "posix_fadvise")  # which may fail where the system knows none
        assert raised or (advice and isinstance(kind, OSError)), moments.calls
        assert os.listdir(folder) == ["a"], moments.calls
        fill = 2.0 if "replace" in moments.done else 1.0
        expected = (new, new_state) if fill == 2.0 else (old, old_state)
        assert_loads(folder / "a", *expected, {"fill": fill})


def test_a_system_that_writes_a_part_of_what_it_is_given(tmp_path, monkeypatch):
    params, state = example()
    whole = os.write
    monkeypatch.setattr(os, "write", lambda file, content: whole(file, content[:100]))
    save(tmp_path / "a", params, FakeOptimizer(state))
    assert_loads(tmp_path / "a", params, state, {})


@needs_posix
def test_the_file_is_synced_before_it_is_renamed_and_its_folder_after(tmp_path, monkeypatch):
    seen = []

    def spied(name, function):
        def call(*args):
            folder = name == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode)
            seen.append("fsync folder" if folder else name)
            return function(*args)

        return call

    for name in "write", "fsync", "replace":
        monkeypatch.setattr(os, name, spied(name, getattr(os, name)))
    save(tmp_path / "a", {"W": np.ones(3)})
    assert seen == ["write"] * 3 + ["fsync", "replace", "fsync folder"]


# Damaged and foreign files


def refused(path, message=None):
    with pytest.raises(CheckpointError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")


def parts(content):
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def joined(table, data):
    header = json.dumps(table, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + data


def signed(content):
    """With the checksum that fits, as whoever forges a file would have it."""
    table, data = parts(content)
    table["__metadata__"]["crc32"] = "0" * 8
    table["__metadata__"]["crc32"] = f"{zlib.crc32(joined(table, data)):08x}"
    return joined(table, data)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "a"
    params, state = example()
    save(path, params, FakeOptimizer(state), epoch=3)
    return path.read_bytes()


def test_the_file_as_it_is_described(good, tmp_path):
    assert signed(good) == good
    table, _ = parts(good)
    assert table["__metadata__"].keys() == {"crc32", "fastoptim"}
    assert all(entry["data_offsets"][0] % (8 if entry["dtype"] == "F64" else 4) == 0 for name, entry in table.items()
               if name != "__metadata__")  # fmt: skip


def test_truncated_anywhere(good, tmp_path):
    path = tmp_path / "a"
    for size in range(len(good)):
        path.write_bytes(good[:size])
        refused(path)
    path.write_bytes(good + b"\0")
    refused(path)


def test_any_byte_changed(good, tmp_path):
    """Refused; or, where JSON says the same in other words, the very same content."""
    path = tmp_path / "a"
    params, state = example()
    rng = chance.Random(0)
    for place in range(len(good)):
        changed = bytearray(good)
        changed[place] ^= rng.randrange(1, 256) if place % 2 else 1 << rng.randrange(8)
        path.write_bytes(changed)
        try:
            load(path)
        except CheckpointError:
            continue
        assert place < len(good) - len(parts(good)[1])
        assert_loads(path, params, state, {"epoch": 3})


@settings(here, max_examples=300)
@given(st.binary(max_size=300) | st.binary(max_size=100).map(lambda b: struct.pack("<Q", len(b)) + b))
def test_random_bytes(tmp_path, content):
    path = tmp_path / "a"
    path.write_bytes(content)
    refused(path)


@settings(here, max_examples=300)
@given(data=st.data())
def test_spliced_and_overwritten(tmp_path, good, data):
    path = tmp_path / "a"
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 40)))
    path.write_bytes(good[:start] + data.draw(st.binary(max_size=40)) + good[end:])
    try:
        load(path)
    except CheckpointError:
        return
    assert_loads(path, *example(), {"epoch": 3})


def replace_somewhere(tree, data, value):
    """The tree with one of its places, any, holding something else, or gone."""
    if isinstance(tree, dict | list) and tree and data.draw(st.booleans() | st.just(True)):
        key = data.draw(st.sampled_from(sorted(tree) if isinstance(tree, dict) else range(len(tree))))
        changed = copy.copy(tree)
        if data.draw(st.integers(0, 5)) == 0:
            del changed[key]
        else:
            changed[key] = replace_somewhere(tree[key], data, value)
        return changed
    return value


@settings(here, max_examples=500)
@given(data=st.data(), value=any_json, inside=st.booleans(), sign=st.booleans())
def test_forged_headers(tmp_path, good, data, value, inside, sign):
    """Any place of the header or of the description another value, also with the checksum that fits."""
    table, numbers = parts(good)
    if inside:
        document = replace_somewhere(json.loads(table["__metadata__"]["fastoptim"]), data, value)
        table["__metadata__"]["fastoptim"] = json.dumps(document)
    else:
        table = replace_somewhere(table, data, value)
    path = tmp_path / "a"
    content = joined(table, numbers)
    if sign and isinstance(table, dict) and isinstance(table.get("__metadata__"), dict):
        content = signed(content)
    path.write_bytes(content)
    try:
        found = load(path)
    except CheckpointError:
        return
    assert set(found.params) <= set(example()[0])  # what is in the state is for the optimizer to look at
    assert found.optimizer is None or {"slots", "ema", "gradients"} <= found.optimizer.keys()
    assert isinstance(found.metadata, dict)


def document_changed(content, **changes):
    table, data = parts(content)
    document = json.loads(table["__metadata__"]["fastoptim"])
    document |= changes
    table["__metadata__"]["fastoptim"] = json.dumps(document)
    return signed(joined(table, data))


def test_foreign_files(good, tmp_path):
    path = tmp_path / "a"
    save_file = tensors.save_file
    save_file({"params/W": np.ones(2, np.float32)}, path)
    refused(path, "not one that fastoptim has saved")
    save_file({"params/W": np.ones(2, np.float32)}, path, {"format": "pt"})
    refused(path, "not one that fastoptim has saved")
    np.save(tmp_path / "b.npy", np.ones(3))
    refused(tmp_path / "b.npy", "not a whole safetensors file")
    path.write_bytes(b"")
    refused(path, "not a whole safetensors file")
    path.write_bytes(document_changed(good, format=2))
    refused(path, "format 2, expected 1")
    path.write_bytes(document_changed(good, params=["W/1", "b"]))
    refused(path, "expected 9 arrays, found 10; not in both are 'params/'")
    path.write_bytes(document_changed(good, params=["W/1", "b", "", "b"]))
    refused(path, "expected 11 arrays, found 10; .* named twice")
    path.write_bytes(document_changed(good, state=None))
    refused(path, "no optimizer")
    path.write_bytes(document_changed(good, state={"slots": 3}))
    refused(path, "lacks something")
    path.write_bytes(document_changed(good, metadata=[]))
    refused(path, "lacks something")
    for slots in 3, {"m": 3}, {"m": [3]}, {"m/W": ["1"]}:
        path.write_bytes(document_changed(good, slots=slots))
        refused(path, "lacks something")
    table, data = parts(good)
    table["params/b"]["dtype"] = "I64"
    path.write_bytes(signed(joined(table, data)))
    refused(path, "'params/b' has dtype I64, expected F32 or F64")
    table["__metadata__"]["fastoptim"] = "[" * 100_000
    path.write_bytes(signed(joined(table, data)))
    refused(path, "no JSON")


def test_another_writer_s_order_of_the_same_content(good, tmp_path):
    """The package itself may write it anew."""
    path = tmp_path / "a"
    path.write_bytes(good)
    with safetensors.safe_open(path, framework="np") as file:
        notes, everything = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    tensors.save_file(dict(reversed(everything.items())), tmp_path / "b", notes)
    assert_loads(tmp_path / "b", *example(), {"epoch": 3})


def test_nothing_in_it_can_be_executed():
    for word in "eval(", "exec(", "pickle", "compile(", "np.load":
        assert word not in Path(checkpoint.__file__).read_text()
