"""Arrays that stay in their file until they are asked for."""

import os
import threading
import weakref
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastoptim.arrays.memory import Array
from fastoptim.checkpoint.format import CheckpointError, Entry
from fastoptim.checkpoint.pieces import bytes_of


class StoredFile:
    """A file that stays open as long as somebody refers to it, also after another one has taken its name."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._lock = threading.Lock()
        self._closing = weakref.finalize(self, os.close, self.descriptor)

    def close(self) -> None:
        """Nothing can be read afterwards."""
        self._closing()

    def read(self, offset: int, piece: memoryview) -> None:
        """Fill a piece of memory with the bytes at `offset`.

        Raises:
            EOFError: the file ends before.
            ValueError: it was closed.
        """
        if not self._closing.alive:
            raise ValueError(f"{self.path}: the checkpoint is closed, its arrays cannot be read any more")
        while piece:
            count = self._read_some(offset, piece)
            if not count:
                raise EOFError
            offset, piece = offset + count, piece[count:]

    def _read_some(self, offset: int, piece: memoryview) -> int:
        if hasattr(os, "preadv"):  # has no position that threads and forked processes would share
            return os.preadv(self.descriptor, [piece], offset)
        with self._lock:
            os.lseek(self.descriptor, offset, os.SEEK_SET)
            content = os.read(self.descriptor, len(piece))
        piece[: len(content)] = content
        return len(content)


class StoredArray:
    """An array in a file. `np.asarray(stored)` reads it into a new array, `read_into` into one that is there.

    Attributes:
        dtype, shape, ndim: as those of a `numpy.ndarray`.
    """

    __slots__ = ("_crcs", "_file", "_offset", "dtype", "name", "ndim", "shape")

    def __init__(self, file: StoredFile, entry: Entry, offset: int, crcs: tuple[int, int]) -> None:
        """`crcs`: the running checksum of the file before these bytes and after them."""
        self.name, self.dtype, self.shape = entry
        self.ndim = len(self.shape)
        self._file, self._offset, self._crcs = file, offset, crcs

    def read_into(self, out: Array) -> None:
        """Read the numbers straight into an array of this shape and dtype, of any strides.

        Raises:
            TypeError: `out` is no `numpy.ndarray` of this dtype.
            ValueError: `out` has another shape or is read-only; or the file was closed.
            CheckpointError: the file was changed since it was loaded. `out` may hold anything then.
            OSError: the file cannot be read. `out` may hold anything then.
        """
        if not isinstance(out, np.ndarray) or out.dtype != self.dtype:
            found = out.dtype if isinstance(out, np.ndarray) else type(out).__name__
            raise TypeError(f"{self.name!r}: expected a numpy.ndarray of {self.dtype}, got {found}")
        if out.shape != self.shape:
            raise ValueError(f"{self.name!r}: expected the shape {self.shape}, got {out.shape}")
        if not out.flags.writeable:
            raise ValueError(f"{self.name!r}: expected a writeable array, got a read-only one")
        offset, crc = self._offset, self._crcs[0]
        try:
            for piece in bytes_of(out, fill=True):
                self._file.read(offset, piece)
                crc, offset = zlib.crc32(piece, crc), offset + len(piece)
        except EOFError:
            raise CheckpointError(f"{self._file.path}: it was truncated after it was loaded") from None
        if crc != self._crcs[1]:
            raise CheckpointError(f"{self._file.path}: {self.name!r} was changed in the file after it was loaded")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError(f"{self.name!r}: it is in a file, which cannot be an array without a copy")
        array = np.empty(self.shape, self.dtype)
        self.read_into(array)
        return array if dtype is None else array.astype(dtype, copy=False)

    def __reduce__(self) -> Any:  # a copy, here or in another process, is an array in memory
        return np.asarray(self).__reduce__()

    def __repr__(self) -> str:
        return f"<{self.dtype} {self.shape} in {self._file.path}>"


class StoredArrays(Mapping[str, Array]):
    """Arrays in a file, by name. Each access reads one into a new array; names, and whether there is one, read nothing.

    Attributes:
        file: where they are.
    """

    def __init__(self, file: StoredFile, arrays: dict[str, StoredArray]) -> None:
        self.file, self._arrays = file, arrays

    def stored(self, name: str) -> StoredArray:
        """The array as it is in the file, to ask for its shape and dtype or to read it into one's own memory."""
        return self._arrays[name]

    def __getitem__(self, name: str) -> Array:
        return np.asarray(self._arrays[name])

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __reduce__(self) -> Any:  # a copy, here or in another process, is a dict of arrays in memory
        return dict, (dict(self.items()),)

    def __repr__(self) -> str:
        arrays = ", ".join(f"{name!r}: {array.dtype} {array.shape}" for name, array in self._arrays.items())
        return f"StoredArrays({{{arrays}}})"
