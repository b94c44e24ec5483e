"""What the compiler made of the rules: float32 stays float32, and loops work on vectors."""

import platform
import re

import numba
import numpy as np
import pytest

import fastoptim
from fastoptim.kernels import norm
from fastoptim.kernels.cpu import COLUMNS
from fastoptim.kernels.extras import NOTHING, Extras
from support import DTYPES, OPTIMIZERS

ALL = Extras(*(True,) * len(Extras._fields))
needs_x86 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="reads the names of x86-64 instructions and registers"
)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_a_rule_keeps_its_type(cls, dtype):
    element = numba.typeof(dtype(1))
    compiled = numba.njit(cls.rule)
    count = len(numba.core.utils.pysignature(cls.rule).parameters)
    compiled.compile((element,) * count)
    returned = compiled.overloads[(element,) * count].signature.return_type
    assert returned == (numba.types.UniTuple(element, 1 + len(cls.slots)) if cls.slots else element)


CASES = [(cls, dtype, NOTHING) for cls in OPTIMIZERS for dtype in DTYPES]
CASES += [(fastoptim.SGD, np.float64, ALL), (fastoptim.Adam, np.float32, ALL)]  # the same around every rule


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0].__name__}-{case[1].__name__}-{any(case[2])}")
def assembly(request):
    """The spans kernels compiled anew, as what comes from the cache has no assembly."""
    cls, dtype, extras = request.param
    kernels, texts = cls.kernels.including(extras), []
    for kernel in kernels.loops._spans_serial, kernels.loops._spans_parallel:
        anew = numba.jit(kernel.py_func, **kernel.targetoptions)
        workers = (1,) if anew.targetoptions.get("parallel") else ()
        anew(np.zeros((1, COLUMNS), np.int64), np.zeros((1, kernels.scalar_count), dtype), *workers)
        texts.append("\n".join(anew.inspect_asm().values()))
    return cls, dtype, texts


@needs_x86
def test_float32_is_never_widened(assembly):
    _, dtype, texts = assembly
    for text in texts:
        assert not re.findall(r"cvts[sd]2s[sd]|cvtp[sd]2p[sd]", text)
        suffix = "sd|pd" if dtype is np.float32 else "ss|ps"
        assert not re.findall(rf"\tv?(?:mul|add|sub|div|sqrt)(?:{suffix})\b", text)


@needs_x86
def test_loops_work_on_vectors(assembly):
    cls, dtype, texts = assembly
    letter = "s" if dtype is np.float32 else "d"
    operations = ["mul", "sub"] + (["div", "sqrt"] if "sqrt" in cls.rule.__code__.co_names else [])
    for text in texts:
        for operation in operations:
            assert re.search(rf"\tv?{operation}p{letter}\b.*%[xyz]mm", text), operation
        if re.search("%ymm", text):
            assert re.search(rf"\tvmulp{letter}\b.*%[yz]mm", text)


@needs_x86
def test_nothing_is_contracted(assembly):
    for text in assembly[2]:
        assert not re.search(r"\tvf(?:n?m(?:add|sub))", text)


@needs_x86
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_norm_works_on_vectors(dtype):
    """And fuses squares and additions for float32 alone, where that changes no bit."""
    serial = norm.KERNELS[np.dtype(dtype)][0]
    anew = numba.jit(serial.py_func, **serial.targetoptions)
    cuts = np.array([[0, 0, 0, 0]])
    anew(np.zeros((1, COLUMNS), np.int64), cuts, np.zeros((0, 2)), np.zeros(0, dtype))
    text = "\n".join(anew.inspect_asm().values())
    assert re.search(r"\tv?(add|f?n?madd\d*)pd\b.*%[xyz]mm", text)
    if dtype is np.float64:
        assert not re.search(r"\tvf(?:n?m(?:add|sub))", text)


def test_one_specialisation_serves_every_call():
    """Any shapes, orders, counts and hyperparameters: compiled once per dtype."""
    opt = fastoptim.RMSprop()
    loops = opt.kernels.loops
    for name, shape in ("a", (3, 5)), ("b", (200, 200)), ("c", ()), ("d", (0,)):
        for order in "CF":
            p = {name + order: np.ones(shape, np.float32, order)}
            opt.lr = 1
            opt.update(p, {name + order: np.ones(shape, np.float32)})
    assert len(loops._spans_serial.signatures) <= len(DTYPES)
    assert len(loops._spans_parallel.signatures) <= len(DTYPES)
