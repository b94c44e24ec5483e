"""Reads a kernel's machine code: what the compiler made of a rule, and whether that keeps the promises."""

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from fastoptim.kernels import Kernels
from fastoptim.kernels.cuda.compile import Code, Source, compile_kernel
from fastoptim.kernels.fuse import NOTHING, Fused
from fastoptim.kernels.stages import Elementwise
from fastoptim.kernels.storage import COMPUTED, Storage, as_it_is
from fastoptim.kernels.table import PARAM

FUSED = r"\b(?:fma|mad)\.[^su]*f(?:32|64)\b.*"


class Report(NamedTuple):
    """What the compiler made of a kernel.

    Attributes:
        element: float32 or float64.
        source: the kernel, and what it has to keep to.
        ptx: its code for NVIDIA's virtual machine.
        sass: its machine code, or None if nvdisasm (`pip install nvidia-cuda-nvdisasm`) is not installed.
        registers: of one thread.
        stack: bytes of local memory of one thread.
        spills: bytes of registers that are moved to local memory and back.
    """

    element: str
    source: Source
    ptx: str
    sass: str | None
    registers: int
    stack: int
    spills: int

    def violations(self) -> list[str]:
        """What breaks the promises of speed and of the CPU's bits; empty if nothing does."""
        other, ptx, sass = _other_dtype("32" if self.element == "float32" else "64", self.source.float64)
        found = [
            f"{what}: {match[0].strip()}"
            for what, pattern, text in [
                (f"float{other} in a {self.element} kernel", ptx, self.ptx),
                ("fused multiply-add", FUSED if self.source.fma == 0 else r"(?!)", self.ptx),
                ("may be fused", r"\b(add|sub|mul)(\.ftz)?\.f(32|64)\b.*", self.ptx),
                ("not IEEE", r"\b\w+\.(approx|full)\b.*|\b\w[\w.]*\.ftz\b.*", self.ptx),
                ("local memory", r"\.local\b.*", self.ptx),
                ("a call", r"\bcall\b.*", self.ptx),
                ("local memory", r"\b(LDL|STL)\b.*", self.sass or ""),
                ("float64 in a float32 kernel", sass, self.sass or ""),
            ]
            if (match := re.search(pattern, text))
        ]
        if (count := len(re.findall(FUSED, self.ptx))) > self.source.fma > 0:
            found.append(f"fused multiply-add: expected {self.source.fma}, which are asked for by name, found {count}")
        for what, sizes in ("ld", self.source.loads), ("st", self.source.stores):
            for nbytes, expected in Counter(sizes).items():
                every = [("PTX", _accesses_in_ptx(what, self.ptx))]
                every += [] if self.sass is None else [("SASS", _accesses_in_sass(what, self.sass))]
                for where, accesses in every:
                    if accesses[nbytes] < expected:
                        text = f"{what}.global of {nbytes} bytes: expected {expected} times"
                        found.append(f"{text}, found {accesses[nbytes]} in {where}")
        found += [f"{name}: {n} bytes" for name, n in (("stack", self.stack), ("spills", self.spills)) if n]
        return found


