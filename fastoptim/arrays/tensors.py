"""Tensors of other libraries in the host's memory, as arrays of NumPy that share it."""

import sys
from typing import Any

import numpy as np

from fastoptim.arrays.memory import Array
from fastoptim.kernels.storage import bfloat16


def from_dlpack(tensor: Any) -> Array:
    """An array of NumPy in the memory of a tensor on the CPU, of torch or any library that has DLPack.

    `np.from_dlpack` does the same, but refuses bfloat16, which NumPy has no dtype for: here it is that of the package
    ml_dtypes. So a module's parameters can be updated where they are: `{name: fastoptim.from_dlpack(p.detach())
    for name, p in module.named_parameters()}`.

    Raises:
        RuntimeError: it is of bfloat16, and ml_dtypes is not installed.
        TypeError, BufferError: it is no tensor, or not on the CPU; as NumPy says.
    """
    return of_torch_bfloat16(tensor) if is_torch_bfloat16(tensor) else np.from_dlpack(tensor)


def is_torch_bfloat16(tensor: Any) -> bool:
    """Whether it is a tensor of torch whose dtype NumPy lacks."""
    return str(getattr(tensor, "dtype", "")) == "torch.bfloat16"


def of_torch_bfloat16(tensor: Any) -> Array:
    """Such a tensor's memory as an array."""
    torch = sys.modules["torch"]
    return np.asarray(tensor.view(torch.int16)).view(bfloat16())
