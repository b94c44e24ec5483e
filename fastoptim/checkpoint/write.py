"""`save`: arrays from where they are to the disk."""

import contextlib
import json
import os
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from fastoptim.arrays.flat import FlatDict
from fastoptim.arrays.info import check_array, on_gpu
from fastoptim.arrays.memory import HOST, Array
from fastoptim.arrays.named import ByName, by_name
from fastoptim.arrays.tensors import is_torch_bfloat16, of_torch_bfloat16
from fastoptim.checkpoint import pieces
from fastoptim.checkpoint.files import replacing
from fastoptim.checkpoint.format import (
    FORMAT,
    GROUPS,
    HEADER_LIMIT,
    OPTIONAL,
    SLOTTED,
    Entry,
    check_json,
    header,
    in_order,
    is_position,
    safetensors_package,
)
from fastoptim.checkpoint.stored import StoredArray
from fastoptim.kernels.codes import BYTES

STEPS = np.dtype(np.int32)  # of rows


def save(path: str | os.PathLike[str], params: ByName, opt: Any = None, **metadata: Any) -> None:
    """Write parameters, an optimizer's state and metadata to one file.

    A file that is there already is replaced in one moment: whatever happens meanwhile, it is the old one or the new
    one, whole. The new one is written beside it first, as ".fastoptim-*.tmp", and is on the disk when this returns. It
    has the old one's permissions; a link stays one, and its target is replaced. A process that is killed leaves its
    temporary file behind. The next `save` into that folder removes those of the same machine's dead processes.

    The arrays are written from where they are, without a copy (those on a GPU are copied to the host). No other thread
    may write into them meanwhile: the file would be refused as damaged.

    Args:
        path: the file; "model.safetensors", say.
        params: from name, a `str`, to float `numpy.ndarray`, of any shape and strides, or to an array on a
            GPU; or a `FlatDict`; or a list or tuple of arrays.
        opt: an optimizer, or whatever else has such a `state_dict()`.
        metadata: what else to keep, by name: str, int, float (NaN and infinities, too), bool, None, and lists and dicts
            of these.

    Raises:
        TypeError: `params` is no mapping, list or tuple, a name is no str, a value is no array of floats,
            `opt` has no `state_dict`, or a piece of metadata is none of the above.
        ValueError: a name is no valid Unicode, or there is too much that is no array.
        OSError: the file cannot be written; `FileNotFoundError`, which names the folder, where there is no such folder.
            After any of these the old file is still there; or the new one, where its folder could not be synced.
        RuntimeError: the safetensors package is not installed, or the parameters are the averages for a while.
    """
    safetensors_package()  # better to notice now that the file could not be read again here
    arrays, text = _described(params, opt, metadata)
    entries = in_order(Entry(name, array.dtype, array.shape) for name, array in arrays.items())
    first = header(text, entries)
    if len(first) - 8 > HEADER_LIMIT:
        raise ValueError(f"metadata and names: {len(first) - 8:,} bytes, expected at most {HEADER_LIMIT:,}")
    with replacing(os.path.realpath(os.fsdecode(path))) as file, ThreadPoolExecutor(1) as pool:
        # The package's own writer makes no copies, either, but wants contiguous arrays and the checksum beforehand.
        _write(file, first)
        crc = zlib.crc32(first)
        for entry in entries:
            for piece in pieces.bytes_of(arrays[entry.name]):
                crc = _write_and_sum(file, piece, crc, pool)
        os.lseek(file, 0, os.SEEK_SET)
        _write(file, header(text, entries, crc))


