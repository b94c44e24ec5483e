"""What the CUDA compiler makes of the rules, with no GPU: wide accesses, the CPU's arithmetic, no local memory."""

import math
import re
from importlib.util import find_spec
from types import SimpleNamespace

import numba
import numpy as np
import pytest

import fastoptim
from internals import EVERY_OPTION
from support import DTYPES, FEW, OPTIMIZERS, SUMMED, python

if find_spec("numba_cuda") is None:
    pytest.skip("needs numba-cuda: pip install 'fastoptim[cuda13]'", allow_module_level=True)

from fastoptim.kernels import cuda
from fastoptim.kernels.codes import ROOTS, SIGNED
from fastoptim.kernels.cuda import compile as compiler
from fastoptim.kernels.cuda import driver, memory, reduce, transfer, words
from fastoptim.kernels.cuda.arrays import device_of
from fastoptim.kernels.cuda.compile import Source
from fastoptim.kernels.cuda.launch import GpuGroup
from fastoptim.kernels.cuda.loops import build
from fastoptim.kernels.cuda.report import report as reported
from fastoptim.kernels.cuda.report import sources
from fastoptim.kernels.cuda.row_sums import row_sum_kernel
from fastoptim.kernels.fuse import NOTHING, Fused
from fastoptim.kernels.measures import NAMES
from fastoptim.kernels.storage import FLOAT16, FLOAT32, as_it_is, bfloat16, storage_of

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


@pytest.mark.parametrize(
    ("cls", "dtype", "cc"),
    [(cls, *each) for cls in [*OPTIMIZERS, Branches] for each in zip(DTYPES, CAPABILITIES, strict=True)],
)
def test_every_last_kernel_keeps_the_promises(cls, dtype, cc):
    # one capability with each of the kernels that are rarer: a table of segments, scalars on the device
    report = cuda.inspect(cls, dtype, cc, many=cc == CAPABILITIES[0], on_device=cc == CAPABILITIES[0])
    assert report.violations() == []
    assert 0 < report.registers <= 128
    # the arguments are what `Launch` passes the addresses of: whoever changes one has to change the other
    one_segment = 2 + len(cls.slots) + 4, f".f{8 * dtype().itemsize}" * cls.kernels.scalar_count
    integers, scalars = (5, ".u64" * 3) if cc == CAPABILITIES[0] else one_segment
    integers = 5 if getattr(cls, "reductions", ()) else integers
    assert "".join(re.findall(r"\.param (\.\w+) ", report.ptx)) == ".u64" * integers + scalars


@pytest.mark.parametrize(
    ("dtype", "cc", "on_device"), [(*DTYPES[:1], CAPABILITIES[0], True), (*DTYPES[1:], (9, 0), False)]
)
@pytest.mark.parametrize(
    ("cls", "kernel"), [(cls, i) for cls in SUMMED for i in range(len(sources(cls, np.dtype(np.float32))) - 1)]
)
def test_and_so_do_those_in_front_of_it(cls, kernel, dtype, cc, on_device):
    report = cuda.inspect(cls, dtype, cc, on_device=on_device, kernel=kernel)
    assert report.violations() == []
    assert 0 < report.registers <= 128
    assert re.search(r"add\.rn\.f64", report.ptx)


