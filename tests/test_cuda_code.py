"""What the CUDA compiler makes of the rules, with no GPU: wide accesses, the CPU's arithmetic, no local memory."""

import math
import re
from importlib.util import find_spec

import numpy as np
import pytest

import fastoptim
from support import DTYPES, OPTIMIZERS, python

if find_spec("numba_cuda") is None:
    pytest.skip("needs numba-cuda: pip install 'fastoptim[cuda13]'", allow_module_level=True)

from fastoptim.kernels import cuda, cuda_code, cuda_launch, cuda_norm
from fastoptim.kernels.cpu import COLUMNS
from fastoptim.kernels.extras import Extras

CAPABILITIES = [(8, 0), (9, 0)]


@fastoptim.rule
def promotes(p, g, lr):
    return p - 2 * lr * g


@fastoptim.rule
def approximate(p, g, lr):
    return p - lr * math.exp(g)


@fastoptim.rule
def branches(p, g, m, lr, decay):
    m = decay * m + g
    return p - (lr if m > g else math.copysign(lr, m)), m


class Branches(fastoptim.Optimizer):
    rule, slots = branches, ("m",)


@pytest.mark.parametrize("cc", CAPABILITIES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", [*OPTIMIZERS, Branches])
def test_every_kernel_keeps_the_promises(cls, dtype, cc):
    # one capability with each of the kernels that are rarer: a table of spans, scalars on the device
    report = cuda.inspect(cls, dtype, cc, many=cc == CAPABILITIES[0], on_device=cc == CAPABILITIES[0])
    assert report.violations() == []
    assert 0 < report.registers <= 128
    # the arguments are what `Launch` passes the addresses of: whoever changes one has to change the other
    scalar = ".u64" * 3 if cc == CAPABILITIES[0] else f".f{8 * dtype().itemsize}" * cls.kernels.scalar_count
    assert "".join(re.findall(r"\.param (\.\w+) ", report.ptx)) == ".u64" * (COLUMNS + 4) + scalar


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_and_so_does_the_pass_around_it(cls, dtype):
    many = on_device = dtype is DTYPES[0]
    report = cuda.inspect(cls, dtype, extras=Extras(*(True,) * len(Extras._fields)), many=many, on_device=on_device)
    assert report.violations() == []
    assert 0 < report.registers <= 128


@pytest.mark.parametrize("kernel", [*map(cuda_norm.sum_kernel, map(np.dtype, DTYPES)), cuda_norm.finish_kernel()])
def test_the_norm_is_the_cpus(kernel):
    code = cuda_code.compile_kernel(*kernel, (8, 0))
    assert not re.search(r"\b(fma|mad)\.[^su]*f(32|64)\b|\.approx|\.ftz|\.local\b", code.ptx)
    assert re.search(r"mul\.rn\.f64|sqrt\.rn\.f64", code.ptx)


def test_a_rule_that_promotes_is_refused():
    with pytest.raises(Exception, match=r"(?s)returned float64 for elements of float32.*x \* x"):
        cuda.inspect(promotes)


def test_the_step_counter_compiles():
    code = cuda_code.compile_kernel(*cuda_launch.advance_kernel(), (8, 0))
    assert re.search(r"ld\.global\.\w64.*\s+add\.s64.*, 1;\s+st\.global\.\w64", code.ptx)


def test_contraction_is_found(monkeypatch):
    monkeypatch.setattr(cuda_code, "EXACT", ("-fma=1",))
    for cls in fastoptim.Momentum, fastoptim.Adam:  # fused by the assembler alone, and by the compiler before it
        report = cuda.inspect(cls)
        assert any("fused" in line for line in report.violations())
        assert report.sass is None or "FFMA" in report.sass


def test_inexact_division_is_found(monkeypatch):
    monkeypatch.setattr(cuda_code, "EXACT", ("-fma=0", "-prec-div=0", "-prec-sqrt=0"))
    assert any("not IEEE" in line for line in cuda.inspect(fastoptim.AdaGrad).violations())


def test_what_is_no_ieee_operation_is_found():
    assert any("fused" in line or "not IEEE" in line for line in cuda.inspect(approximate).violations())


def test_spills_and_missing_vectors_are_found(monkeypatch):
    monkeypatch.setattr(cuda_code, "EXACT", (*cuda_code.EXACT, "-maxrregcount=32"))
    assert any("spills" in line for line in cuda.inspect(fastoptim.Adam).violations())
    report = cuda.inspect(fastoptim.SGD)
    assert any("ld.global.v4" in line for line in report._replace(accesses=(3, 1)).violations())


def test_machine_code_is_read_where_nvdisasm_is_installed():
    sass = cuda.inspect(fastoptim.SGD).sass
    if sass is None:
        pytest.skip("needs nvdisasm: pip install nvidia-cuda-nvdisasm")
    assert re.search("FMUL", sass)
    assert not re.search("FFMA", sass)  # division and root apart, which are made of it


def test_a_rule_in_a_kernel_of_your_own():
    """`adam` is a device function in any `@cuda.jit` code."""
    from numba import float32

    adam = fastoptim.Adam.rule

    def kernel(p, g, m, v, lr, one_minus_beta1, one_minus_beta2, eps):
        i = cuda.cuda.grid(1)
        if i < p.size:
            p[i], m[i], v[i] = adam(p[i], g[i], m[i], v[i], lr, one_minus_beta1, one_minus_beta2, eps)

    code = cuda_code.compile_kernel(kernel, (float32[::1],) * 4 + (float32,) * 4, (8, 0))
    assert "sqrt.rn.f32" in code.ptx


def test_importing_the_package_imports_nothing_of_cuda():
    done = python("import sys, fastoptim; print([m for m in sys.modules if 'cuda' in m.split('.')[:2]])")
    assert done.strip() == "[]"


def test_info_never_raises():
    info = fastoptim.cuda_info()
    assert info["extra"]
    assert (info["problem"] is None) == bool(info["devices"])
    if info["problem"]:
        with pytest.raises(RuntimeError, match="no NVIDIA"):
            cuda_launch.device_of(0)


def test_without_numba_cuda_the_error_says_what_to_install():
    code = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "numba_cuda" else find(name, *rest)
from fastoptim.kernels import cuda_code
assert not cuda_code.cuda_info()["extra"] and "fastoptim[cuda13]" in cuda_code.cuda_info()["problem"]
try:
    import fastoptim.kernels.cuda
except RuntimeError as error:
    print(error)
"""
    assert "pip install 'fastoptim[cuda12]'" in python(code)
