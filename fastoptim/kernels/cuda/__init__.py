"""Kernels for CUDA: everything that knows numba-cuda or NVIDIA's driver.

Nothing here is imported before it is asked for, as importing numba-cuda takes a second.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastoptim.kernels.cuda.elementwise import CudaKernels
    from fastoptim.kernels.cuda.report import Report, inspect

__all__ = ["CudaKernels", "Report", "inspect"]

MODULES = {"CudaKernels": "elementwise", "Report": "report", "inspect": "report"}


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
