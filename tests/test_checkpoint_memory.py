"""Arrays that stay in the file: how much memory loading takes, and what happens to the file meanwhile."""

import copy
import gc
import os
import pickle
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from checkpoint_support import FakeOptimizer, assert_loads, assert_same, example

from fastoptim import SGD, Adam
from fastoptim.arrays.flat import flatten
from fastoptim.checkpoint import CheckpointError, load, pieces, save
from support import DTYPES, LAYOUTS, SHAPES, assert_same_bits

safetensors = pytest.importorskip("safetensors")
MB = 1_000_000
ALLOWANCE = 8 * MB  # for the pieces of a file, of 4 MB, and for small objects


@pytest.fixture
def saved(tmp_path):
    """The path of an example's file."""
    params, state = example()
    save(tmp_path / "a", params, FakeOptimizer(state), epoch=3)
    return tmp_path / "a"


# Memory


def trained(size):
    """Parameters of that many bytes, and an Adam whose state is twice as large. No kernel is needed for it."""
    parts = 14, 1, 1  # one array is large: a copy of it alone would be noticed
    params = {f"layer{i}": np.full((size // 128 * part, 2), i + 0.5, np.float32) for i, part in enumerate(parts)}
    opt = Adam(lr=0.25)
    state = opt.state_dict() | {"iter": 3, "steps": dict.fromkeys(params, 3)}
    opt.load_state_dict(state | {"slots": {slot: {n: p + 1 for n, p in params.items()} for slot in "mv"}})
    return params, opt


def peak_of(function):
    """The most memory that a call takes beyond what was there before; NumPy's arrays are counted."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        result = function()
        return tracemalloc.get_traced_memory()[1] - before, result
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A file of 20 MB of parameters and 40 MB of state, with the parameters."""
    path = tmp_path_factory.mktemp("large") / "a"
    params, opt = trained(20 * MB)
    save(path, params, opt)
    return path, params, opt


def test_loading_takes_no_memory_for_arrays(large):
    path, params, _ = large
    for only in False, True:
        peak, found = peak_of(lambda only=only: load(path, params_only=only))
        assert peak < ALLOWANCE
        peak, _ = peak_of(lambda found=found: [list(found.params), "layer1" in found.params, repr(found)])
        assert peak < MB
        peak, array = peak_of(lambda found=found: found.params["layer1"])
        assert array.nbytes <= peak < array.nbytes + ALLOWANCE
        assert_same_bits(array, params["layer1"])


def test_a_new_process_resumes_with_little_more_than_parameters_and_state(large):
    path, params, opt = large
    mine = {name: np.zeros_like(p) for name, p in params.items()}
    size, twin = sum(p.nbytes for p in params.values()), Adam()
    peak, _ = peak_of(lambda: load(path).restore(mine, twin))
    assert size + peak <= 1.1 * (3 * size) + ALLOWANCE
    assert_same(mine, params)
    for slot, views in opt.state.items():
        assert_same(twin.state[slot], dict(views))


@pytest.mark.parametrize("flat", [False, True])
def test_a_running_process_goes_back_with_no_second_state(large, flat):
    path, params, opt = large
    mine, twin = trained(20 * MB)
    mine = flatten(mine) if flat else mine
    for array in *mine.values(), *(view for views in twin.state.values() for view in views.values()):
        array[...] = 9
    size = sum(p.nbytes for p in params.values())
    peak, _ = peak_of(lambda: load(path).restore(mine, twin))
    assert 3 * size + peak <= 1.1 * (3 * size) + ALLOWANCE
    assert_same(dict(mine), params)
    for slot, views in opt.state.items():
        assert_same(twin.state[slot], dict(views))


# Arrays in a file


@pytest.mark.parametrize("piece", [64, pieces.PIECE])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_into_arrays_of_every_layout(tmp_path, monkeypatch, dtype, layout, piece):
    rng = np.random.default_rng(0)
    params = {str(shape): np.asarray(rng.standard_normal(shape), dtype) for shape in SHAPES}
    save(tmp_path / "a", params)
    monkeypatch.setattr(pieces, "PIECE", piece)
    found = load(tmp_path / "a").params
    for name, array in params.items():
        out = LAYOUTS[layout](np.full_like(array, 7))
        around = out.base.copy() if layout == "strided" else None
        found.stored(name).read_into(out)
        assert_same_bits(out, array, name)
        if around is not None:  # what lies between the elements is not touched
            around[(..., *(slice(None, None, 2),) * array.ndim)] = array
            assert_same_bits(out.base, around, name)


def test_a_contiguous_array_is_read_into_without_a_copy():
    out = np.zeros((3, pieces.PIECE // 4), np.float32)
    starts = [np.frombuffer(piece, np.uint8).ctypes.data - out.ctypes.data for piece in pieces.bytes_of(out, fill=True)]
    assert starts == [0, pieces.PIECE, 2 * pieces.PIECE]


def test_an_array_in_a_file_is_as_an_array(saved):
    params, state = example()
    found = load(saved)
    for name, array in params.items():
        leaf = found.optimizer["slots"]["m"][name]
        assert (leaf.dtype, leaf.shape, leaf.ndim) == (array.dtype, array.shape, array.ndim)
        assert_same_bits(leaf, state["slots"]["m"][name])
        assert_same_bits(np.array(leaf, np.float64), np.asarray(state["slots"]["m"][name], np.float64))
        with pytest.raises(ValueError, match="without a copy"):
            np.asarray(leaf, copy=False)
        for twin in copy.copy(leaf), copy.deepcopy(leaf), pickle.loads(pickle.dumps(leaf)):
            assert type(twin) is np.ndarray
            assert_same_bits(twin, state["slots"]["m"][name])
    assert str(saved) in repr(leaf)
    assert "W/1" in repr(found)
    for twin in copy.deepcopy(found), pickle.loads(pickle.dumps(found)):
        assert_same(twin.params, params)
        assert_same({**state, **twin.optimizer}, state)
    with pytest.raises(TypeError):
        found.params["b"] = params["b"]
    assert "nowhere" not in found.params
    assert len(found.params) == 3


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.zeros(7, np.float32), TypeError, "params/b'.* float64, got float32"),
        ([0.0] * 7, TypeError, "float64, got list"),
        (np.zeros((7, 1)), ValueError, r"shape \(7,\), got \(7, 1\)"),
        (np.broadcast_to(np.zeros(7), (7,)), ValueError, "read-only"),
    ],
)
def test_an_array_that_cannot_be_read_into(saved, out, error, message):
    with pytest.raises(error, match=message):
        load(saved).params.stored("b").read_into(out)
    assert not np.any(out)


def test_what_was_loaded_can_be_saved_elsewhere(saved, tmp_path):
    found = load(saved)
    for path in tmp_path / "b", saved:  # also to its own place
        save(path, found.params, FakeOptimizer(found.optimizer), **found.metadata)
        assert path.read_bytes() == saved.read_bytes()
        assert_loads(path, *example(), {"epoch": 3})


def test_threads_may_read_at_the_same_time(tmp_path, monkeypatch):
    params = {str(i): np.full(30_000, i, np.float64) for i in range(20)}
    save(tmp_path / "a", params)
    for positioned in True, False:  # systems have it, or not
        if not positioned:
            monkeypatch.delattr(os, "preadv", raising=False)
        found = load(tmp_path / "a")
        with ThreadPoolExecutor(4) as pool:
            for name, array in zip(params, pool.map(found.params.__getitem__, params), strict=True):
                assert_same_bits(array, params[name])


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="needs os.preadv")
def test_a_system_that_reads_a_part_of_what_it_is_asked_for(saved, monkeypatch):
    whole = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, rooms, offset: whole(file, [rooms[0][:7]], offset))
    assert_loads(saved, *example(), {"epoch": 3})


