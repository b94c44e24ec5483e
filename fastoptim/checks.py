"""What `update` refuses. All of it is looked at before anything is written."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from fastoptim.buffers import Array, check_array

FLOATS = tuple(map(np.dtype, (np.float16, np.float32, np.float64)))
# np.shares_memory solves a hard problem for odd strides; past this many candidates the arrays count as sharing.
OVERLAP_WORK = 100_000


def check_mappings(params: Any, grads: Any) -> None:
    """Refuse what is no mapping, and gradients that lack a name.

    Raises:
        TypeError, KeyError
    """
    for mapping, what in (params, "params"), (grads, "grads"):
        if not isinstance(mapping, Mapping):
            raise TypeError(f"{what}: expected a mapping from name to array, got {type(mapping).__name__}")
    for name in params:
        if name not in grads:
            raise KeyError(
                f"grads has no {name!r}, which params has; its names are {', '.join(map(repr, grads)) or 'none'}"
            )


def check_params(names: Sequence[Any], params: Sequence[Any]) -> None:
    """Refuse parameters that cannot be updated in place.

    Raises:
        TypeError, ValueError
    """
    for name, param in zip(names, params, strict=True):
        what = f"params[{name!r}]"
        check_array(param, what)
        if not param.flags.writeable:
            raise ValueError(f"{what}: it is read-only, expected a writeable array, as it is updated in place")
        if _overlaps_itself(param):
            raise ValueError(
                f"{what}: some of its elements may share memory (strides {param.strides}, shape {param.shape})"
            )


def as_gradient(grad: Any, name: Any) -> Any:
    """The gradient as a NumPy array, without a copy: arrays of torch and JAX on the CPU.

    Raises:
        TypeError
    """
    if isinstance(grad, np.ndarray):
        return grad
    what = f"grads[{name!r}]: expected an array"
    if not _is_array(grad):
        raise TypeError(f"{what}, got {type(grad).__name__}")
    try:
        array = np.asarray(grad)
        if isinstance(grad, np.generic):  # the one thing that is copied all the same
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


def check_gradient(name: Any, grad: Array, param: Array) -> None:
    """Refuse a gradient that does not fit its parameter.

    Raises:
        TypeError, ValueError
    """
    what = f"grads[{name!r}]"
    if isinstance(grad, np.ma.MaskedArray) or grad.dtype not in FLOATS:
        kind = f"{type(grad).__name__} of " if isinstance(grad, np.ma.MaskedArray) else ""
        raise TypeError(f"{what}: expected an array of dtype float16, float32 or float64, got {kind}{grad.dtype!r}")
    check_gradient_shape(name, grad.shape, param.shape)


def check_gradient_shape(name: Any, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Refuse a gradient of another shape than its parameter's: nothing is broadcast.

    Raises:
        ValueError
    """
    if shape != expected:
        raise ValueError(f"grads[{name!r}]: expected the parameter's shape {expected}, got {shape}")


def on_device(array: Any) -> bool:
    """Whether an array, of whatever library, is on a GPU."""
    try:
        # the second is Numba's own mark, which its simulator sets, too
        return not isinstance(array, np.ndarray) and any(
            hasattr(array, mark) for mark in ("__cuda_array_interface__", "__cuda_ndarray__")
        )
    except RuntimeError:  # a tensor of torch that requires a gradient: it is, and refused when it is looked at
        return True


def check_overlaps(
    names: Sequence[Any], params: Sequence[Array], grads: Sequence[Array], zeroing: bool = False
) -> None:
    """Refuse parameters that share memory with each other, or with a gradient that is not the parameter itself.

    And where gradients are set to zero, those that share memory with anything at all.

    Raises:
        ValueError
    """
    arrays = [*((p, f"params[{name!r}]") for name, p in zip(names, params, strict=True)),
              *((g, f"grads[{name!r}]") for name, g in zip(names, grads, strict=True))]  # fmt: skip
    count = len(params)
    bounds = [byte_bounds(array) for array, _ in arrays]
    current: list[int] = []  # those that end after the place that the sweep has come to
    for i in sorted((i for i, (array, _) in enumerate(arrays) if array.size), key=lambda i: bounds[i]):
        current = [j for j in current if bounds[j][1] > bounds[i][0]]
        for j in current:
            first, second = min(i, j), max(i, j)
            own = second == first + count and _same_elements(grads[first], params[first])
            if not zeroing and (first >= count or own):
                continue
            if _share(arrays[first][0], arrays[second][0]):
                why = ", as gradients are set to zero" * zeroing
                raise ValueError(f"{arrays[first][1]} and {arrays[second][1]} share memory: expected arrays apart{why}")
        current.append(i)


def check_zeroed(names: Sequence[Any], grads: Sequence[Array]) -> None:
    """Refuse gradients that cannot be set to zero.

    Raises:
        ValueError
    """
    for name, grad in zip(names, grads, strict=True):
        what = f"grads[{name!r}]"
        if not grad.flags.writeable:
            raise ValueError(f"{what}: it is read-only, expected a writeable array, as zero_grads sets it to zero")
        if _overlaps_itself(grad):
            raise ValueError(f"{what}: some of its elements may share memory, and zero_grads sets them to zero")


def _same_elements(a: Array, b: Array) -> bool:
    steps = zip(a.shape, a.strides, b.strides, strict=True)  # of two arrays of one shape
    return a.dtype == b.dtype and a.ctypes.data == b.ctypes.data and all(n == 1 or one == two for n, one, two in steps)


def _share(a: Array, b: Array) -> bool:
    try:
        return np.shares_memory(a, b, max_work=OVERLAP_WORK)  # type: ignore[arg-type]  # NumPy's stub knows no limits
    except np.exceptions.TooHardError:
        return True


def _overlaps_itself(array: Array) -> bool:
    """Whether two of its indices may be one place in memory, as in a view made by broadcasting."""
    reach = array.itemsize
    for stride, size in sorted((abs(stride), size) for stride, size in zip(array.strides, array.shape, strict=True)):
        if size > 1:
            if stride < reach:
                return array.size > 0
            reach += stride * (size - 1)
    return False
