"""Files that are damaged, forged or of others: refused, and nothing in them is executed."""

import copy
import json
import random as chance
import struct
import zlib
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from checkpoint_support import FakeOptimizer, any_json, assert_loads, example, here
from hypothesis import given, settings

from fastoptim import checkpoint
from fastoptim.checkpoint import CheckpointError, load, save

safetensors = pytest.importorskip("safetensors")
tensors = pytest.importorskip("safetensors.numpy")


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


SIZES = {"F64": 8, "F32": 4, "F16": 2, "U8": 1}


def test_the_file_as_it_is_described(good, tmp_path):
    assert signed(good) == good
    table, _ = parts(good)
    assert table["__metadata__"].keys() == {"crc32", "fastoptim"}
    assert all(entry["data_offsets"][0] % SIZES[entry["dtype"]] == 0 for name, entry in table.items()
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


def test_a_file_of_the_first_release_is_read(tmp_path):
    header = (
        rb'{"__metadata__":{"crc32":"be1f763a","fastoptim":"{\"format\":1,\"metadata\":{\"epoch\":3},\"slots\":{\"m\":[\"b\"]}'
        rb",\"state\":{\"optimizer\":\"SGD\",\"iter\":3,\"steps\":{\"b\":3}},\"params\":[\"W\",\"b\"],\"ema\":[],"
        rb'\"gradients\":[\"b\"]}"},"gradients/b":{"dtype":"F64","shape":[2],"data_offsets":[0,16]},"params/b":{"dtype":'
        rb'"F64","shape":[2],"data_offsets":[16,32]},"slots/m/b":{"dtype":"F64","shape":[2],"data_offsets":[32,48]},'
        rb'"params/W":{"dtype":"F32","shape":[3,1],"data_offsets":[48,60]}}'
    )
    header += b" " * (-len(header) % 8)
    data = struct.pack("<6d3f", 1, 2, 1, np.inf, 0.5, -0.0, 0, 1, 2)
    (tmp_path / "a").write_bytes(struct.pack("<Q", len(header)) + header + data)
    state = {
        "optimizer": "SGD",
        "iter": 3,
        "steps": {"b": 3},
        "slots": {"m": {"b": np.array([0.5, -0.0])}},
        "ema": {},
        "gradients": {"b": np.array([1.0, 2.0])},
    }
    params = {"W": np.arange(3, dtype=np.float32).reshape(3, 1), "b": np.array([1.0, np.inf])}
    assert_loads(tmp_path / "a", params, state, {"epoch": 3})
    save(tmp_path / "b", params, FakeOptimizer(state), epoch=3)
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()


def test_shapes_that_no_array_can_have(good, tmp_path):
    for shape in [0, 2**62, 2**62], [0] * 65:
        save(tmp_path / "a", {"W": np.zeros((0, 2))})
        table, data = parts((tmp_path / "a").read_bytes())
        table["params/W"]["shape"] = shape
        (tmp_path / "a").write_bytes(signed(joined(table, data)))
        refused(tmp_path / "a", "shape that no array can have|not a whole safetensors file")


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
    refused(path, "expected 11 arrays, found 12; not in both are 'params/'")
    path.write_bytes(document_changed(good, params=["W/1", "b", "", "b"]))
    refused(path, "expected 13 arrays, found 12; .* named twice")
    path.write_bytes(document_changed(good, state=None))
    refused(path, "no optimizer")
    path.write_bytes(document_changed(good, state={"slots": 3}))
    refused(path, "lacks something")
    path.write_bytes(document_changed(good, metadata=[]))
    refused(path, "lacks something")
    for positions in 3, [3], ["steps"], ["nothing"], ["optimizer"]:
        path.write_bytes(document_changed(good, positions=positions))
        refused(path, "lacks something")
    for slots in 3, {"m": 3}, {"m": [True]}, {"m": [1, "b"]}, {"m": [-1]}, {"m/W": ["1"]}:
        path.write_bytes(document_changed(good, slots=slots))
        refused(path, "lacks something")
    for scales in 3, {"v": 3}, {"v": [True]}, {"v/W": ["b"]}:
        path.write_bytes(document_changed(good, scales=scales))
        refused(path, "lacks something")
    path.write_bytes(document_changed(good, scales={}))
    refused(path, "not in both are 'scales/v/b'")
    table, data = parts(good)
    table["params/b"]["dtype"] = "I64"
    path.write_bytes(signed(joined(table, data)))
    refused(path, "'params/b' has dtype I64, expected U8 or I32 or F16 or BF16 or F32 or F64")
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
    files = list(Path(checkpoint.__file__).parent.glob("*.py"))
    assert len(files) > 5
    for file in files:
        for word in "eval(", "exec(", "pickle", "compile(", "np.load":
            assert word not in file.read_text(), file
