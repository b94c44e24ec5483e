"""Checkpoints: parameters, an optimizer's state and your own notes in one safetensors file.

The file holds the arrays "params/<name>", "slots/<slot>/<name>", "ema/<name>" and "gradients/<name>", so that any
reader of safetensors finds the parameters. Its `__metadata__` has two entries: "fastoptim", a JSON text with all that
is no array, and "crc32", eight hexadecimal digits: zlib's CRC-32 of the header that `_header` makes, with these digits
zero, and of the arrays behind it. The checksum finds damage. It is no signature, as who forges a file can compute it,
too: `load` looks at everything it takes from there, and nothing in a file is ever executed.
"""

import contextlib
import errno
import importlib
import json
import math
import os
import secrets
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from fastoptim.buffers import HOST, Array, FlatDict, check_array
from fastoptim.checks import check_overlaps, check_params, on_device

FORMAT = 1
CODES: dict[np.dtype[Any], str] = {np.dtype(np.float32): "F32", np.dtype(np.float64): "F64"}
GROUPS = ("params", "ema", "gradients")  # whose arrays are called group/name; those of slots are slots/slot/name
PIECE = 1 << 22  # bytes written at once; other arrays than C-contiguous ones are copied, so much at a time
HEADER_LIMIT = 100_000_000  # bytes that the safetensors package reads
DEPTH_LIMIT = 100  # of nested lists and dicts

Entries = list[tuple[str, np.dtype[Any], tuple[int, ...]]]  # an array's name in the file, dtype and shape


class CheckpointError(ValueError):
    """A file that is no checkpoint of fastoptim, or a damaged one: which file, and what is wrong with it."""


class Checkpoint(NamedTuple):
    """What a file holds.

    Attributes:
        params: from name to array, in the order in which they were saved.
        optimizer: what `opt.state_dict()` returned, for `opt.load_state_dict`; None without an optimizer.
        metadata: what was given to `save`.
    """

    params: dict[str, Array]
    optimizer: dict[str, Any] | None
    metadata: dict[str, Any]

    def restore(self, params: Mapping[str, Array], opt: Any = None) -> None:
        """Copy the parameters into your own arrays, in place, and have the optimizer take its state.

        Args:
            params: the same names, in any order, to arrays of the same shapes and dtypes; or a `FlatDict`, which may be
                on a GPU.
            opt: an optimizer of the class that was saved.

        Raises:
            KeyError: `params` lacks a name, or has one more.
            TypeError: `params` is no mapping, or an array has another dtype.
            ValueError: an array has another shape, is read-only or shares memory with another one; or there is no
                state in the file. What `opt.load_state_dict` refuses is raised, too. After any of these nothing has
                changed.
        """
        if not isinstance(params, Mapping):
            raise TypeError(f"params: expected a mapping from name to array, got {type(params).__name__}")
        for some, what, others, which in (
            (params, "params", self.params, "the checkpoint"),
            (self.params, "the checkpoint", params, "params"),
        ):
            for name in others:
                if name not in some:
                    names = ", ".join(map(repr, some)) or "none"
                    raise KeyError(f"{what} has no {name!r}, which {which} has; its names are {names}")
        own = [params[name] for name in self.params]
        memory = params.memory if isinstance(params, FlatDict) else HOST
        if memory is HOST:
            check_params(list(self.params), own)
            check_overlaps(list(self.params), own, own)
        for (name, array), mine in zip(self.params.items(), own, strict=True):
            if mine.dtype != array.dtype:
                raise TypeError(f"params[{name!r}]: expected the checkpoint's dtype {array.dtype}, got {mine.dtype}")
            if tuple(mine.shape) != array.shape:
                raise ValueError(f"params[{name!r}]: expected the checkpoint's shape {array.shape}, got {mine.shape}")
        if opt is not None:
            if self.optimizer is None:
                raise ValueError("the checkpoint was saved without an optimizer: expected restore(params)")
            opt.load_state_dict(self.optimizer)  # before the parameters, as it may refuse the state
        for array, mine in zip(self.params.values(), own, strict=True):
            memory.write(mine, array)


