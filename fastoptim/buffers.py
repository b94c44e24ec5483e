"""Dicts of arrays as views of one flat buffer."""

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any, NoReturn

import numpy as np

Array = np.ndarray[Any, Any]
DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
ALIGNMENT = 64  # bytes: a cache line


def zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """`np.zeros(shape, dtype)` that begins at a multiple of `ALIGNMENT`."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


class Layout:
    """Where each name lies in the buffers: shared by all `FlatDict`s that one update can take together."""

    def __init__(self, shapes: Mapping[Any, tuple[np.dtype[Any], tuple[int, ...]]]) -> None:
        self.places: dict[Any, tuple[np.dtype[Any], tuple[int, ...], int]] = {}  # dtype, shape, offset
        self.sizes: dict[np.dtype[Any], int] = {}
        for name, (dtype, shape) in shapes.items():
            offset = self.sizes.get(dtype, 0)
            self.places[name] = dtype, shape, offset
            self.sizes[dtype] = offset + int(np.prod(shape, dtype=np.int64))


class FlatDict(Mapping[Any, Array]):
    """A read-only dict whose arrays are views of one 1-D buffer per dtype, without gaps, in the dict's order.

    Made by `flatten`. Write into its arrays (`flat["W1"][...] = x`, `flat["W1"] += x`) or into the buffer itself.

    Attributes:
        buffers: the 1-D buffers, by dtype.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.buffers = {dtype: zeros((size,), dtype) for dtype, size in layout.sizes.items()}
        self.arrays = tuple(self.buffers.values())
        self._views = {}
        for name, (dtype, shape, offset) in layout.places.items():
            size = int(np.prod(shape, dtype=np.int64))
            self._views[name] = self.buffers[dtype][offset : offset + size].reshape(shape)

    @property
    def buffer(self) -> Array:
        """The one buffer, 1-D.

        Raises:
            AttributeError: if there are arrays of both dtypes, or none; see `buffers`.
        """
        if len(self.arrays) != 1:
            raise AttributeError(f"buffer: expected arrays of one dtype, found {_names(self.buffers)}; see buffers")
        return self.arrays[0]

    def zeros_like(self) -> "FlatDict":
        """Zeros in the same layout: for gradients, say."""
        return FlatDict(self.layout)

    def copy(self) -> "FlatDict":
        """The same numbers in buffers of their own."""
        other = FlatDict(self.layout)
        for mine, copied in zip(self.arrays, other.arrays, strict=True):
            copied[...] = mine
        return other

    def __copy__(self) -> "FlatDict":
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> "FlatDict":
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        return flatten, (dict(self),)

    def __getitem__(self, name: Any) -> Array:
        return self._views[name]

    def __setitem__(self, name: Any, value: Any) -> None:
        if self._views.get(name) is not value:  # flat["W1"] += x ends by assigning the same array
            raise TypeError(
                f"flat[{name!r}] cannot be bound to another array: a FlatDict's arrays are views of its buffer. "
                f"To write into it: flat[{name!r}][...] = x"
            )

    def __delitem__(self, name: Any) -> NoReturn:
        raise TypeError(f"flat[{name!r}] cannot be deleted: a FlatDict's arrays are views of its buffer")

    def __iter__(self) -> Iterator[Any]:
        return iter(self._views)

    def __reversed__(self) -> Iterator[Any]:
        return iter(reversed(self._views))

    def __len__(self) -> int:
        return len(self._views)

    def keys(self) -> KeysView[Any]:
        return self._views.keys()

    def values(self) -> ValuesView[Array]:
        return self._views.values()

    def items(self) -> ItemsView[Any, Array]:
        return self._views.items()

    def __repr__(self) -> str:
        arrays = ", ".join(f"{name!r}: {view.dtype} {view.shape}" for name, view in self._views.items())
        return f"FlatDict({{{arrays}}})"


def flatten(params: Mapping[Any, Array]) -> FlatDict:
    """Copy a dict of float32 and float64 arrays, of any shape and order, into one flat buffer per dtype.

    The arrays of the result are C-contiguous views of its buffers. Have your layers take theirs from it: those given
    here are left as they are.

    Raises:
        TypeError: if `params` is no mapping or a value is not a float32 or float64 `numpy.ndarray`.
    """
    if not isinstance(params, Mapping):
        raise TypeError(f"params: expected a mapping from name to array, got {type(params).__name__}")
    for name, array in params.items():
        check_array(array, f"params[{name!r}]")
    flat = FlatDict(Layout({name: (array.dtype.newbyteorder("="), array.shape) for name, array in params.items()}))
    for name, array in params.items():
        flat[name][...] = array
    return flat


def check_array(array: Any, what: str) -> None:
    """Refuse anything but a float32 or float64 `numpy.ndarray` in the machine's byte order."""
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{what}: expected a numpy.ndarray, got {type(array).__name__}")
    if array.dtype not in DTYPES:
        raise TypeError(f"{what}: expected dtype {_names(DTYPES)}, got {array.dtype!r}")


def _names(dtypes: Any) -> str:
    return " or ".join(map(str, dtypes)) or "none"
