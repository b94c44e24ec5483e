"""The CUDA kernels in numba's simulator: the CPU's bits for one segment and many, heads, tails, misalignment."""

import json
from importlib.util import find_spec

import pytest

from support import FEW, python

if find_spec("numba_cuda") is None:
    pytest.skip("needs numba-cuda: pip install 'fastoptim[cuda13]'", allow_module_level=True)

# How arrays lie: offsets in elements of the parameter, the gradient and the last slot from a multiple of 16 bytes, and
# the number of elements. The other slots have the parameter's offset.
CODE = """
import json, sys
import numpy as np
from fastoptim.kernels.cuda import CudaKernels
from fastoptim.kernels.cuda.launch import DeviceScalars, GpuGroup
from fastoptim.kernels.cuda.memory import SIMULATED
from fastoptim.kernels.cuda.words import advance
from fastoptim.kernels.storage import storage_of
from fastoptim.kernels.table import END, columns
from support import DTYPES, OPTIMIZERS, assert_same_bits, random, scalars_of_step

assert SIMULATED
GRIDS = [(1, 1), (2, 3)]
LAYOUTS = {
    "aligned": [(0, 0, 0, 100)],
    "tail": [(0, 0, 0, 7)],
    "shorter than a vector": [(0, 0, 0, 1)],
    "head": [(1, 1, 1, 70)],
    "head longer than all": [(3, 3, 3, 1)],
    "misaligned gradient": [(0, 1, 0, 30)],
    "misaligned slot": [(0, 0, 1, 30)],
    "empty": [(0, 0, 0, 0)],
    "many": [(0, 0, 0, 40), (1, 1, 1, 9), (0, 0, 0, 0), (2, 1, 3, 21), (0, 0, 0, 1), (0, 0, 0, 0), (3, 3, 3, 33)],
}

def room(rng, offset, size, dtype):
    memory = np.zeros(size * dtype().itemsize + 64, np.uint8)
    start = -memory.ctypes.data % 16 + offset * dtype().itemsize
    view = memory[start : start + size * dtype().itemsize].view(dtype)
    view[:] = random(rng, size, dtype)
    return view

def arrays(cls, dtype, layout, rows):
    rng, segments, table, end = np.random.default_rng(0), [], [], 0
    for i, (p, g, last, size) in enumerate(layout):
        offsets = [p, g, *[p] * (len(cls.slots) - 1), last][: 2 + len(cls.slots)]
        operands = [room(rng, offset, size, dtype) for offset in offsets]
        for slot in operands[2:]:
            slot[:] = abs(slot)  # as sums of squares are
        end += size
        segments.append(operands)
        table.append([*(x.ctypes.data for x in operands), i % rows, end])
    return segments, np.array(table, np.int64).reshape(-1, columns(2 + len(cls.slots)))

def check(cls, dtype, layout, grid, where):
    rows = 2 if where == "rows on the device" else 1
    opts = [cls(lr=0.05 * (1 + row)) for row in range(rows)]
    segments, table = arrays(cls, dtype, layout, rows)
    expected = [(p.copy(), g.copy(), np.array(slots, dtype).reshape(len(slots), p.size)) for p, g, *slots in segments]
    steps = np.array([[scalars_of_step(opt, step) for opt in opts] for step in (1, 2)], dtype)
    step, given = np.zeros(1, np.int64), np.zeros(steps.shape[2], dtype)
    if where == "steps on the device":
        given = DeviceScalars(steps.ctypes.data, np.dtype(dtype), len(steps), step.ctypes.data)
    elif where == "rows on the device":
        now = steps[0].copy()
        given = DeviceScalars(now.ctypes.data, np.dtype(dtype))
    storages = (storage_of(dtype),) * (2 + len(cls.slots))
    launch = kernels.prepare(GpuGroup(storages, table, given, table.ctypes.data if len(table) > 1 else 0), grid)
    for numbers in steps:
        if where == "arguments":
            given[:] = numbers[0]
        elif where == "rows on the device":
            now[:] = numbers
        launch()
        advance(step.ctypes.data, 0)
        for i, (p, g, state) in enumerate(expected):
            cls.kernels.cpu_serial(p, g, state, numbers[i % rows])
    for (p, g, *slots), (q, h, state) in zip(segments, expected, strict=True):
        assert_same_bits(p, q)
        assert_same_bits(g, h)
        assert_same_bits(np.array(slots, dtype).reshape(len(slots), p.size), state)

with np.errstate(all="ignore"):
    for cls in OPTIMIZERS:
        if cls.__name__ != sys.argv[1]:
            continue
        kernels = CudaKernels(cls.rule, len(cls.slots))
        cases = 0
        for dtype in DTYPES:
            for name, layout in LAYOUTS.items():
                for grid in GRIDS if name == "many" else [(2, 3)]:
                    for where in "arguments", "steps on the device", "rows on the device":
                        check(cls, dtype, layout, grid, where)
                        cases += 1
            if dtype is np.float32:
                check(cls, dtype, LAYOUTS["many"], None, "arguments")  # the grid that is chosen
            # the public kernel
            n, opt = 50, cls(lr=0.05)
            rng = np.random.default_rng(1)
            p, g = random(rng, n, dtype), random(rng, n, dtype)
            state = abs(random(rng, (len(cls.slots), n), dtype))
            q, other = p.copy(), state.copy()
            scalars = scalars_of_step(opt, 1)
            kernels.kernel[2, 5](p, g, state, scalars)
            cls.kernels.cpu_serial(q, g, other, scalars)
            assert_same_bits(p, q)
            assert_same_bits(state, other)
        print(json.dumps(cases))
"""