@pytest.mark.parametrize(("dtype", "fused"), [(np.float32, EVERY_OPTION), (np.float64, NOTHING)])
def test_and_one_with_statistics(dtype, fused):
    report = cuda.inspect(fastoptim.Adam, dtype, fused=fused, statistics=NAMES)
    assert report.violations() == []
    assert 0 < report.registers <= 128
    with pytest.raises(IndexError):
        cuda.inspect(fastoptim.Adam, dtype, kernel=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", FEW)
def test_and_so_does_the_pass_around_it(cls, dtype):
    many = on_device = dtype is DTYPES[0]
    report = cuda.inspect(cls, dtype, fused=EVERY_OPTION, many=many, on_device=on_device)
    assert report.violations() == []
    assert 0 < report.registers <= 128


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", [cls for cls in OPTIMIZERS if cls.evaluation is not None])
def test_the_pass_of_evaluation_parameters_writes_them_alone(cls, dtype):
    storages, slots = (storage_of(dtype),) * (2 + len(cls.slots)), len(cls.slots)
    kernel = build(cls.evaluation, slots, NOTHING, storages, True, False, writes_state=False)
    report = reported(compiler.compile_kernel(*kernel, (8, 0)), np.dtype(dtype).name, Source(*kernel, [16], [16]))
    assert report.violations() == []
    assert len(re.findall(r"\bst\.global\.v\d", report.ptx)) == 2  # the compiler makes two copies of the loop


@pytest.mark.parametrize("kernel", [*map(reduce.sum_kernel, map(storage_of, DTYPES)), reduce.finish_kernel()])
def test_the_norm_is_the_cpus(kernel):
    code = compiler.compile_kernel(*kernel, (8, 0))
    assert not re.search(r"\b(fma|mad)\.[^su]*f(32|64)\b|\.approx|\.ftz|\.local\b", code.ptx)
    assert re.search(r"mul\.rn\.f64|sqrt\.rn\.f64", code.ptx)


@pytest.mark.parametrize("own", [*map(storage_of, DTYPES), storage_of(bfloat16()), storage_of(np.float16)])
def test_sums_of_rows_are_the_cpus(own):
    """Additions of the dtype of computation, one after another: nothing is fused, and nothing is spilt."""
    code = compiler.compile_kernel(*row_sum_kernel(own), (8, 0))
    kind = f"f{own.computed.itemsize * 8}"
    assert re.search(rf"\badd(\.rn)?\.{kind}\b", code.ptx)
    assert not re.search(r"\b(fma|mad)\.[^su]*f(32|64)\b|\.approx|\.ftz|\.local\b", code.ptx)
    if kind == "f32":
        assert not re.search(r"\.f64\b", code.ptx)


def test_a_rule_that_promotes_is_refused():
    with pytest.raises(Exception, match=r"(?s)returned float64 for elements of float32.*x \* x"):
        cuda.inspect(promotes)


@pytest.mark.parametrize("word", transfer.WORDS, ids=str)
@pytest.mark.parametrize("kernels", [transfer.COPY, transfer.CLEAR], ids=lambda kernels: kernels.rule.__name__)
def test_copies_and_clears_use_vectors(kernels, word):
    ptx = compiler.compile_kernel(*build(kernels.rule, 0, NOTHING, (as_it_is(word),) * 2, True, False), (8, 0)).ptx
    if word.itemsize >= 4:  # arrays of float32 and float64 have such words; narrower ones are stored four at a time
        assert re.search(r"st\.global(\.\w+)?\.v(2\.[bu]64|4\.[bu]32)", ptx)
    assert not re.search(r"\.local\b|\.f(32|64)\b", ptx)


def test_operands_have_a_storage_each():
    assert storage_of(np.float32) is FLOAT32
    with pytest.raises(TypeError, match="expected float32, float64, float16 or bfloat16, got int64"):
        storage_of(int)
    with pytest.raises(TypeError, match="float16"):
        cuda.inspect(fastoptim.SGD, np.float16)


@pytest.mark.parametrize("zero_grads", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_loads_and_stores(dtype, zero_grads, monkeypatch):
    """The simulator has stand-ins for these: here they are compiled, for the CPU."""
    monkeypatch.setattr(memory, "cuda", SimpleNamespace(extending=numba.extending))
    storages, dtype = (storage_of(dtype),) * 4, np.dtype(dtype)
    vector = 16 // dtype.itemsize
    room = np.zeros(4 * 64 + vector, dtype)
    room = room[-(room.ctypes.data // dtype.itemsize) % vector :][: 4 * 64]
    arrays, addresses = room.reshape(4, 64), tuple(room.ctypes.data + 64 * dtype.itemsize * i for i in range(4))
    for width in 1, vector:
        load, store = (
            memory.word_loader(storages, width),
            memory.word_storer(storages, width, [0, 2, 3], zero_grads),
        )
        room[:] = np.arange(room.size)
        expected = arrays.copy()
        elements = numba.njit(lambda addresses, i: load(addresses, i))(addresses, 8)  # noqa: B023
        assert elements == tuple(tuple(expected[:, i]) for i in range(8, 8 + width))
        updated = tuple(tuple(-x for operand, x in enumerate(each) if operand != 1) for each in elements)
        numba.njit(lambda addresses, i, new: store(addresses, i, new))(addresses, 8, updated)  # noqa: B023
        expected[:, 8 : 8 + width] *= [[-1], [not zero_grads], [-1], [-1]]
        assert (arrays == expected).all()
    read, write = memory.reader(dtype, 3), memory.writer(dtype)
    assert numba.njit(lambda address: read(address))(addresses[2]) == tuple(arrays[2, :3])
    numba.njit(lambda address, number: write(address, number))(addresses[2] + dtype.itemsize, dtype.type(0.5))
    assert arrays[2, 1] == 0.5


def test_a_table_has_a_column_for_each_operand():
    kernels = cuda.CudaKernels(fastoptim.Adam.rule, 2, Fused(ema=True))
    with pytest.raises(ValueError, match="expected 7 columns, as there are 5 operands; got 6"):
        kernels.prepare(GpuGroup((FLOAT32,) * 5, np.zeros((1, 6), np.int64), np.zeros(5)))
    with pytest.raises(ValueError, match="table: expected the address of a copy on the device"):
        kernels.prepare(GpuGroup((FLOAT32,) * 5, np.zeros((2, 7), np.int64), np.zeros(5)))


def test_the_step_counter_compiles():
    code = compiler.compile_kernel(*words.advance_kernel(), (8, 0))
    assert re.search(r"ld\.global\.\w64.*\s+add\.s64.*, 1;\s+st\.global\.\w64", code.ptx)


def test_contraction_is_found(monkeypatch):
    monkeypatch.setattr(compiler, "EXACT", ("-fma=1",))
    for cls in fastoptim.Momentum, fastoptim.Adam:  # fused by the assembler alone, and by the compiler before it
        report = cuda.inspect(cls)
        assert any("fused" in line for line in report.violations())
        assert report.sass is None or "FFMA" in report.sass


def test_inexact_division_is_found(monkeypatch):
    monkeypatch.setattr(compiler, "EXACT", ("-fma=0", "-prec-div=0", "-prec-sqrt=0"))
    assert any("not IEEE" in line for line in cuda.inspect(fastoptim.AdaGrad).violations())


def test_what_is_no_ieee_operation_is_found():
    assert any("fused" in line or "not IEEE" in line for line in cuda.inspect(approximate).violations())


def test_spills_and_missing_vectors_are_found(monkeypatch):
    monkeypatch.setattr(compiler, "EXACT", (*compiler.EXACT, "-maxrregcount=32"))
    assert any("spills" in line for line in cuda.inspect(fastoptim.Adam).violations())
    report = cuda.inspect(fastoptim.SGD)
    source = report.source._replace(loads=[16] * 9)
    assert any("ld.global of 16 bytes" in line for line in report._replace(source=source).violations())


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
        i = memory.cuda.grid(1)
        if i < p.size:
            p[i], m[i], v[i] = adam(p[i], g[i], m[i], v[i], lr, one_minus_beta1, one_minus_beta2, eps)

    code = compiler.compile_kernel(kernel, (float32[::1],) * 4 + (float32,) * 4, (8, 0))
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
            device_of(0)


@pytest.mark.skipif(bool(fastoptim.cuda_info()["devices"]), reason="there is a GPU here")
@pytest.mark.parametrize(
    "call",
    [
        lambda: fastoptim.flatten({"p": np.ones(3)}, device="cuda"),
        lambda: fastoptim.flatten({}, device="cuda"),
        lambda: fastoptim.SGD().to("cuda"),
        driver.require,
    ],
)
def test_without_a_gpu_the_error_says_what_to_do(call):
    for _ in range(2):  # the first failure leaves nothing half-imported
        with pytest.raises(RuntimeError, match=r"no NVIDIA (driver|GPU) found.*nvidia-smi.*cpu"):
            call()


INFO = """
import sys, fastoptim
fastoptim.cuda_info()
print([m for m in sys.modules if m.split(".")[0] == "numba_cuda" or m.startswith("numba.cuda")])
"""


def test_info_does_not_import_numba_cuda():
    assert python(INFO).strip() == "[]"


def test_without_numba_cuda_the_error_says_what_to_install():
    code = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "numba_cuda" else find(name, *rest)
from fastoptim import Adam, cuda_info
assert not cuda_info()["extra"] and "fastoptim[cuda13]" in cuda_info()["problem"]
try:
    from fastoptim.kernels.cuda import inspect
    inspect(Adam)
except RuntimeError as error:
    print(error)
"""
    assert "pip install 'fastoptim[cuda12]'" in python(code)


BF16 = storage_of(bfloat16())
LESS_BITS = {
    "all bfloat16": ((BF16,) * 4, {}),
    "all float16, at random": ((FLOAT16,) * 4, {"stochastic": True}),
    "bfloat16, at random": ((BF16, BF16, FLOAT32, FLOAT32), {"stochastic": True, "clip_norm": True}),
    "masters": ((FLOAT32, BF16, FLOAT32, FLOAT32, BF16), {"copy": True}),
    "what is lost": ((BF16, BF16, BF16, BF16, BF16.of_rests), {"compensation": True}),
    "codes": ((FLOAT32, FLOAT32, SIGNED, ROOTS), {}),
    "codes, at random": ((BF16, BF16, SIGNED, ROOTS), {"stochastic": True, "zero_grads": True}),
}


@pytest.mark.parametrize("case", LESS_BITS)
def test_less_bits_keep_the_promises(case):
    storages, options = LESS_BITS[case]
    fused = Fused(**options)
    for kernel, cls, many in (-1, fastoptim.Adam, fused.stochastic), (0, fastoptim.LAMB, True):
        report = cuda.inspect(cls, fused=fused, storages=storages, many=many, kernel=kernel)
        assert report.violations() == [], (case, cls)
        assert 0 < report.registers <= 128
        # the kernel itself converts: no library function, and no detour through float64
        assert not re.search(r"\bcvt\.\w+\.f64\.f16|\bcvt[.\w]*\.f16\.f64", report.ptx)
    if FLOAT16 in storages:
        assert re.search(r"cvt\.rn\.f16\.f32", report.ptx)
    if SIGNED in storages:
        assert len(re.findall(r"shfl\.sync\.bfly", report.ptx)) == 5 * 2  # steps in a warp, for each slot


def test_a_multiply_add_that_nobody_asked_for_is_found_among_those_of_codes(monkeypatch):
    monkeypatch.setattr(compiler, "EXACT", ("-fma=1",))
    report = cuda.inspect(fastoptim.Adam, storages=LESS_BITS["codes"][0])
    assert any("asked for by name" in line for line in report.violations())


@pytest.mark.parametrize("own", [BF16, FLOAT16, SIGNED], ids=lambda own: own.name)
@pytest.mark.parametrize("width", [1, 4])
def test_words_of_less_bits_are_loaded_and_stored_together(own, width, monkeypatch):
    """As above: compiled for the CPU."""
    monkeypatch.setattr(memory, "cuda", SimpleNamespace(extending=numba.extending))
    storages, rng = (FLOAT32, own), np.random.default_rng(0)
    numbers, words = rng.normal(size=64).astype(np.float32), rng.integers(0, 256, 64, own.word)
    addresses, expected = (numbers.ctypes.data, words.ctypes.data), words.copy()
    load = memory.word_loader(storages, width)
    store = memory.word_storer(storages, width, [1], zero_grads=False)
    lanes = numba.njit(lambda addresses, i: load(addresses, i))(addresses, 8)
    assert lanes == tuple(zip(numbers[8 : 8 + width], words[8 : 8 + width], strict=True))
    new = tuple((own.word.type(word ^ 85),) for _, word in lanes)
    numba.njit(lambda addresses, i, new: store(addresses, i, new))(addresses, 8, new)
    expected[8 : 8 + width] ^= 85
    assert (words == expected).all()
