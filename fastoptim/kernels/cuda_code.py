"""From a Python function to machine code for a GPU, with none at hand, and what that code has in it.

NVVM compiles a kernel to the linker's own code, and nvJitLink makes machine code of it, because that is where fused
multiply-add can be forbidden: `numba.cuda.jit` has no such option, and contracts.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, NamedTuple

INSTALL = "pip install 'fastoptim[cuda12]' or 'fastoptim[cuda13]', as nvidia-smi names your driver's CUDA version"
PACKAGES = ("numba-cuda", "cuda-bindings", "nvidia-nvjitlink", "nvidia-nvjitlink-cu12", "nvidia-cuda-nvdisasm")
EXACT = ("-fma=0", "-ftz=0", "-prec-div=1", "-prec-sqrt=1")


@cache
def numba_cuda() -> Any:
    """The module `numba.cuda` of the package numba-cuda.

    Raises:
        RuntimeError: if it is not installed: numba's own, deprecated one is another.
    """
    if find_spec("numba_cuda") is None:
        raise RuntimeError(f"arrays on a GPU need numba-cuda, which is not installed: {INSTALL}")
    try:
        return import_module("numba.cuda")
    except ImportError as error:
        raise RuntimeError(f"numba-cuda cannot be imported ({error}): {INSTALL}") from error


@cache
def driver() -> Any:
    """NVIDIA's driver API, initialised.

    Raises:
        RuntimeError: if numba-cuda is not installed, or there is no driver or no GPU.
    """
    numba_cuda()
    try:
        api = import_module("cuda.bindings.driver")
        status = api.cuInit(0)[0]
    except Exception as error:  # what is raised where libcuda is missing differs between releases
        raise RuntimeError("no NVIDIA driver found: arrays on a GPU need one (see nvidia-smi)") from error
    if status:
        raise RuntimeError(f"no NVIDIA GPU found: the driver answers {status.name}")
    return api


def checked(result: tuple[Any, ...]) -> Any:
    """What a call of the driver returned besides its status."""
    status, *values = result
    if status:
        raise RuntimeError(f"CUDA driver: {status.name}")
    return values[0] if len(values) == 1 else tuple(values)


def cuda_info() -> dict[str, Any]:
    """Which driver, GPUs and packages there are. Never raises: `problem` says why no GPU can be used, or is None."""
    from importlib import metadata  # takes longer to import than all else here

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


def capability(device: int) -> tuple[int, int]:
    """The compute capability of a device, which says what code it runs."""
    api = driver()
    names = ("CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR", "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR")
    major, minor = (
        int(checked(api.cuDeviceGetAttribute(getattr(api.CUdevice_attribute, name), device))) for name in names
    )
    return major, minor


class Code(NamedTuple):
    """A kernel's machine code, its name in there, and what the linker had to say."""

    name: str
    cubin: bytes
    log: str
    ptx: str


def compile_kernel(function: Callable[..., None], signature: tuple[Any, ...], cc: tuple[int, int]) -> Code:
    """Compile a kernel for numba types and a compute capability: IEEE arithmetic, nothing contracted."""
    with _no_device_needed(cc):
        code, _ = numba_cuda().compile(function, signature, device=False, abi="numba", output="ltoir", cc=cc)
    options = (f"-arch=sm_{cc[0]}{cc[1]}", "-lto", *EXACT)
    ptx = _link(code, *options, "-ptx")[0].rstrip(b"\0").decode()
    cubin, log = _link(code, *options, "-Xptxas=-v")
    name = re.search(r"\.entry\s+(\w+)", ptx)
    assert name is not None
    return Code(name[1], cubin, log, ptx)


@contextmanager
def _no_device_needed(cc: tuple[int, int]) -> Iterator[None]:
    """Functions that a kernel calls are compiled for "the current device", which is asked for nothing but this."""
    numba_cuda()
    dispatcher: Any = import_module("numba.cuda.dispatcher")
    with import_module("numba.cuda.core.compiler_lock").global_compiler_lock:
        current = dispatcher.get_current_device
        dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=cc)
        try:
            yield
        finally:
            dispatcher.get_current_device = current


