"""`load`: look at everything in a file, and keep none of its arrays in memory."""

import os
import stat
import zlib
from typing import Any

import numpy as np

from fastoptim.checkpoint import pieces
from fastoptim.checkpoint.format import (
    CODES,
    GROUPS,
    SLOTTED,
    CheckpointError,
    Entry,
    document_of,
    header,
    in_order,
    safetensors_package,
)
from fastoptim.checkpoint.restore import Checkpoint
from fastoptim.checkpoint.stored import StoredArray, StoredArrays, StoredFile
from fastoptim.kernels.storage import bfloat16

ATTEMPTS = 100  # to open one file twice, while others may take its name

Header = tuple[dict[str, str], dict[str, tuple[str, tuple[int, ...]]]]  # metadata; dtype and shape, as arrays lie


def load(path: str | os.PathLike[str], *, params_only: bool = False) -> Checkpoint:
    """Open a file that `save` has written, and check all of it.

    The arrays stay in the file until they are asked for. `restore` reads them straight into yours, so that loading
    takes hardly any memory of its own.

    Args:
        path: the file.
        params_only: leave the optimizer's state out, as if there were none.

    Raises:
        CheckpointError: the file is foreign, truncated or changed; a `ValueError`. Nothing was loaded.
        OSError: it cannot be read; `FileNotFoundError`, where there is none.
        RuntimeError: the safetensors package is not installed.
    """
    safetensors = safetensors_package()
    path = os.fsdecode(path)
    try:
        file, (notes, found) = _opened(path, safetensors)
        return _contents(file, notes, found, params_only)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path}: not a whole safetensors file: {error}") from error
    except EOFError:
        raise CheckpointError(f"{path}: it was truncated while it was being read") from None
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _opened(path: str, safetensors: Any) -> tuple[StoredFile, Header]:
    """The file, and what the package, which checks everything there, says of its header."""
    for _ in range(ATTEMPTS):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise CheckpointError("expected a file, found a directory or device")
        file = StoredFile(path)
        with safetensors.safe_open(path, framework="np", backend="pread") as opened:
            slices = {name: opened.get_slice(name) for name in opened.offset_keys()}
            arrays = {name: (entry.get_dtype(), tuple(entry.get_shape())) for name, entry in slices.items()}
            notes = opened.metadata() or {}
        # the package wants a path: another file may have taken the name between our opening and its
        if os.path.samestat(os.fstat(file.descriptor), os.stat(path)):
            break
    return file, (notes, arrays)


def _contents(
    file: StoredFile, notes: dict[str, str], found: dict[str, tuple[str, tuple[int, ...]]], params_only: bool
) -> Checkpoint:
    if "fastoptim" not in notes or "crc32" not in notes:
        raise CheckpointError("a safetensors file, but not one that fastoptim has saved")
    document = document_of(notes["fastoptim"])
    groups = {group: document.get(group, []) for group in GROUPS}
    slotted = {key: document[key] for key in SLOTTED if key in document}
    groups |= {f"{key}/{slot}": names for key, slots in slotted.items() for slot, names in slots.items()}
    expected = [f"{group}/{name}" for group, names in groups.items() for name in names]
    if sorted(expected) != sorted(found):
        odd = ", ".join(map(repr, sorted(set(expected) ^ set(found)))) or "none, but one is named twice"
        raise CheckpointError(f"damaged: expected {len(expected)} arrays, found {len(found)}; not in both are {odd}")
    arrays, crc = _arrays(file, notes["fastoptim"], [_entry(name, *found[name]) for name in found])
    if notes["crc32"] != f"{crc:08x}":
        raise CheckpointError(f"damaged: its checksum is {crc:08x}, expected {notes['crc32']!r}")

    def group(prefix: str) -> dict[str, StoredArray]:
        return {name: arrays[f"{prefix}/{name}"] for name in groups[prefix]}

    state = None if params_only else document["state"]
    if state is not None:
        for key in document.get("positions", []):
            state[key] = {int(name): value for name, value in state[key].items()}
        state |= {key: {slot: group(f"{key}/{slot}") for slot in slots} for key, slots in slotted.items()}
        state |= {name: group(name) for name in GROUPS[1:] if name in document}
    return Checkpoint(StoredArrays(file, group("params")), state, document["metadata"])


def _entry(name: str, code: str, shape: tuple[int, ...]) -> Entry:
    names = {code: name for name, code in CODES.items()}
    if code not in names:
        raise CheckpointError(f"damaged: {name!r} has dtype {code}, expected {' or '.join(names)}")
    dtype = bfloat16() if names[code] == "bfloat16" else np.dtype(names[code])
    try:
        np.broadcast_to(np.zeros((), dtype), shape)
    except ValueError as error:
        raise CheckpointError(f"damaged: {name!r} has a shape that no array can have: {error}") from None
    return Entry(name, dtype, shape)


def _arrays(file: StoredFile, text: str, entries: list[Entry]) -> tuple[dict[str, StoredArray], int]:
    """The arrays, given in the order in which they lie in the file, and the checksum of it all."""
    length = memoryview(bytearray(8))
    file.read(0, length)
    end, offsets = 8 + int.from_bytes(length, "little"), {}
    for entry in entries:
        offsets[entry.name], end = end, end + entry.nbytes
    entries = in_order(entries)
    arrays, crc = {}, zlib.crc32(header(text, entries))
    room = memoryview(bytearray(min(pieces.PIECE, max((entry.nbytes for entry in entries), default=0))))
    for entry in entries:
        before, start = crc, offsets[entry.name]
        for offset in range(start, start + entry.nbytes, len(room) or 1):
            piece = room[: start + entry.nbytes - offset]
            file.read(offset, piece)
            crc = zlib.crc32(piece, crc)
        arrays[entry.name] = StoredArray(file, entry, start, (before, crc))
    return arrays, crc