# The file meanwhile


def test_the_file_may_be_replaced_or_removed_after_it_was_loaded(saved):
    params, state = example()
    found = load(saved)
    save(saved, {"other": np.zeros(100)})
    os.unlink(saved)
    mine, opt = {name: np.zeros_like(p) for name, p in params.items()}, FakeOptimizer(None)
    found.restore(mine, opt)
    assert_same(mine, params)
    assert_same({**state, **opt.state}, state)


@pytest.mark.parametrize("what", ["byte", "truncated"])
def test_a_file_that_was_changed_in_place_is_refused(saved, what):
    params, _ = example()
    found = load(saved)
    content = saved.read_bytes()
    place = content.index(params["b"].tobytes())  # the first array that has these numbers
    with saved.open("r+b") as file:
        if what == "truncated":
            file.truncate(place)
        else:
            file.seek(place)
            file.write(b"\1")
    mine = {name: np.zeros_like(p) for name, p in params.items()}
    with pytest.raises(CheckpointError, match="changed in the file after" if what == "byte" else "truncated after"):
        found.restore(mine)
    with pytest.raises(CheckpointError):
        dict(found.params)
    with pytest.raises(CheckpointError):
        load(saved)


def test_another_file_takes_the_name_while_it_is_being_opened(saved, monkeypatch):
    """`load` opens the file twice: both have to be one file."""
    opens, opened = safetensors.safe_open, []

    def replaced_before(path, **options):
        opened.append(path)
        if len(opened) < 4:
            save(path, {"new": np.full(3, len(opened), np.float32)})
        return opens(path, **options)

    monkeypatch.setattr(safetensors, "safe_open", replaced_before)
    assert_loads(saved, {"new": np.full(3, 3, np.float32)}, None, {})
    assert len(opened) == 4


