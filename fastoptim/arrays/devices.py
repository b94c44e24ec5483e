"""The host or a GPU: what an array is, wherever it is, and where the arrays of a device are."""

from typing import Any

from fastoptim.arrays.info import TensorInfo, check_array, host_info, on_gpu
from fastoptim.arrays.memory import HOST, Memory


def info_of(array: Any, what: str) -> TensorInfo:
    """What a parameter is.

    Raises:
        TypeError: it is no array, or has no float dtype.
    """
    if on_gpu(array):
        from fastoptim.arrays.gpu import gpu_info  # needs the package numba-cuda

        return gpu_info(array, what)
    check_array(array, what)
    return host_info(array)


def memory_of(device: str) -> Memory:
    """Where the arrays of a device are.

    Raises:
        ValueError: if the device is neither "cpu" nor "cuda".
        RuntimeError: if "cuda" cannot be had; it says what is missing.
    """
    if device == "cpu":
        return HOST
    if device == "cuda":
        from fastoptim.arrays.gpu import gpu_memory  # needs the package numba-cuda

        return gpu_memory()
    raise ValueError(f"device: expected 'cpu' or 'cuda', got {device!r}")
