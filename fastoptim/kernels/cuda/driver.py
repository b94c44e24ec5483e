"""What has to be installed before a GPU can be used: numba-cuda, NVIDIA's driver, and the GPU itself.

This module is imported with the package: it imports numba-cuda and the driver's bindings when they are asked for.
"""

from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any

INSTALL = "pip install 'fastoptim[cuda12]' or 'fastoptim[cuda13]', as nvidia-smi names your driver's CUDA version"
PACKAGES = ("numba-cuda", "cuda-bindings", "nvidia-nvjitlink", "nvidia-nvjitlink-cu12", "nvidia-cuda-nvdisasm")


@cache
def numba_cuda() -> Any:
    """The module `numba.cuda` of the package numba-cuda.

    Raises:
        RuntimeError: if numba-cuda is not installed. The deprecated `numba.cuda` of Numba itself does not count.
    """
    _require_package()
    try:
        return import_module("numba.cuda")
    except ImportError as error:
        raise RuntimeError(f"numba-cuda cannot be imported ({error}): {INSTALL}") from error


@cache
def driver() -> Any:
    """NVIDIA's driver API, initialised.

    Raises:
        RuntimeError: if numba-cuda, the driver or a GPU is missing.
    """
    _require_package()
    try:
        api = import_module("cuda.bindings.driver")
        status = api.cuInit(0)[0]
    except Exception as error:  # the exception for a missing libcuda differs between releases
        raise RuntimeError(
            "no NVIDIA driver found: arrays on a GPU need one. Install NVIDIA's driver; nvidia-smi should then list "
            'the GPU. Without a GPU, use device="cpu"'
        ) from error
    if status:
        raise RuntimeError(
            f"no NVIDIA GPU found: the driver answers {status.name}. nvidia-smi should list the GPU, and "
            'CUDA_VISIBLE_DEVICES must not hide it. Without a GPU, use device="cpu"'
        )
    return api


def require() -> None:
    """Check that arrays on a GPU can be made. Numba's simulator passes, with no GPU.

    Raises:
        RuntimeError: naming what is missing (the package, the driver or a GPU) and what to do about it.
    """
    if not numba_cuda().config.ENABLE_CUDASIM:
        driver()


def checked(result: tuple[Any, ...]) -> Any:
    """What a call of the driver returned besides its status.

    Raises:
        RuntimeError: if the status is an error.
    """
    status, *values = result
    if status:
        raise RuntimeError(f"CUDA driver: {status.name}")
    return values[0] if len(values) == 1 else tuple(values)


def capability(device: int) -> tuple[int, int]:
    """The compute capability of a device, which says what code it runs."""
    api = driver()
    names = ("CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR", "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR")
    major, minor = (
        int(checked(api.cuDeviceGetAttribute(getattr(api.CUdevice_attribute, name), device))) for name in names
    )
    return major, minor


def cuda_info() -> dict[str, Any]:
    """Which driver, GPUs and packages there are. Never raises: `problem` says why no GPU can be used, or is None."""
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    info: dict[str, Any] = {"extra": find_spec("numba_cuda") is not None, "packages": versions}
    info |= {"driver": None, "devices": [], "problem": None}
    try:
        api = driver()
        version = checked(api.cuDriverGetVersion())
        info["driver"] = f"{version // 1000}.{version % 1000 // 10}"
        for device in range(checked(api.cuDeviceGetCount())):
            name = checked(api.cuDeviceGetName(128, device)).split(b"\0")[0].decode()
            memory = checked(api.cuDeviceTotalMem(device))
            info["devices"].append({"name": name, "compute_capability": capability(device), "memory": memory})
    except Exception as error:
        info["problem"] = str(error) or repr(error)
    return info


def _require_package() -> None:
    if find_spec("numba_cuda") is None:
        raise RuntimeError(f"arrays on a GPU need numba-cuda, which is not installed: {INSTALL}")
