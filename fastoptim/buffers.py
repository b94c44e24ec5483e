"""Dicts of arrays as views of one flat buffer."""

import math
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, NamedTuple, NoReturn, Protocol

import numpy as np

Array = np.ndarray[Any, Any]
DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
ALIGNMENT = 64  # bytes: a cache line


class Memory(Protocol):
    """Where arrays are: how to make, find, fill and read them there."""

    name: str
    alignment: int  # bytes; of each parameter's state

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """Zeros in a new, contiguous array."""

    def address(self, array: Any) -> int:
        """Where an array begins."""

    def write(self, array: Any, numbers: Array) -> None:
        """Copy numbers from the host into an array."""

    def read(self, array: Any) -> Array:
        """The numbers of an array, on the host."""


class HostMemory:
    """The machine's own memory: arrays of NumPy."""

    name = "cpu"
    alignment = 1

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """`np.zeros(shape, dtype)` that begins at a multiple of `ALIGNMENT`."""
        size = math.prod(shape) * dtype.itemsize
        memory = np.zeros(size + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        return memory[start : start + size].view(dtype).reshape(shape)

    def address(self, array: Array) -> int:
        """Where an array begins."""
        return int(array.ctypes.data)

    def write(self, array: Array, numbers: Array) -> None:
        """Copy numbers into an array."""
        array[...] = numbers

    def read(self, array: Array) -> Array:
        """The array itself."""
        return array


HOST = HostMemory()


class Run(NamedTuple):
    """Where an array lies in the buffer of its dtype, with its axes in the order `axes`."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


Described = tuple[np.dtype[Any], tuple[int, ...], tuple[int, ...]]  # an array's dtype, shape and order of axes


class Layout:
    """Where each name lies in the buffers: shared by all `FlatDict`s that one update can take together."""

    def __init__(self, arrays: Mapping[Any, Described]) -> None:
        self.places: dict[Any, Run] = {}
        self.sizes: dict[np.dtype[Any], int] = {}
        for name, (dtype, shape, axes) in arrays.items():
            offset = self.sizes.get(dtype, 0)
            self.places[name] = run = Run(dtype, shape, axes, offset)
            self.sizes[dtype] = offset + run.size


def view_of(numbers: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    """A contiguous 1-D array as one of a shape, whose axes lie there in the order `axes`, the slowest first."""
    view = numbers.reshape(tuple(shape[axis] for axis in axes))
    return view if axes == tuple(range(len(axes))) else view.transpose(np.argsort(axes))


def memory_order(array: Any) -> tuple[int, ...]:
    """The axes from the largest stride to the smallest: arrays on a GPU, all C-contiguous, have theirs in order."""
    if not isinstance(array, np.ndarray) or array.flags.c_contiguous or not any(array.strides):
        return tuple(range(len(array.shape)))
    return tuple(sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis])))


class FlatDict(Mapping[Any, Array]):
    """A read-only dict whose arrays are views of one 1-D buffer per dtype, without gaps, in the dict's order.

    Made by `flatten`. Write into its arrays (`flat["W1"][...] = x`, `flat["W1"] += x`) or into the buffer itself. After
    the first update of a layout only the buffers are looked at: a view made read-only does not stop an update, a buffer
    made read-only does.

    Attributes:
        buffers: the 1-D buffers, by dtype.
    """

    def __init__(self, layout: Layout, memory: Memory = HOST) -> None:
        self.layout, self.memory = layout, memory
        self.buffers = {dtype: memory.zeros((size,), dtype) for dtype, size in layout.sizes.items()}
        self.arrays = tuple(self.buffers.values())
        self._views = {
            name: view_of(self.buffers[run.dtype][run.offset : run.offset + run.size], run.shape, run.axes)
            for name, run in layout.places.items()
        }

    @property
    def buffer(self) -> Array:
        """The one buffer, 1-D.

        Raises:
            AttributeError: if there are arrays of both dtypes, or none; see `buffers`.
        """
        if len(self.arrays) != 1:
            raise AttributeError(f"buffer: expected arrays of one dtype, found {_names(self.buffers)}; see buffers")
        buffer: Array = self.arrays[0]
        return buffer

    def zeros_like(self) -> "FlatDict":
        """Zeros in the same layout: for gradients, say."""
        return FlatDict(self.layout, self.memory)

    def copy(self) -> "FlatDict":
        """The same numbers in buffers of their own."""
        return self._copied_to(self.memory)

    def to_host(self) -> "FlatDict":
        """The same numbers in arrays of NumPy, after all that the GPU has been asked to do; a copy also on the CPU."""
        return self._copied_to(HOST)

    def moved(self, memory: Memory) -> "FlatDict":
        """These numbers in a memory: a copy, unless they are there."""
        return self if memory is self.memory else self._copied_to(memory)

    def only(self, names: Iterable[Any]) -> "FlatDict":
        """Zeros for some of the names."""
        return FlatDict(Layout({name: self.layout.places[name][:3] for name in names}), self.memory)

    def _copied_to(self, memory: Memory) -> "FlatDict":
        other = FlatDict(self.layout, memory)
        for mine, copied in zip(self.arrays, other.arrays, strict=True):
            memory.write(copied, self.memory.read(mine))
        return other

    def __copy__(self) -> "FlatDict":
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> "FlatDict":
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.layout, [self.memory.read(array) for array in self.arrays], self.memory.name)

    def __getitem__(self, name: Any) -> Array:
        view: Array = self._views[name]
        return view

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


def _restored(layout: Layout, arrays: list[Array], device: str) -> FlatDict:
    flat = FlatDict(layout, memory_of(device))
    for mine, numbers in zip(flat.arrays, arrays, strict=True):
        flat.memory.write(mine, numbers)
    return flat


def flatten(params: Mapping[Any, Array], device: str = "cpu") -> FlatDict:
    """Copy a dict of float32 and float64 arrays, of any shape and order, into one flat buffer per dtype.

    The arrays of the result are C-contiguous views of its buffers. Have your layers take theirs from it: those given
    here are left as they are.

    Args:
        params: from name to `numpy.ndarray`.
        device: "cpu", or "cuda" for buffers on the current GPU, whose views CuPy, torch and Numba take without a copy.

    Raises:
        TypeError: if `params` is no mapping or a value is not a float32 or float64 `numpy.ndarray`.
        ValueError: if the device is neither.
        RuntimeError: if "cuda" cannot be had; it says what to install.
    """
    memory = memory_of(device)
    if not isinstance(params, Mapping):
        raise TypeError(f"params: expected a mapping from name to array, got {type(params).__name__}")
    for name, array in params.items():
        check_array(array, f"params[{name!r}]")
    arrays = {name: (a.dtype.newbyteorder("="), a.shape, tuple(range(a.ndim))) for name, a in params.items()}
    flat = FlatDict(Layout(arrays))
    for name, array in params.items():
        flat[name][...] = array
    return flat if memory is HOST else flat._copied_to(memory)


def memory_of(device: str) -> Memory:
    """Where the arrays of a device are.

    Raises:
        ValueError: if the device is neither "cpu" nor "cuda".
        RuntimeError: if "cuda" cannot be had.
    """
    if device == "cpu":
        return HOST
    if device == "cuda":
        from fastoptim.device_memory import DEVICE  # imported when it is asked for, as it takes a second

        return DEVICE
    raise ValueError(f"device: expected 'cpu' or 'cuda', got {device!r}")


def check_array(array: Any, what: str) -> None:
    """Refuse anything but a float32 or float64 `numpy.ndarray` in the machine's byte order."""
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{what}: expected a numpy.ndarray, got {type(array).__name__}")
    if array.dtype not in DTYPES:
        raise TypeError(f"{what}: expected dtype {_names(DTYPES)}, got {array.dtype!r}")


def _names(dtypes: Any) -> str:
    return " or ".join(map(str, dtypes)) or "none"
