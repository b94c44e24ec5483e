"""Dicts of arrays as views of one flat buffer."""

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any, NoReturn

from fastoptim.arrays.devices import memory_of
from fastoptim.arrays.info import check_array, dtype_names
from fastoptim.arrays.layout import Kind, Layout
from fastoptim.arrays.memory import HOST, Array, Memory, copy_from
from fastoptim.arrays.named import ByName, by_name
from fastoptim.kernels.storage import storage_of


class FlatDict(Mapping[Any, Array]):
    """A read-only dict whose arrays are views of one 1-D buffer per dtype, without gaps, in the dict's order.

    `fastoptim.flatten(params)` makes one. Write into its arrays (`flat["W1"][...] = x`, `flat["W1"] += x`) or into the
    buffer itself. After the first update of a layout only the buffers are looked at: a view made read-only does not
    stop an update, a buffer made read-only does.

    Attributes:
        buffers: the 1-D buffers, by dtype.
    """

    def __init__(self, layout: Layout, memory: Memory = HOST) -> None:
        if not isinstance(layout, Layout):
            raise TypeError(f"FlatDict({type(layout).__name__}): expected fastoptim.flatten(params), which makes one")
        self.layout, self.memory = layout, memory
        self.buffers = {dtype: memory.zeros((size,), dtype) for dtype, size in layout.sizes.items()}
        self.arrays = tuple(self.buffers.values())
        self._views = {name: own.of(self.arrays[own.block]) for name, own in layout.slices.items()}

    @property
    def buffer(self) -> Array:
        """The one buffer, 1-D.

        Raises:
            AttributeError: if there are arrays of both dtypes, or none; see `buffers`.
        """
        if len(self.arrays) != 1:
            raise AttributeError(
                f"buffer: expected arrays of one dtype, found {dtype_names(self.buffers)}; see buffers"
            )
        buffer: Array = self.arrays[0]
        return buffer

    @buffer.setter
    def buffer(self, value: Any) -> None:
        if len(self.arrays) != 1 or value is not self.arrays[0]:  # flat.buffer *= x ends by assigning the same array
            raise AttributeError("flat.buffer cannot be another array. To write into it: flat.buffer[...] = x")

    def zeros_like(self) -> "FlatDict":
        """Zeros in the same layout: for gradients, say."""
        return FlatDict(self.layout, self.memory)

    def copy(self) -> "FlatDict":
        """The same numbers in buffers of their own."""
        return self.copied_to(self.memory)

    def to_host(self) -> "FlatDict":
        """The same numbers in arrays of NumPy, after all that the GPU has been asked to do; a copy also on the CPU."""
        return self.copied_to(HOST)

    def moved(self, memory: Memory) -> "FlatDict":
        """These numbers in a memory: a copy, unless they are there."""
        return self if memory is self.memory else self.copied_to(memory)

    def copied_to(self, memory: Memory) -> "FlatDict":
        """A copy in a memory. On a GPU, all arrays lie in C order."""
        if memory is HOST or self.layout.is_in_order:
            other = FlatDict(self.layout, memory)
            for mine, copied in zip(self.arrays, other.arrays, strict=True):
                memory.write(copied, self.memory.read(mine))
            return other
        other = FlatDict(self.layout.in_order, memory)
        for name, array in self.items():
            copy_from(self.memory.read(array), other[name], memory)
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


def flatten(params: ByName, device: str = "cpu") -> FlatDict:
    """Copy a dict of float arrays, of any shape and order, into one flat buffer per dtype.

    The arrays of the result are C-contiguous views of its buffers. Have your layers use these: the arrays in `params`
    are left as they are.

    Args:
        params: from name to `numpy.ndarray`; or a list or tuple of arrays, whose names are their positions.
        device: "cpu", or "cuda" for buffers on the current GPU, whose views CuPy, torch and Numba take without a copy.

    Raises:
        TypeError: if `params` is no mapping, list or tuple, or a value is no `numpy.ndarray` of floats.
        ValueError: if the device is neither.
        RuntimeError: if "cuda" cannot be had; it says what is missing.
    """
    memory = memory_of(device)
    params = by_name(params, "params")
    for name, array in params.items():
        check_array(array, f"params[{name!r}]")
    kinds = {name: (storage_of(a.dtype).dtype, a.shape, tuple(range(a.ndim))) for name, a in params.items()}
    flat = FlatDict(Layout(kinds))
    for name, array in params.items():
        flat[name][...] = array
    return flat if memory is HOST else flat.copied_to(memory)


def extended(flat: FlatDict | None, like: Layout | None, kinds: Mapping[Any, Kind], memory: Memory) -> FlatDict:
    """A `FlatDict` that has arrays of these kinds: `flat` itself if it does, or else a new one with the same numbers.

    What is new in it is zero.

    Args:
        flat: what there is already, or None.
        like: the layout of the parameters, if they are flat: it is taken if it has the same arrays, so that one update
            can take both.
        kinds: dtype, shape and order of axes by name.
        memory: where the arrays are.

    Raises:
        ValueError: `flat` is in another memory.
    """
    if flat is not None and flat.memory is not memory:
        raise ValueError(
            f"the arrays are on {memory.name!r}, but the optimizer's averages or sums are on {flat.memory.name!r}: "
            f"opt.to({memory.name!r})"
        )
    known = {} if flat is None else flat.layout.kinds
    wanted = known | dict(kinds)
    if like is not None and like.kinds == wanted:
        layout = like
    elif flat is not None and wanted == known:
        layout = flat.layout
    else:
        layout = Layout(wanted, memory.alignment)
    if flat is not None and flat.layout is layout:
        return flat
    larger = FlatDict(layout, memory)
    if flat is not None:
        memory.copy((larger[name], array) for name, array in flat.items())
    return larger
