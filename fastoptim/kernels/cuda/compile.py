"""Compiles a Python function to machine code for a GPU. No GPU and no driver are needed.

NVVM compiles a kernel to the linker's intermediate code, and nvJitLink turns that into machine code. This way is
needed because only nvJitLink can be told not to fuse multiply-add: `numba.cuda.jit` has no such option, and contracts.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import Any, NamedTuple

from fastoptim.kernels.cuda.driver import INSTALL, numba_cuda

EXACT = ("-fma=0", "-ftz=0", "-prec-div=1", "-prec-sqrt=1")


class Code(NamedTuple):
    """A compiled kernel.

    Attributes:
        name: of the kernel in its machine code.
        cubin: the machine code.
        log: the linker's messages.
        ptx: the code for NVIDIA's virtual machine.
    """

    name: str
    cubin: bytes
    log: str
    ptx: str


class Source(NamedTuple):
    """A kernel as a Python function, and what its machine code has to keep to.

    Attributes:
        function: of Python.
        signature: the numba types of its arguments.
        loads, stores: the bytes of each vector that it has to load, and to store, at least.
        float64: the operations with float64 that a kernel for float32 may have, as PTX names them; None for all.
        fma: how many fused multiply-adds it asks for by name.
    """

    function: Callable[..., None]
    signature: tuple[Any, ...]
    loads: Sequence[int] = ()
    stores: Sequence[int] = ()
    float64: tuple[str, ...] | None = ()
    fma: int = 0


def compile_kernel(function: Callable[..., None], signature: tuple[Any, ...], cc: tuple[int, int]) -> Code:
    """Compile a kernel for numba types and a compute capability: IEEE arithmetic, nothing contracted.

    Raises:
        numba.core.errors.TypingError: if the function cannot be compiled.
        RuntimeError: if a part of the CUDA toolkit is not installed, or Numba's simulator takes the compiler's place.
    """
    if numba_cuda().config.ENABLE_CUDASIM:
        raise RuntimeError("numba's simulator is on, which compiles nothing: unset NUMBA_ENABLE_CUDASIM")
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
    """Let numba-cuda compile without a device.

    It compiles the functions that a kernel calls for the current device, of which it asks the compute capability alone.
    """
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
    # `cuda.core.Linker` cannot be used: it writes -fma=false, which NVVM refuses.
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
        kind = "ptx" if "-ptx" in options else "cubin"
        linked = bytearray(getattr(api, f"get_linked_{kind}_size")(handle))
        getattr(api, f"get_linked_{kind}")(handle, linked)
        log = bytearray(api.get_info_log_size(handle))
        api.get_info_log(handle, log)
        return bytes(linked), log.decode(errors="replace")
    finally:
        api.destroy(handle)
