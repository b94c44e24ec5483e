"""`numba.njit` as all kernels use it."""

from typing import Any

from numba import njit


def compiled(function: Any = None, **options: Any) -> Any:
    """Compile with IEEE arithmetic and no branch at a division, without the GIL, into numba's cache if there is one."""
    if function is None:
        return lambda function: compiled(function, **options)
    options = {"nogil": True, "error_model": "numpy", **options}
    try:
        return njit(function, cache=True, **options)
    except RuntimeError:  # neither the package's folder nor the user's cache folder can be written
        return njit(function, **options)