def _accesses_in_ptx(what: str, ptx: str) -> Counter[int]:
    """How many loads or stores, "ld" or "st", of so many bytes there are of the GPU's memory."""
    every = re.findall(rf"\b{what}\.global(?:\.nc)?(?:\.v(\d))?\.[fubs](\d+)\b", ptx)
    return Counter(int(lanes or 1) * int(bits) // 8 for lanes, bits in every)


def _accesses_in_sass(what: str, sass: str) -> Counter[int]:
    every = re.findall(rf"\b{what.upper()}G\.E((?:\.\w+)*)", sass)
    bits = (re.search(r"\.(?:[US])?(8|16|64|128)\b", kind) for kind in every)
    return Counter(int(match[1]) // 8 if match else 4 for match in bits)


def _other_dtype(bits: str, float64: tuple[str, ...] | None) -> tuple[str, str, str]:
    """The bits of the dtype that a kernel has no use for, and what is found in its PTX and SASS where it is used.

    A kernel for float32 may have some operations with `float64`, or all of them.
    """
    nothing = r"(?!)"
    if bits == "64":
        return "32", r"\.f32\b.*", nothing
    if float64 is None:
        return "64", nothing, nothing
    others = rf"(?m)^\s*(?:@\S+\s+)?(?!(?:{'|'.join(float64)})\b)[a-z]\w*\.[\w.]*f64\b.*"
    machine = "MUL|FMA|SETP" if "add" in float64 else "ADD|MUL|FMA|SETP"
    return "64", others if float64 else r"\.f64\b.*", rf"\bD({machine})\b.*"


def inspect(
    optimizer: Any, dtype: Any = np.float32, cc: tuple[int, int] = (9, 0), *, slots: int = 0, many: bool = False,
    on_device: bool = False, fused: Fused = NOTHING, statistics: tuple[str, ...] = (), kernel: int = -1,
    storages: Sequence[Storage] = (),
) -> Report:  # fmt: skip
    """Compile a kernel of a step for a compute capability and report on the code. It needs neither GPU nor driver.

    Args:
        optimizer: a subclass of `Optimizer`, or a rule.
        dtype: float32 or float64, of all operands.
        cc: the compute capability, (major, minor).
        slots: of a rule, how many slots of state it has.
        many: the kernel for a dict of arrays; otherwise that for a flat buffer. Where a step sums over arrays, there is
            only the former.
        on_device: the kernel of `capturable=True`.
        fused: the options that are fused around the rule.
        statistics: those that are made in the same pass.
        kernel: which of the step's kernels, in the order in which they run. The last one updates the parameters. Where
            a step sums over arrays, each reduction has two in front of it: the sums of blocks, and what is computed of
            them. With `over_all`, it has a third one.
        storages: how the operands lie in memory, where that differs: parameter, gradient, slots and what options add.

    Raises:
        TypeError: if the dtype is another.
        IndexError: if the step has fewer kernels.
        numba.core.errors.TypingError: if the rule cannot be compiled or does not keep the dtype.
        RuntimeError: if a part of the CUDA toolkit is not installed, or Numba's simulator takes the compiler's place.
    """
    own = np.dtype(dtype)
    if own not in COMPUTED:
        raise TypeError(f"dtype: expected float32 or float64, got {own}")
    own = storages[PARAM].computed if storages else own
    source = sources(optimizer, own, slots, many, on_device, fused, statistics, storages)[kernel]
    return report(compile_kernel(source.function, source.signature, cc), own.name, source)


def sources(
    optimizer: Any, dtype: np.dtype[Any], slots: int = 0, many: bool = False, on_device: bool = False,
    fused: Fused = NOTHING, statistics: tuple[str, ...] = (), storages: Sequence[Storage] = (),
) -> list[Source]:  # fmt: skip
    """The kernels of a step in the order in which they run; see `inspect`."""
    stages = getattr(optimizer, "stages", None) or [Elementwise(optimizer, (), Kernels(optimizer, slots))]
    *reductions, last = (stage.including(fused) for stage in stages)
    storages = tuple(storages) or (as_it_is(dtype),) * last.kernels.on_gpu.operands
    return [
        source
        for stage in (*reductions, last.measuring(statistics))
        for source in stage.sources_for_gpu(storages, many, on_device)
    ]


def report(code: Code, element: str, source: Source) -> Report:
    """Read the code of a kernel for elements of a dtype."""
    numbers = [
        sum(int(n) for n in re.findall(pattern, code.log))
        for pattern in (r"Used (\d+) registers", r"(\d+) bytes stack frame", r"(\d+) bytes spill")
    ]
    return Report(element, source, code.ptx, _disassemble(code.cubin), *numbers)


def _disassemble(cubin: bytes) -> str | None:
    path = import_module("cuda.pathfinder").find_nvidia_binary_utility("nvdisasm")
    if path is None:
        return None
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run([path, "-c", "-ndf", file.name], check=True, capture_output=True, text=True).stdout
