"""Reads a kernel's machine code: what the compiler made of a rule, and whether that keeps the promises."""

import re
import subprocess
import tempfile
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from fastoptim.kernels.cuda.compile import Code, compile_kernel
from fastoptim.kernels.cuda.loops import build
from fastoptim.kernels.fuse import NOTHING, Fused, signature
from fastoptim.kernels.storage import storage_of


class Report(NamedTuple):
    """What the compiler made of a kernel.

    Attributes:
        element: float32 or float64.
        accesses: how many vectors of elements it has to load, and to store.
        ptx: its code for NVIDIA's virtual machine.
        sass: its machine code, or None if nvdisasm (`pip install nvidia-cuda-nvdisasm`) is not installed.
        registers: of one thread.
        stack: bytes of local memory of one thread.
        spills: bytes of registers that are moved to local memory and back.
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


def inspect(
    optimizer: Any, dtype: Any = np.float32, cc: tuple[int, int] = (9, 0), *, slots: int = 0, many: bool = False,
    on_device: bool = False, fused: Fused = NOTHING,
) -> Report:  # fmt: skip
    """Compile a rule for a compute capability and report on the code. Neither a GPU nor a driver is needed.

    Args:
        optimizer: a subclass of `Optimizer`, or a rule.
        dtype: float32 or float64.
        cc: the compute capability, (major, minor).
        slots: of a rule, how many slots of state it has.
        many: the kernel for a dict of arrays; otherwise that for a flat buffer.
        on_device: the kernel of `capturable=True`.
        fused: the options that are fused around the rule.

    Raises:
        TypeError: if the dtype is another.
        numba.core.errors.TypingError: if the rule cannot be compiled or does not keep the dtype.
        RuntimeError: if a part of the CUDA toolkit is not installed, or Numba's simulator takes the compiler's place.
    """
    rule = getattr(optimizer, "rule", optimizer)
    slots = len(getattr(optimizer, "slots", range(slots)))
    storage = storage_of(dtype)
    others = len(signature(rule, slots, fused).slots)
    kernel = build(rule, slots, fused, (storage,) * (2 + others), many, on_device)
    return report(compile_kernel(*kernel, cc), storage.dtype.name, (2 + others, 1 + others + fused.zero_grads))


def report(code: Code, element: str, accesses: tuple[int, int]) -> Report:
    """Read the code of a kernel for elements of a dtype."""
    numbers = [
        sum(int(n) for n in re.findall(pattern, code.log))
        for pattern in (r"Used (\d+) registers", r"(\d+) bytes stack frame", r"(\d+) bytes spill")
    ]
    return Report(element, accesses, code.ptx, _disassemble(code.cubin), *numbers)


def _disassemble(cubin: bytes) -> str | None:
    path = import_module("cuda.pathfinder").find_nvidia_binary_utility("nvdisasm")
    if path is None:
        return None
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run([path, "-c", "-ndf", file.name], check=True, capture_output=True, text=True).stdout