def save(path: str | os.PathLike[str], params: Mapping[str, Any], opt: Any = None, **metadata: Any) -> None:
    """Write parameters, an optimizer's state and metadata to one file.

    A file that is there already is replaced in one moment: whatever happens meanwhile, it is the old one or the new
    one, whole. The new one is written beside it first, as ".fastoptim-*.tmp", which only a killed process leaves
    behind, and is on the disk when this returns. It has the old one's permissions; a link stays one, and its target is
    replaced.

    The arrays are written from where they are, without a copy (those on a GPU are copied to the host). No other thread
    may write into them meanwhile: the file would be refused as damaged.

    Args:
        path: the file; "model.safetensors", say.
        params: from name, a `str`, to float32 or float64 `numpy.ndarray`, of any shape and strides, or to an array on a
            GPU; or a `FlatDict`.
        opt: an optimizer, or whatever else has such a `state_dict()`.
        metadata: what else to keep, by name: str, int, float (NaN and infinities, too), bool, None, and lists and dicts
            of these.

    Raises:
        TypeError: `params` is no mapping, a name is no str, a value is not a float32 or float64 array, `opt` has no
            `state_dict`, or a piece of metadata is none of the above.
        ValueError: a name is no valid Unicode, or there is too much that is no array.
        OSError: the file cannot be written. After any of these the old file is still there; or the new one, where its
            folder could not be synced.
        RuntimeError: the safetensors package is not installed.
    """
    _safetensors()  # a file that cannot be read again here is better noticed now
    arrays, text = _described(params, opt, metadata)
    entries = _in_order((name, array.dtype, array.shape) for name, array in arrays.items())
    header = _header(text, entries)
    if len(header) - 8 > HEADER_LIMIT:
        raise ValueError(f"metadata and names: {len(header) - 8:,} bytes, expected at most {HEADER_LIMIT:,}")
    with _replacing(os.path.realpath(os.fsdecode(path))) as file, ThreadPoolExecutor(1) as pool:
        # The package's own writer makes no copies, either, but wants contiguous arrays and the checksum beforehand.
        _write(file, header)
        crc = zlib.crc32(header)
        for name, _, _ in entries:
            for piece in _pieces(arrays[name]):
                crc = _write_and_sum(file, piece, crc, pool)
        os.lseek(file, 0, os.SEEK_SET)
        _write(file, _header(text, entries, crc))


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a file that `save` has written.

    Raises:
        CheckpointError: the file is foreign, truncated or changed; a `ValueError`. Nothing was loaded.
        OSError: it cannot be read; `FileNotFoundError`, where there is none.
        RuntimeError: the safetensors package is not installed.
    """
    safetensors = _safetensors()
    path = os.fsdecode(path)
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise CheckpointError(f"{path}: expected a file, found a directory or device")
    with open(path, "rb"):  # what the system refuses is an OSError, in Python's own words
        pass
    try:
        # "pread": one file from first to last, though another one may take its name meanwhile, and each array read once
        with safetensors.safe_open(path, framework="np", backend="pread") as file:
            return _read(file)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path}: not a whole safetensors file: {error}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


# What the file says


def _described(params: Any, opt: Any, metadata: dict[str, Any]) -> tuple[dict[str, Array], str]:
    """All arrays, by their names in the file, and a JSON text of the rest."""
    if not isinstance(params, Mapping):
        raise TypeError(f"params: expected a mapping from name to array, got {type(params).__name__}")
    if opt is not None and not hasattr(opt, "state_dict"):
        raise TypeError(f"opt: expected an optimizer, got {type(opt).__name__}, which has no state_dict")
    if isinstance(params, FlatDict) and params.memory is not HOST:
        params = params.to_host()
    for key, value in metadata.items():
        _check_json(value, f"metadata {key!r}")
    state = None if opt is None else dict(opt.state_dict())
    groups: dict[str, Mapping[str, Any]] = {"params": params}
    document: dict[str, Any] = {"format": FORMAT, "metadata": metadata, "slots": {}, "state": state}
    if state is not None:
        for slot, views in state.pop("slots").items():
            if not isinstance(slot, str) or "/" in slot:
                raise TypeError(f"slots: expected names without '/', got {slot!r}")
            groups[f"slots/{slot}"] = views
            document["slots"][slot] = list(views)
        groups |= {group: state.pop(group) for group in GROUPS[1:]}
        _check_json(state, "state")
    arrays = {}
    for group, named in groups.items():
        for name, array in named.items():
            what = f"{group}[{name!r}]"
            if not isinstance(name, str):
                raise TypeError(f"{what}: a file's names are str, got {type(name).__name__}")
            if any("\ud800" <= character <= "\udfff" for character in name):
                raise ValueError(f"{what}: the name is no valid Unicode")
            arrays[f"{group}/{name}"] = _on_host(array, what)
    document |= {group: list(groups.get(group, ())) for group in GROUPS}
    return arrays, json.dumps(document, separators=(",", ":"))


def _in_order(entries: Iterable[tuple[str, np.dtype[Any], tuple[int, ...]]]) -> Entries:
    """As they lie in the file: float64 first, so that each begins at a multiple of its itemsize; then by name."""
    return sorted(entries, key=lambda entry: (-entry[1].itemsize, entry[0]))


def _header(text: str, entries: Entries, crc: int = 0) -> bytes:
    """How the file begins: the length of what follows, and JSON that says where each array is behind it."""
    table: dict[str, Any] = {"__metadata__": {"crc32": f"{crc:08x}", "fastoptim": text}}
    end = 0
    for name, dtype, shape in entries:
        start, end = end, end + math.prod(shape) * dtype.itemsize
        table[name] = {"dtype": CODES[dtype], "shape": shape, "data_offsets": (start, end)}
    content = json.dumps(table, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)
    return len(content).to_bytes(8, "little") + content


def _on_host(array: Any, what: str) -> Array:
    if on_device(array):
        for method in "copy_to_host", "get", "cpu":  # of Numba, CuPy and torch
            if hasattr(array, method):
                array = np.asarray(getattr(array, method)())
                break
    check_array(array, what)
    return np.asarray(array)


def _check_json(value: Any, what: str, depth: int = 0) -> None:
    """Refuse what would come back as something else."""
    if depth > DEPTH_LIMIT:
        raise ValueError(f"{what}: lists and dicts nested more than {DEPTH_LIMIT} deep")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{what}: expected keys that are str, got {key!r}")
            _check_json(inner, what, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_json(inner, what, depth + 1)
    elif not isinstance(value, str | int | float | None):
        raise TypeError(f"{what}: expected str, int, float, bool, None, or lists and dicts of these, got {value!r}")


# Writing


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[int]:
    """A new file, to be written to, that takes the place of another one, or none, when all went well."""
    folder = os.path.dirname(path)
    try:
        old = os.stat(path)
    except FileNotFoundError:
        old = None
    if old is not None and not stat.S_ISREG(old.st_mode):
        raise OSError(errno.EISDIR if stat.S_ISDIR(old.st_mode) else errno.EEXIST, "expected a file or nothing", path)
    if old is not None and not os.access(path, os.W_OK):  # a rename would not mind
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    beside = os.path.join(folder, f".fastoptim-{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        file = os.open(beside, flags, 0o666)  # less the umask
        try:
            if old is not None:
                os.chmod(beside, stat.S_IMODE(old.st_mode))
            yield file
            os.fsync(file)
        finally:
            os.close(file)
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    """Have a new name on the disk, too, where systems know that: Windows does not, nor do some network drives."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def _pieces(array: Array) -> Iterator[memoryview]:
    """An array's bytes in C order, little-endian: a contiguous array's own memory, or else a small buffer, refilled."""
    for piece in np.nditer(  # type: ignore[call-overload]  # NumPy's stub lacks "contig"
        array,
        flags=["external_loop", "buffered", "zerosize_ok"],
        op_flags=[["readonly", "contig"]],
        op_dtypes=[array.dtype.newbyteorder("<")],
        order="C",
        buffersize=PIECE // array.itemsize,
    ):
        yield memoryview(piece.view(np.uint8))