def _described(params: Any, opt: Any, metadata: dict[str, Any]) -> tuple[dict[str, Array], str]:
    """All arrays, by their names in the file, and a JSON text of the rest."""
    params = by_name(params, "params")
    if opt is not None and not hasattr(opt, "state_dict"):
        raise TypeError(f"opt: expected an optimizer, got {type(opt).__name__}, which has no state_dict")
    if getattr(opt, "is_averaged", False):
        raise RuntimeError(
            "save: the parameters are the averages, with which training cannot go on. Save after the end of "
            "`averaged`; to publish the averages, leave the optimizer out: save(path, params)"
        )
    if isinstance(params, FlatDict) and params.memory is not HOST:
        params = params.to_host()
    for key, value in metadata.items():
        check_json(value, f"metadata {key!r}")
    state = None if opt is None else dict(opt.state_dict())
    groups: dict[str, Mapping[str, Any]] = {"params": params}
    document: dict[str, Any] = {"format": FORMAT, "metadata": metadata, "slots": {}, "state": state}
    by_position = bool(params) and all(map(is_position, params))
    if state is not None:
        for key in [key for key in SLOTTED if key in state or key not in OPTIONAL]:
            slots = dict(state.pop(key))
            for slot, views in slots.items():
                if not isinstance(slot, str) or "/" in slot:
                    raise TypeError(f"{key}: expected names without '/', got {slot!r}")
                groups[f"{key}/{slot}"] = views
            document[key] = {slot: list(views) for slot, views in slots.items()}
        groups |= {group: state.pop(group) for group in GROUPS[1:] if group in state or group not in OPTIONAL}
        for key, value in state.items():  # JSON turns an integer that is a key into text
            if by_position and isinstance(value, dict) and value and all(map(is_position, value)):
                state[key] = {str(name): each for name, each in value.items()}
                document["positions"] = [*document.get("positions", ()), key]
    arrays = {}
    for group, named in groups.items():
        for name, array in named.items():
            what = f"{group}[{name!r}]"
            if not (is_position(name) if by_position else isinstance(name, str)):
                expected = "positions from 0 on" if by_position else "str, or all of them positions from 0 on"
                raise TypeError(f"{what}: expected names that are {expected}, got {name!r}")
            if not by_position and any("\ud800" <= character <= "\udfff" for character in name):
                raise ValueError(f"{what}: the name is no valid Unicode")
            of_integers = BYTES if group.startswith("slots/") else STEPS if group == "row_steps" else None
            arrays[f"{group}/{name}"] = _on_host(array, what, of_integers)
    if state is not None:
        check_json(state, "state")
    document |= {group: list(groups.get(group, ())) for group in GROUPS if group in groups or group not in OPTIONAL}
    return arrays, json.dumps(document, separators=(",", ":"))


def _on_host(array: Any, what: str, of_integers: np.dtype[Any] | None) -> Array:
    """An array of floats, or of these integers, as one of NumPy."""
    if isinstance(array, StoredArray):  # from one file to another
        return np.asarray(array)
    if on_gpu(array):
        for method in "copy_to_host", "get", "cpu":  # of Numba, CuPy and torch
            if hasattr(array, method):
                array = getattr(array, method)()
                array = of_torch_bfloat16(array) if is_torch_bfloat16(array) else np.asarray(array)
                break
    if not (of_integers is not None and isinstance(array, np.ndarray) and array.dtype == of_integers):
        check_array(array, what)
    return np.asarray(array)


def _write(file: int, content: bytes | memoryview) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file, rest) :]


def _write_and_sum(file: int, piece: memoryview, crc: int, pool: ThreadPoolExecutor) -> int:
    """Write a piece and have the disk begin with it. Return the checksum with it, computed meanwhile if that pays."""
    if len(piece) < pieces.PIECE // 8:
        _write(file, piece)
        return zlib.crc32(piece, crc)
    job = None
    with contextlib.suppress(RuntimeError):  # no new threads once the interpreter shuts down
        job = pool.submit(zlib.crc32, piece, crc)
    _write(file, piece)
    if hasattr(os, "posix_fadvise"):  # Linux starts to write what it is asked to forget; fsync finds little left
        with contextlib.suppress(OSError):
            end = os.lseek(file, 0, os.SEEK_CUR)
            os.posix_fadvise(file, end - len(piece), len(piece), os.POSIX_FADV_DONTNEED)
    return zlib.crc32(piece, crc) if job is None else job.result()
