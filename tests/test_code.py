"""What the compiler made of the rules: float32 stays float32, and loops work on vectors."""

import dis
import platform
import re

import numba
import numpy as np
import pytest

import fastoptim
from fastoptim.kernels.fuse import NOTHING
from internals import (
    EVERY_OPTION,
    assembly_of,
    assembly_of_the_norm,
    eight_bit_pass,
    low_precision_pass,
    passes_of_sums,
    update_pass,
)
from rounding_in_numpy import BFLOAT16, FLOAT16
from support import DTYPES, FEW, OPTIMIZERS

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


# What is compiled here is in no cache. The loops of a rule are the same in both dtypes.
CASES = [(cls, dtype, NOTHING) for cls in OPTIMIZERS for dtype in (DTYPES if cls in FEW else DTYPES[:1])]
CASES += [(fastoptim.SGD, np.float64, EVERY_OPTION), (fastoptim.Adam, np.float32, EVERY_OPTION)]  # as around every rule


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0].__name__}-{case[1].__name__}-{any(case[2])}")
def assembly(request):
    cls, dtype, fused = request.param
    return cls, dtype, [assembly_of(update_pass(cls, dtype, fused))]


def operations(rule):
    """The instructions that stand for a rule's arithmetic."""
    symbols = [x.argrepr for x in dis.get_instructions(rule) if x.opname == "BINARY_OP"]
    found = {{"+": "add", "-": "sub", "*": "mul", "/": "div"}[symbol.removesuffix("=")] for symbol in symbols}
    return found | {"sqrt"} & set(rule.__code__.co_names)


def test_operations_are_found():
    assert operations(fastoptim.SGD.rule) == {"sub", "mul"}
    assert operations(fastoptim.Adam.rule) == {"add", "sub", "mul", "div", "sqrt"}


@needs_x86
def test_float32_is_never_widened(assembly):
    cls, dtype, texts = assembly
    for text in texts:
        # The numbers of an array are float64: a pass makes them float32 before its loop.
        assert not re.findall(r"cvtss2sd|cvtp[sd]2p[sd]" + r"|cvtsd2ss" * cls.kernels.are_public, text)
        suffix = "sd|pd" if dtype is np.float32 else "ss|ps"
        assert not re.findall(rf"\tv?(?:mul|add|sub|div|sqrt)(?:{suffix})\b", text)


@needs_x86
def test_loops_work_on_vectors(assembly):
    cls, dtype, texts = assembly
    letter = "s" if dtype is np.float32 else "d"
    for text in texts:
        for operation in operations(cls.rule):
            assert re.search(rf"\tv?{operation}p{letter}\b.*%[xyz]mm", text), operation
        if re.search("%ymm", text):
            assert re.search(rf"\tvmulp{letter}\b.*%[yz]mm", text)


@needs_x86
def test_nothing_is_contracted(assembly):
    for text in assembly[2]:
        assert not re.search(r"\tvf(?:n?m(?:add|sub))", text)


@needs_x86
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", [fastoptim.LARS, fastoptim.LAMB])
def test_sums_over_arrays_work_on_vectors(cls, dtype):
    """The update of a part of a block, and the additions to its sums, which are float64."""
    blocks, _ = passes_of_sums(cls, dtype)
    text, letter = assembly_of(blocks), "s" if dtype is np.float32 else "d"
    for operation in operations(cls.reductions[0].rule):
        assert re.search(rf"\tv?{operation}p{letter}\b.*%[xyz]mm", text), operation
    assert re.search(r"\tv?addpd\b.*%[xyz]mm", text)
    if re.search("%ymm", text):
        assert re.search(rf"\tvmulp{letter}\b.*%[yz]mm", text)
        assert re.search(r"\tvaddpd\b.*%[yz]mm", text)
        assert dtype is np.float64 or re.search(r"\tvcvtps2pd\b.*%[yz]mm", text)
    assert not re.search(r"\tvf(?:n?m(?:add|sub))", text)


@needs_x86
@pytest.mark.parametrize("fused", [NOTHING, NOTHING._replace(stochastic=True)], ids=["nearest", "stochastic"])
@pytest.mark.parametrize("dtype", [BFLOAT16, FLOAT16], ids=str)
def test_numbers_of_16_bits_are_converted_in_vectors(dtype, fused):
    """Without gathers, without a conversion through 64 bits, and without a call for float16."""
    text = assembly_of(low_precision_pass(fastoptim.Adam, dtype, fused))
    assert re.search(r"\tv?sqrtps\b.*%[xyz]mm", text)
    widened = r"pmovzxwd|punpcklwd" if dtype == BFLOAT16 else "cvtph2psx?"
    assert re.search(rf"\tv?(?:{widened})\b.*%[xyz]mm", text)
    if fused.stochastic:
        assert re.search(r"\tv?pmul(?:ld|udq)\b.*%[xyz]mm", text)
    assert not re.search(r"gather|cvtss2sd|cvtps2pd|__(?:extend|trunc)", text)


@needs_x86
@pytest.mark.parametrize("fused", [NOTHING, NOTHING._replace(stochastic=True)], ids=["nearest", "stochastic"])
def test_codes_of_8_bits_are_made_in_vectors(fused):
    """Decoded without a table; the largest of a block is that of integers; nothing is counted within a block."""
    text = assembly_of(eight_bit_pass(fastoptim.Adam, fused))
    assert re.search(r"\tv?sqrtps\b.*%[xyz]mm", text)
    assert re.search(r"\tv?(?:pmovzxbd|punpcklbw)\b.*%[xyz]mm", text)
    assert re.search(r"\tv?(?:pmaxud|pmaxsd|pcmpgtd)\b.*%[xyz]mm", text)
    if fused.stochastic:
        assert re.search(r"\tv?pmul(?:ld|udq)\b.*%[xyz]mm", text)
    assert not re.search(r"gather|cvtss2sd|cvtps2pd", text)
    blocks = re.findall(r"^(\S*(?:update_piece|encode_block|_factor)\S*):\n(.*?)^\.Lfunc_end", text, re.M | re.S)
    assert len(blocks) > 1
    assert not any("NRT_" in body for _, body in blocks)


@needs_x86
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_norm_works_on_vectors(dtype):
    """And fuses squares and additions for float32 alone, where that changes no bit."""
    text = assembly_of_the_norm(dtype)
    assert re.search(r"\tv?(add|f?n?madd\d*)pd\b.*%[xyz]mm", text)
    if dtype is np.float64:
        assert not re.search(r"\tvf(?:n?m(?:add|sub))", text)


def test_one_specialisation_serves_every_call():
    """Any shapes, orders, counts and hyperparameters: compiled once per dtype."""
    opt = fastoptim.RMSprop()
    for name, shape in ("a", (3, 5)), ("b", (200, 200)), ("c", ()), ("d", (0,)):
        for order in "CF":
            p = {name + order: np.ones(shape, np.float32, order)}
            opt.lr = 1
            opt.update(p, {name + order: np.ones(shape, np.float32)})
    assert len(update_pass(fastoptim.RMSprop).signatures) == 1
