"""What an array on a GPU is, of any library: where its memory begins, its dtype, shape, stream and device."""

import math
from typing import Any, NamedTuple

import numpy as np

from fastoptim.kernels.cuda.driver import checked, driver
from fastoptim.kernels.cuda.memory import SIMULATED
from fastoptim.kernels.storage import EXPECTED, bfloat16, is_stored

BFLOAT16_BITS = np.dtype("V2")  # how libraries write bfloat16, of which the array interface knows nothing
INTERFACE = "__array_interface__" if SIMULATED else "__cuda_array_interface__"


class DeviceArray(NamedTuple):
    """What `__cuda_array_interface__` says of a contiguous array."""

    address: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    stream: int
    read_only: bool

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


def described(array: Any, name: str, *, is_number: bool = True) -> DeviceArray:
    """Where and what an array on a GPU is.

    Args:
        array: of any library.
        name: for errors.
        is_number: whether its dtype has to be one that kernels compute with.

    Raises:
        TypeError: if it is not on a GPU, not contiguous, or of another dtype than kernels take.
    """
    try:
        interface = getattr(array, INTERFACE, None)
    except RuntimeError as error:  # a tensor of torch that requires a gradient
        raise TypeError(f"{name}: {error}") from error
    if interface is None:
        raise TypeError(f"{name}: expected an array on a GPU, with {INTERFACE}, got {type(array).__name__}")
    dtype, shape, strides = np.dtype(interface["typestr"]), tuple(interface["shape"]), interface.get("strides")
    if dtype == BFLOAT16_BITS:
        dtype = bfloat16()
    if is_number and not is_stored(dtype):
        raise TypeError(f"{name}: expected dtype {EXPECTED}, got {dtype}")
    if strides is not None and math.prod(shape):
        dense = tuple(dtype.itemsize * math.prod(shape[i + 1 :]) for i in range(len(shape)))
        if any(n > 1 and stride != expected for n, stride, expected in zip(shape, strides, dense, strict=True)):
            raise TypeError(
                f"{name}: expected a C-contiguous array, as kernels on a GPU take no others; got shape {shape} with "
                f"strides {tuple(strides)} (bytes)"
            )
    address, read_only = interface["data"]
    return DeviceArray(address or 0, dtype, shape, interface.get("stream") or 0, read_only)


def pointer(array: Any) -> int:
    """The address alone, by the fastest way that the array's library offers."""
    if hasattr(array, "data_ptr"):  # torch
        return int(array.data_ptr())
    memory: Any = None if SIMULATED else getattr(array, "data", None)
    if hasattr(memory, "ptr"):  # CuPy
        return int(memory.ptr)
    return int(getattr(array, INTERFACE)["data"][0] or 0)


def device_of(address: int) -> int:
    """The number of the device whose memory is at an address.

    Raises:
        ValueError: if it is no memory of a GPU.
        RuntimeError: if the driver or a GPU is missing.
    """
    if SIMULATED:
        return 0
    api = driver()
    attribute = api.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    try:
        return int(checked(api.cuPointerGetAttribute(attribute, address)))
    except RuntimeError as error:
        raise ValueError(f"no memory of a GPU: {address:#x} ({error})") from None
