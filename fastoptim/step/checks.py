"""What `update` refuses. All of it is looked at before anything is written."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastoptim.arrays.devices import info_of
from fastoptim.arrays.info import TensorInfo, check_array, conversion, host_info, on_gpu
from fastoptim.arrays.named import check_mapping
from fastoptim.arrays.overlap import overlaps_itself
from fastoptim.arrays.tensors import is_torch_bfloat16, of_torch_bfloat16
from fastoptim.kernels.storage import EXPECTED, FLOAT64, computed_in, is_stored


def check_names(params: Any, grads: Any) -> None:
    """Refuse what is no mapping, and gradients that lack a name.

    Raises:
        TypeError, KeyError
    """
    check_mapping(params, "params")
    check_mapping(grads, "grads")
    for name in params:
        if name not in grads:
            raise KeyError(
                f"grads has no {name!r}, which params has; its names are {', '.join(map(repr, grads)) or 'none'}"
            )


def as_param(param: Any, name: Any) -> Any:
    """A parameter on the host as a plain array of NumPy: a subclass may return copies where views are expected.

    Raises:
        TypeError: it is no array, or has no float dtype.
    """
    check_array(param, f"params[{name!r}]")
    return np.asarray(param)


def as_gradient(grad: Any, name: Any) -> Any:
    """A gradient on the host as an array of NumPy, without a copy: also arrays of torch and JAX on the CPU.

    Raises:
        TypeError
    """
    what = f"grads[{name!r}]: expected an array"
    if isinstance(grad, np.ma.MaskedArray):
        raise TypeError(f"{what} of dtype {EXPECTED}, got MaskedArray of {grad.dtype!r}")
    if isinstance(grad, np.ndarray):
        return np.asarray(grad)
    if not _is_array(grad):
        hint = "; pass np.asarray(x)" if isinstance(grad, int | float) else ""
        hint = "; for some rows, pass fastoptim.Rows(indices, values)" if isinstance(grad, tuple) else hint
        raise TypeError(f"{what}, got {type(grad).__name__}{hint}")
    try:
        array = _as_array(grad)
        if isinstance(grad, np.generic) or not _is_shared(grad, array):  # then writing to it would not reach the owner
            array.flags.writeable = False
        return array
    except Exception as error:  # what an array library says of its own kind of array
        raise TypeError(f"{what} that NumPy can read, got {type(grad).__name__}: {error}") from error


def _is_array(value: Any) -> bool:
    """Whether NumPy finds numbers in memory there: an array interface or a buffer, and not a list to copy."""
    if hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
        return True
    try:
        memoryview(value)
    except TypeError:
        return False
    return True


def _as_array(tensor: Any) -> Any:
    return of_torch_bfloat16(tensor) if is_torch_bfloat16(tensor) else np.asarray(tensor)


def _is_shared(owner: Any, array: Any) -> bool:
    """Whether an array made of an object is the object's own memory: asked again, a copy lies somewhere else."""
    again = _as_array(owner)
    return bool(again.ctypes.data == array.ctypes.data)


def infos_of(
    names: Sequence[Any], params: Sequence[Any], grads: Sequence[Any]
) -> tuple[list[TensorInfo], list[TensorInfo]]:
    """What parameters and gradients are, on one device.

    Raises:
        TypeError, ValueError: an array cannot be updated in place, or does not fit its parameter.
    """
    there = any(map(on_gpu, (*params, *grads)))
    own, given = [], []
    for name, param in zip(names, params, strict=True):
        what = f"params[{name!r}]"
        if there and not on_gpu(param):
            raise TypeError(f"{what}: expected all arrays on one GPU, as others are; got {type(param).__name__}")
        info = info_of(param, what)
        if not info.is_writeable:
            raise ValueError(f"{what}: it is read-only, expected a writeable array, as it is updated in place")
        if overlaps_itself(info):
            raise ValueError(
                f"{what}: some of its elements may share memory (strides {info.strides}, shape {info.shape})"
            )
        own.append(info)
    for name, grad, param in zip(names, grads, own, strict=True):
        what = f"grads[{name!r}]"
        if there and not on_gpu(grad):
            raise TypeError(f"{what}: expected all arrays on one GPU, as others are; got {type(grad).__name__}")
        info = info_of(grad, what) if there else host_info(grad)
        if there and computed_in(info.dtype) != computed_in(param.dtype):
            expected = "float64" if param.dtype == FLOAT64.dtype else "float32 or less bits"
            raise TypeError(
                f"{what}: expected {expected}, as its parameter is {param.dtype} and on a GPU; got {info.dtype}"
            )
        if not is_stored(info.dtype):
            expected = f"{what}: expected an array of dtype {EXPECTED}"
            raise TypeError(f"{expected}, got {info.dtype!r}{conversion(info.dtype)}")
        if info.shape != param.shape:
            raise ValueError(
                f"{what}: expected the parameter's shape {param.shape}, got {info.shape}{_reshaping(info, param)}"
            )
        given.append(info)
    if there:
        _check_on_one_gpu([*((f"params[{name!r}]", info) for name, info in zip(names, own, strict=True)),
                           *((f"grads[{name!r}]", info) for name, info in zip(names, given, strict=True))])  # fmt: skip
    return own, given


