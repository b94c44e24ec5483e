"""What a checkpoint file says.

The file holds the arrays "params/<name>", "slots/<slot>/<name>", "ema/<name>", "master/<name>", "compensation/<name>",
"gradients/<name>" and "row_steps/<name>"; where a slot has codes of 8 bits, also "scales/<slot>/<name>". So any reader
of safetensors finds the parameters. Its `__metadata__` has two entries: "fastoptim", a JSON text with everything that
is not an array, and "crc32", eight hexadecimal digits. They are zlib's CRC-32 of the header that `header` makes with
zeros for these digits, and of the arrays in the order of `in_order`. The checksum finds damage. It is not a signature,
because a forger can compute it, too. So `load` checks everything that it takes from there, and nothing in a file is
ever executed.
"""

import importlib
import json
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

FORMAT = 1
# By names of dtypes.
CODES = {"uint8": "U8", "int32": "I32", "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"}
# Their arrays are called group/name; those of slots and their scales are slots/slot/name.
GROUPS = ("params", "ema", "master", "compensation", "gradients", "row_steps")
SLOTTED = ("slots", "scales")
OPTIONAL = ("master", "compensation", "row_steps", "scales")  # groups that a file without such arrays does not name
HEADER_LIMIT = 100_000_000  # bytes that the safetensors package reads
POSITIONS = 10**9  # more arrays than any list has
DEPTH_LIMIT = 100  # of nested lists and dicts


class CheckpointError(ValueError):
    """A file that is no checkpoint of fastoptim, or a damaged one: which file, and what is wrong with it."""


class Entry(NamedTuple):
    """An array's name in the file, its dtype and its shape."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """The order in the file: float64 first, so that each array begins at a multiple of its itemsize; then by name."""
    return sorted(entries, key=lambda entry: (-entry.dtype.itemsize, entry.name))


def header(text: str, entries: Iterable[Entry], crc: int = 0) -> bytes:
    """The beginning of the file: the length of what follows, and JSON that says where each array is after it."""
    table: dict[str, Any] = {"__metadata__": {"crc32": f"{crc:08x}", "fastoptim": text}}
    end = 0
    for entry in entries:
        start, end = end, end + entry.nbytes
        table[entry.name] = {"dtype": CODES[entry.dtype.name], "shape": entry.shape, "data_offsets": (start, end)}
    content = json.dumps(table, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)
    return len(content).to_bytes(8, "little") + content


def check_json(value: Any, what: str, depth: int = 0) -> None:
    """Refuse values that would come back as something else."""
    if depth > DEPTH_LIMIT:
        raise ValueError(f"{what}: lists and dicts nested more than {DEPTH_LIMIT} deep")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{what}: expected keys that are str, got {key!r}")
            check_json(inner, what, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            check_json(inner, what, depth + 1)
    elif not isinstance(value, str | int | float | None):
        hint = "; .item() converts it" if isinstance(value, np.generic) else ""
        raise TypeError(
            f"{what}: expected str, int, float, bool, None, or lists and dicts of these, got {value!r}{hint}"
        )


def document_of(text: str) -> dict[str, Any]:
    """The contents of a file's JSON text, with the types checked."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"damaged: its description is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointError("damaged: its description is no JSON object")
    if document.get("format") != FORMAT:
        raise CheckpointError(f"a checkpoint of format {document.get('format')!r}, expected {FORMAT}")
    slotted, state = [document.get(group, {}) for group in SLOTTED], document.get("state")
    if not (
        all(_are_names(document.get(group)) for group in GROUPS if group in document or group not in OPTIONAL)
        and "slots" in document
        and all(map(_are_slots, slotted))
        and isinstance(state, dict | None)
        and isinstance(document.get("metadata"), dict)
        and not (state or {}).keys() & {*SLOTTED, *GROUPS[1:]}
        and _are_positions(document.get("positions", []), state or {})
    ):
        raise CheckpointError("damaged: its description lacks something, or has it of another type")
    if state is None and any(document.get(group) for group in (*SLOTTED, *GROUPS[1:])):
        raise CheckpointError("damaged: it has arrays of an optimizer, but no optimizer")
    return document


def is_position(name: Any) -> bool:
    """Whether a name is one that arrays of a list have: 0, 1, 2, ..."""
    return type(name) is int and 0 <= name < POSITIONS


def _are_slots(value: Any) -> bool:
    return isinstance(value, dict) and all("/" not in slot and _are_names(names) for slot, names in value.items())


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and (all(isinstance(name, str) for name in value) or all(map(is_position, value)))


def _are_positions(keys: Any, state: dict[str, Any]) -> bool:
    """Whether these parts of the state are by position. Their keys are text, as JSON has no other ones."""
    return isinstance(keys, list) and all(
        isinstance(key, str) and isinstance(state.get(key), dict) and all(map(_says_a_position, state[key]))
        for key in keys
    )


def _says_a_position(text: str) -> bool:
    return text.isdecimal() and len(text) <= len(str(POSITIONS)) and is_position(int(text)) and text == str(int(text))


def safetensors_package() -> Any:
    """The package, which is optional.

    Raises:
        RuntimeError: it is not installed.
    """
    try:
        return importlib.import_module("safetensors")
    except ImportError as error:
        raise RuntimeError("checkpoints need the safetensors package: pip install 'fastoptim[checkpoint]'") from error