def test_the_file_is_open_as_long_as_somebody_needs_it(saved):
    def is_open(descriptor):
        try:
            os.fstat(descriptor)
        except OSError:
            return False
        return True

    found = load(saved)
    descriptor, leaf = found.params.file.descriptor, found.optimizer["slots"]["m"]["b"]
    del found
    gc.collect()
    assert is_open(descriptor)
    assert_same_bits(leaf, example()[1]["slots"]["m"]["b"])
    del leaf
    gc.collect()
    assert not is_open(descriptor)
    with load(saved) as found:
        descriptor = found.params.file.descriptor
        assert is_open(descriptor)
    assert not is_open(descriptor)
    found.close()  # a second time
    with pytest.raises(ValueError, match="closed"):
        found.params["b"]


@pytest.mark.skipif(sys.platform != "linux", reason="counts the files in /proc/self/fd")
def test_no_file_stays_open_where_loading_is_refused(saved):
    count = len(os.listdir("/proc/self/fd"))
    saved.write_bytes(saved.read_bytes()[:-1] + b"\1")
    with pytest.raises(CheckpointError, match="checksum"):
        load(saved)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == count


# Parts of a checkpoint


def test_the_parameters_alone(saved):
    params, _ = example()
    found = load(saved, params_only=True)
    assert found.optimizer is None
    assert found.metadata == {"epoch": 3}
    mine, opt = {name: np.zeros_like(p) for name, p in params.items()}, FakeOptimizer("old")
    with pytest.raises(ValueError, match=r"params_only=True: expected restore\(params\)"):
        found.restore(mine, opt)
    assert opt.state == "old"
    assert not any(p.any() for p in mine.values())
    found.restore(mine)
    assert_same(mine, params)


def test_the_rest_is_checked_although_the_parameters_alone_are_loaded(saved):
    content = bytearray(saved.read_bytes())
    content[content.index(example()[1]["slots"]["m"]["b"].tobytes())] ^= 1
    saved.write_bytes(content)
    with pytest.raises(CheckpointError, match="checksum"):
        load(saved, params_only=True)


def test_the_scripts_own_hyperparameters_are_kept(tmp_path):
    params, opt = trained(64_000)
    save(tmp_path / "a", params, opt)
    mine = {name: np.zeros_like(p) for name, p in params.items()}
    for keeps, lr in (True, 0.125), (False, 0.25):
        twin = Adam(lr=0.125)
        load(tmp_path / "a").restore(mine, twin, hyperparameters=not keeps)
        assert (twin.lr, twin.iter) == (lr, 3)
        assert_same(mine, params)
        for slot, views in opt.state.items():
            assert_same(twin.state[slot], dict(views))


def test_what_the_scripts_own_hyperparameters_do_not_use():
    """Averages are left out. Sums of gradients are not lost: the next step is made on them, too."""
    p = np.ones(3, np.float32)
    averaged = SGD(ema=0.5).state_dict() | {"iter": 1, "steps": {"p": 1}, "ema": {"p": p}}
    opt = SGD()
    opt.load_state_dict(averaged, hyperparameters=False)
    assert (opt.iter, opt.state_dict()["ema"]) == (1, {})
    summed = SGD(accumulate=4).state_dict()
    summed |= {"iter": 1, "micro_steps": {"p": 2}, "steps": {"p": 1}, "gradients": {"p": p}}
    for accumulate in 8, 1:
        opt = SGD(lr=1, accumulate=accumulate)
        opt.load_state_dict(summed, hyperparameters=False)
        assert (opt.accumulate, opt.state_dict()["micro_steps"]) == (accumulate, {"p": 2})
    params = {"p": np.ones(3, np.float32)}
    opt.update(params, {"p": np.full(3, 5, np.float32)})
    assert (params["p"] == -1).all()  # the mean of three calls


def test_a_callable_that_is_no_data_need_not_be_assigned_where_hyperparameters_are_kept(tmp_path):
    save(tmp_path / "a", {}, SGD(lr=lambda t: 0.5))
    opt = SGD(lr=0.25)
    with pytest.raises(ValueError, match="assign a callable"):
        load(tmp_path / "a").restore({}, opt)
    load(tmp_path / "a").restore({}, opt, hyperparameters=False)
    assert opt.lr == 0.25


def test_restore_into_what_is_no_optimizer(saved):
    params, _ = example()
    mine = {name: np.zeros_like(p) for name, p in params.items()}
    with pytest.raises(TypeError, match="opt: expected an optimizer, got int"):
        load(saved).restore(mine, 3)
    assert not any(p.any() for p in mine.values())