def _reshaping(grad: TensorInfo, param: TensorInfo) -> str:
    """A clause that says how to get the parameter's shape, where they differ in axes of length 1 alone."""
    long = [[size for size in info.shape if size != 1] for info in (grad, param)]
    return f"; .reshape({param.shape}) makes it fit" if long[0] == long[1] else ""


def _check_on_one_gpu(infos: Sequence[tuple[str, TensorInfo]]) -> None:
    devices = {info.device: label for label, info in infos if info.size}
    if len(devices) > 1:
        where = " and ".join(f"{label} on GPU {device}" for device, label in devices.items())
        raise ValueError(f"expected all arrays on one GPU, got {where}")
    for label, info in infos:
        if not info.is_aligned:
            size = info.dtype.itemsize
            raise ValueError(f"{label}: expected an address that is a multiple of {size}, got {info.address:#x}")


def shadows_of(shadow: Any, names: Sequence[Any], params: Sequence[TensorInfo]) -> list[TensorInfo]:
    """What the arrays are that new parameters are rounded to: where these are, on the host or on a GPU.

    Raises:
        KeyError, TypeError, ValueError: one is missing, or kernels cannot write to it.
    """
    check_mapping(shadow, "shadow")
    found = []
    for name, param in zip(names, params, strict=True):
        what = f"shadow[{name!r}]"
        if name not in shadow:
            raise KeyError(f"shadow has no {name!r}, which params has; its names are {', '.join(map(repr, shadow))}")
        there = param.device is not None
        if there != on_gpu(shadow[name]):
            raise TypeError(f"{what}: expected an array on the {'GPU' if there else 'CPU'}, as its parameter is")
        info = info_of(shadow[name], what)
        check_like(info._replace(dtype=param.dtype), what, param.dtype, param.shape)
        if info.size and info.device != param.device:
            raise ValueError(f"{what}: expected it on GPU {param.device}, as its parameter, got GPU {info.device}")
        if computed_in(info.dtype) != computed_in(param.dtype):
            raise TypeError(
                f"{what}: expected float32 or less bits, as its parameter is {param.dtype}, got {info.dtype}"
            )
        if not info.is_aligned:
            raise ValueError(f"{what}: expected an address that is a multiple of {info.dtype.itemsize}")
        if overlaps_itself(info):
            raise ValueError(f"{what}: some of its elements may share memory (strides {info.strides})")
        found.append(info)
    return found


def check_zeroed(names: Sequence[Any], grads: Sequence[TensorInfo]) -> None:
    """Refuse gradients that cannot be set to zero.

    Raises:
        ValueError
    """
    for name, grad in zip(names, grads, strict=True):
        what = f"grads[{name!r}]"
        if not grad.is_writeable:
            raise ValueError(f"{what}: it is read-only, expected a writeable array, as zero_grads sets it to zero")
        if overlaps_itself(grad):
            raise ValueError(f"{what}: some of its elements may share memory, and zero_grads sets them to zero")


def check_like(info: TensorInfo, what: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Refuse an array that is not of the dtype and shape that it had.

    Raises:
        TypeError, ValueError
    """
    if info.dtype != dtype:
        raise TypeError(f"{what}: expected dtype {dtype}, as it had, got {info.dtype}")
    if info.shape != shape:
        raise ValueError(f"{what}: expected shape {shape}, as it had, got {info.shape}")
    if not info.is_writeable:
        raise ValueError(f"{what}: it is read-only, expected a writeable array, as it is updated in place")