def _write(file: int, content: bytes | memoryview) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file, rest) :]


def _write_and_sum(file: int, piece: memoryview, crc: int, pool: ThreadPoolExecutor) -> int:
    """Write a piece and have the disk begin with it; the checksum with it, computed meanwhile where that pays."""
    if len(piece) < PIECE // 8:
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


# Reading


def _read(file: Any) -> Checkpoint:
    notes = file.metadata() or {}
    if "fastoptim" not in notes or "crc32" not in notes:
        raise CheckpointError("a safetensors file, but not one that fastoptim has saved")
    document = _document(notes["fastoptim"])
    groups = {group: document[group] for group in GROUPS}
    groups |= {f"slots/{slot}": names for slot, names in document["slots"].items()}
    expected = [f"{group}/{name}" for group, names in groups.items() for name in names]
    found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    if sorted(expected) != sorted(found):
        odd = ", ".join(map(repr, sorted(set(expected) ^ set(found)))) or "none, but one is named twice"
        raise CheckpointError(f"damaged: expected {len(expected)} arrays, found {len(found)}; not in both are {odd}")
    dtypes = {code: dtype for dtype, code in CODES.items()}
    for name, entry in found.items():
        if entry.get_dtype() not in dtypes:
            raise CheckpointError(f"damaged: {name!r} has dtype {entry.get_dtype()}, expected {' or '.join(dtypes)}")
    entries = _in_order((name, dtypes[found[name].get_dtype()], tuple(found[name].get_shape())) for name in expected)
    arrays, crc = {}, zlib.crc32(_header(notes["fastoptim"], entries))
    for name, _, _ in entries:
        arrays[name] = file.get_tensor(name)
        for piece in _pieces(arrays[name]):
            crc = zlib.crc32(piece, crc)
    if notes["crc32"] != f"{crc:08x}":
        raise CheckpointError(f"damaged: its checksum is {crc:08x}, expected {notes['crc32']!r}")

    def group(prefix: str) -> dict[str, Array]:
        return {name: arrays[f"{prefix}/{name}"] for name in groups[prefix]}

    state = document["state"]
    if state is not None:
        state["slots"] = {slot: group(f"slots/{slot}") for slot in document["slots"]}
        state |= {name: group(name) for name in GROUPS[1:]}
    return Checkpoint(group("params"), state, document["metadata"])


def _document(text: str) -> dict[str, Any]:
    """What a file's JSON text says, of the right types."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"damaged: its description is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointError("damaged: its description is no JSON object")
    if document.get("format") != FORMAT:
        raise CheckpointError(f"a checkpoint of format {document.get('format')!r}, expected {FORMAT}")
    slots, state = document.get("slots"), document.get("state")
    if not (
        all(_are_names(document.get(group)) for group in GROUPS)
        and isinstance(slots, dict)
        and all("/" not in slot and _are_names(names) for slot, names in slots.items())
        and isinstance(state, dict | None)
        and isinstance(document.get("metadata"), dict)
        and not (state or {}).keys() & {"slots", *GROUPS[1:]}
    ):
        raise CheckpointError("damaged: its description lacks something, or has it of another type")
    if state is None and (slots or any(document[group] for group in GROUPS[1:])):
        raise CheckpointError("damaged: it has arrays of an optimizer, but no optimizer")
    return document


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _safetensors() -> Any:
    try:
        return importlib.import_module("safetensors")
    except ImportError as error:
        raise RuntimeError("checkpoints need the safetensors package: pip install 'fastoptim[checkpoint]'") from error