@pytest.mark.parametrize("cls", FEW)
def test_same_bits_as_the_cpu(cls):
    assert json.loads(python(CODE, cls.__name__, NUMBA_ENABLE_CUDASIM="1")) > 20


TRANSFER = """
import numpy as np
import pytest
from fastoptim.kernels.cuda.transfer import Transfer, clear, copy

rng = np.random.default_rng(0)
memory = rng.integers(0, 256, 4096, np.uint8)
start = -memory.ctypes.data % 16  # of the target; the source begins in the middle
def pieces(begin, *offsets):
    return [(memory.ctypes.data + start + begin + offset, size) for offset, size in offsets]
def bytes_of(begin, offset, size):
    return memory[start + begin + offset :][:size]

LAYOUTS = {
    "one": [(0, 400)],
    "words of 8": [(0, 64), (64, 8), (128, 264)],
    "words of 4": [(4, 400), (404, 12), (420, 0), (424, 100)],
    "words of 2": [(2, 30), (64, 100)],
    "bytes": [(1, 37), (40, 1), (64, 16)],
    "none": [],
    "empty": [(0, 0)],
}
for name, offsets in LAYOUTS.items():
    for source_offset in 2000, 2008, 2004, 2001:
        before = memory.copy()
        transfer = Transfer(pieces(0, *offsets), pieces(source_offset, *offsets), 0)
        for _ in range(2):
            expected = memory.copy()
            for offset, size in offsets:
                expected[start + offset :][:size] = bytes_of(source_offset, offset, size)
            transfer()
            assert (memory == expected).all(), (name, source_offset)
            memory[start + 2000 :] = rng.integers(0, 256, len(memory) - start - 2000, np.uint8)
    expected = memory.copy()
    for offset, size in offsets:
        expected[start + offset :][:size] = 0
    clear(pieces(0, *offsets), 0)
    assert (memory == expected).all(), name
    copy(pieces(0, *offsets), pieces(0, *offsets), 0)  # onto itself
    assert (memory == expected).all(), name
nans = np.array([0x7F800001, 0xFFC12345], np.uint32)  # bit for bit, with the payloads of nan
there = np.zeros(2, np.float32)
copy([(there.ctypes.data, 8)], [(nans.ctypes.data, 8)], 0)
assert (there.view(np.uint32) == nans).all()
for source in pieces(0, (0, 4)), pieces(0, (0, 8), (8, 8)):
    with pytest.raises(ValueError, match="source: expected pieces of"):
        copy(pieces(1000, (0, 8)), source, 0)
print("ok")
"""


def test_copies_and_clears_are_bitwise():
    assert python(TRANSFER, NUMBA_ENABLE_CUDASIM="1").strip() == "ok"


INSPECT = """
import fastoptim
from fastoptim.kernels import cuda
try:
    cuda.inspect(fastoptim.Adam)
except RuntimeError as error:
    print(error)
"""


def test_inspect_says_that_it_needs_the_compiler():
    assert "NUMBA_ENABLE_CUDASIM" in python(INSPECT, NUMBA_ENABLE_CUDASIM="1")


def test_a_gpu_is_not_required():
    code = "import fastoptim; fastoptim.SGD().to('cuda'); print(fastoptim.flatten({}, 'cuda').memory.name)"
    assert python(code, NUMBA_ENABLE_CUDASIM="1").strip() == "cuda"