def _link(code: bytes, *options: str) -> tuple[bytes, str]:
    # Not `cuda.core.Linker`: it writes -fma=false, which NVVM refuses.
    try:
        api = import_module("cuda.bindings.nvjitlink")
        handle = api.create(len(options), list(options))
    except Exception as error:
        raise RuntimeError(f"nvJitLink, a part of the CUDA toolkit, cannot be used ({error}): {INSTALL}") from error
    try:
        try:
            api.add_data(handle, api.InputType.LTOIR, code, len(code), "fastoptim")
            api.complete(handle)
        except Exception as error:
            log = bytearray(api.get_error_log_size(handle))
            api.get_error_log(handle, log)
            raise RuntimeError(f"nvJitLink: {error}: {log.decode(errors='replace')}") from error
        what = "ptx" if "-ptx" in options else "cubin"
        linked = bytearray(getattr(api, f"get_linked_{what}_size")(handle))
        getattr(api, f"get_linked_{what}")(handle, linked)
        log = bytearray(api.get_info_log_size(handle))
        api.get_info_log(handle, log)
        return bytes(linked), log.decode(errors="replace")
    finally:
        api.destroy(handle)


class Report(NamedTuple):
    """What became of a kernel.

    Attributes:
        element: float32 or float64.
        accesses: how many vectors of elements it has to load, and to store.
        ptx: its code for NVIDIA's virtual machine.
        sass: its machine code, or None where nvdisasm (`pip install nvidia-cuda-nvdisasm`) is not installed.
        registers: how many a thread has.
        stack, spills: bytes of local memory for a thread, and of registers moved to it and back.
    """

    element: str
    accesses: tuple[int, int]
    ptx: str
    sass: str | None
    registers: int
    stack: int
    spills: int

    def violations(self) -> list[str]:
        """What breaks the promises of speed and of the CPU's bits; empty if nothing does."""
        bits, lanes = ("32", "4") if self.element == "float32" else ("64", "2")
        other = "64" if bits == "32" else "32"
        found = [
            f"{what}: {match[0].strip()}"
            for what, pattern, text in [
                (f"float{other} in a {self.element} kernel", rf"\.f{other}\b.*", self.ptx),
                ("fused multiply-add", r"\b(fma|mad)\.[^su]*f(32|64)\b.*", self.ptx),
                ("may be fused", r"\b(add|sub|mul)(\.ftz)?\.f(32|64)\b.*", self.ptx),
                ("not IEEE", r"\b\w+\.(approx|full)\b.*|\b\w[\w.]*\.ftz\b.*", self.ptx),
                ("local memory", r"\.local\b.*", self.ptx),
                ("a call", r"\bcall\b.*", self.ptx),
                ("local memory", r"\b(LDL|STL)\b.*", self.sass or ""),
                ("float64 in a float32 kernel", r"\bD(ADD|MUL|FMA|SETP)\b.*", (bits == "32" and self.sass) or ""),
            ]
            if (match := re.search(pattern, text))
        ]
        wide = [
            (f"ld.global.v{lanes}", rf"\bld\.global(\.\w+)?\.v{lanes}\.[fub]{bits}\b", self.ptx),
            (f"st.global.v{lanes}", rf"\bst\.global(\.\w+)?\.v{lanes}\.[fub]{bits}\b", self.ptx),
            ("LDG.E.128", r"\bLDG\.E\.[\w.]*128\b", self.sass),
            ("STG.E.128", r"\bSTG\.E\.[\w.]*128\b", self.sass),
        ]
        for (name, pattern, code), expected in zip(wide, self.accesses * 2, strict=True):
            count = expected if code is None else len(re.findall(pattern, code))
            if count < expected:
                found.append(f"{name}: expected {expected} times, found {count}")
        found += [f"{name}: {n} bytes" for name, n in (("stack", self.stack), ("spills", self.spills)) if n]
        return found


def report(code: Code, element: str, accesses: tuple[int, int]) -> Report:
    """Read the code of a kernel for elements of a dtype."""
    numbers = [
        sum(int(n) for n in re.findall(pattern, code.log))
        for pattern in (r"Used (\d+) registers", r"(\d+) bytes stack frame", r"(\d+) bytes spill")
    ]
    return Report(element, accesses, code.ptx, _disassemble(code.cubin), *numbers)


def _disassemble(cubin: bytes) -> str | None:
    import subprocess
    import tempfile

    path = import_module("cuda.pathfinder").find_nvidia_binary_utility("nvdisasm")
    if path is None:
        return None
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run([path, "-c", "-ndf", file.name], check=True, capture_output=True, text=True).stdout
