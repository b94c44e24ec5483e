"""What an array is: one description for arrays of NumPy and for those on a GPU, of whatever library."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fastoptim.arrays.memory import Array
from fastoptim.kernels.storage import EXPECTED, computed_in, is_stored

NUMBERS = (int, float, np.generic)


class TensorInfo(NamedTuple):
    """Where and what an array is.

    Attributes:
        address: of the element at index 0.
        dtype, shape: the array's.
        strides: bytes from one index to the next, for each axis.
        is_writeable: whether it may be written to.
        device: the number of the GPU that it is on, None on the host.
        stream: on a GPU, the address of the stream that its library works on, or 0.
    """

    address: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    is_writeable: bool = True
    device: int | None = None
    stream: int = 0

    @property
    def size(self) -> int:
        """How many elements there are."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of all elements."""
        return self.size * self.dtype.itemsize

    @property
    def is_aligned(self) -> bool:
        """Whether all elements lie at multiples of their size."""
        itemsize = self.dtype.itemsize
        steps = (stride for stride, size in zip(self.strides, self.shape, strict=True) if size > 1)
        return not self.size or not (self.address % itemsize or any(step % itemsize for step in steps))

    @property
    def extent(self) -> tuple[int, int]:
        """The address of the first byte, and that behind the last one."""
        if not self.size:
            return self.address, self.address
        spans = [(size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True)]
        low, high = sum(span for span in spans if span < 0), sum(span for span in spans if span > 0)
        return self.address + low, self.address + high + self.dtype.itemsize

    def is_dense(self, axes: tuple[int, ...]) -> bool:
        """Whether it is contiguous with its axes in this order, the slowest first."""
        expected = self.dtype.itemsize
        if not self.size:
            return True
        for axis in reversed(axes):
            if self.shape[axis] > 1 and self.strides[axis] != expected:
                return False
            expected *= self.shape[axis]
        return True

    def of_dtype(self, dtype: np.dtype[Any]) -> "TensorInfo":
        """What an array of another dtype is whose elements lie in the same order, with the same gaps."""
        before, after = self.dtype.itemsize, dtype.itemsize
        return self._replace(dtype=dtype, strides=tuple(stride * after // before for stride in self.strides))

    @property
    def as_computed(self) -> "TensorInfo":
        """The same in the dtype in which such parameters are updated."""
        return self.of_dtype(computed_in(self.dtype))

    @property
    def is_half(self) -> bool:
        """Whether it has less bits than that."""
        return computed_in(self.dtype) != self.dtype

    def has_elements_of(self, other: "TensorInfo") -> bool:
        """Whether both, of one shape, are the same elements."""
        steps = zip(self.shape, self.strides, other.strides, strict=True)
        same = (self.dtype, self.address) == (other.dtype, other.address)
        return same and all(size == 1 or own == theirs for size, own, theirs in steps)


def in_c_order(dtype: np.dtype[Any], shape: tuple[int, ...]) -> TensorInfo:
    """What a C-contiguous array is, wherever it may be."""
    strides, step = [], dtype.itemsize
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return TensorInfo(0, dtype, shape, tuple(reversed(strides)))


def on_gpu(array: Any) -> bool:
    """Whether an array, of whatever library, is on a GPU."""
    if isinstance(array, np.ndarray):
        return False
    try:
        # the second is Numba's own mark, which its simulator sets, too
        return hasattr(array, "__cuda_array_interface__") or hasattr(array, "__cuda_ndarray__")
    except RuntimeError:  # a tensor of torch that requires a gradient: it is, and is refused when it is looked at
        return True


def host_info(array: Array) -> TensorInfo:
    """What an array of NumPy is."""
    return TensorInfo(array.ctypes.data, array.dtype, array.shape, array.strides, array.flags.writeable)


def check_array(array: Any, what: str) -> None:
    """Refuse anything but a `numpy.ndarray` of floats, of 16 bits or more, in the machine's byte order.

    Raises:
        TypeError
    """
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{what}: expected a numpy.ndarray, got {type(array).__name__}{_instead_of(array)}")
    if not is_stored(array.dtype):
        raise TypeError(f"{what}: expected dtype {EXPECTED}, got {array.dtype!r}{conversion(array.dtype)}")


def _instead_of(value: Any) -> str:
    """A clause that says what to give instead of something that is no array of NumPy; empty where that is not clear."""
    if isinstance(value, NUMBERS):
        return "; numbers are immutable: pass np.array(x)"
    if isinstance(value, Mapping):
        return "; nested mappings are not supported: put all arrays into one, as {'layer1.W': W}"
    if hasattr(value, "detach"):
        return "; .detach().numpy() gives one that shares the tensor's memory"
    if hasattr(value, "__array__") and not isinstance(value, np.ndarray):
        return "; np.array(x) makes a copy that can be updated in place"
    return ""


def conversion(dtype: np.dtype[Any]) -> str:
    """A clause that says how to get floats from numbers of another dtype; empty where there is no way."""
    return "; .astype(np.float32) converts it" if dtype.kind in "biuf" else ""


def dtype_names(dtypes: Any) -> str:
    """Dtypes in words."""
    return " or ".join(map(str, dtypes)) or "none"
