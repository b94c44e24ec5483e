"""The CUDA kernels in numba's simulator: the CPU's bits for one span and many, heads, tails, misalignment."""

import json
from importlib.util import find_spec

import pytest

from support import OPTIMIZERS, python

if find_spec("numba_cuda") is None:
    pytest.skip("needs numba-cuda: pip install 'fastoptim[cuda13]'", allow_module_level=True)

# How arrays lie: offsets in elements of parameter, gradient and state from a multiple of 16 bytes, and their sizes.
CODE = """
import json, sys
import numpy as np
from fastoptim.kernels import cuda, cuda_launch
from fastoptim.kernels.cpu import COLUMNS, END, GRAD, PARAM, SLOT_BYTES, STATE
from support import DTYPES, OPTIMIZERS, assert_same_bits, random

assert cuda.SIMULATED
GRIDS = [(1, 1), (2, 3)]
LAYOUTS = {
    "aligned": [(0, 0, 0, 100)],
    "tail": [(0, 0, 0, 7)],
    "shorter than a vector": [(0, 0, 0, 1)],
    "head": [(1, 1, 1, 70)],
    "head longer than all": [(3, 3, 3, 1)],
    "misaligned gradient": [(0, 1, 0, 30)],
    "misaligned state": [(0, 0, 1, 30)],
    "empty": [(0, 0, 0, 0)],
    "many": [(0, 0, 0, 40), (1, 1, 1, 9), (0, 0, 0, 0), (2, 1, 3, 21), (0, 0, 0, 1), (0, 0, 0, 0), (3, 3, 3, 33)],
}

def room(rng, offset, size, dtype):
    memory = np.zeros(size * dtype().itemsize + 64, np.uint8)
    start = -memory.ctypes.data % 16 + offset * dtype().itemsize
    view = memory[start : start + size * dtype().itemsize].view(dtype)
    view[:] = random(rng, size, dtype)
    return view

def arrays(cls, dtype, layout, seed, slot_gap):
    rng = np.random.default_rng(seed)
    slots, made, spans, end = len(cls.slots), [], [], 0
    for p, g, s, size in layout:
        stride = size + slot_gap if slot_gap else -(-size // 4) * 4
        param, grad, state = room(rng, p, size, dtype), room(rng, g, size, dtype), room(rng, s, slots * stride, dtype)
        state[:] = abs(state)  # as sums of squares are
        end += size
        made += [param, grad, state]
        addresses = [x.ctypes.data for x in (param, grad, state)]
        spans.append([*addresses, stride * dtype().itemsize, 0, 0, end])
    return made, np.array(spans, np.int64).reshape(-1, COLUMNS)

def check(cls, dtype, layout, grid, slot_gap, on_device):
    opt = cls(lr=0.05)
    ours, spans = arrays(cls, dtype, layout, 0, slot_gap)
    expected, host_spans = arrays(cls, dtype, layout, 0, slot_gap)
    size, scalars = int(spans[-1, END]), np.zeros((1, cls.kernels.scalar_count), dtype)
    steps = np.array([opt.scalars(t) for t in (1, 2)], dtype)
    step, given = np.zeros(1, np.int64), scalars
    if on_device:
        given = cuda.DeviceScalars(steps.ctypes.data, np.dtype(dtype), len(steps), step.ctypes.data)
    launch = kernels.prepare(spans, given, spans.ctypes.data if len(spans) > 1 else 0, grid=grid)
    for numbers in steps:
        scalars[0] = numbers
        launch()
        cuda_launch.advance(step.ctypes.data, 0)
        cls.kernels.loops.run(host_spans, scalars, size)
    for array, other in zip(ours, expected, strict=True):
        assert_same_bits(array, other)

with np.errstate(all="ignore"):
    for cls in OPTIMIZERS:
        if cls.__name__ != sys.argv[1]:
            continue
        kernels = cuda.CudaKernels(cls.rule, len(cls.slots))
        cases = 0
        for dtype in DTYPES:
            for name, layout in LAYOUTS.items():
                for grid in GRIDS if name == "many" else [(2, 3)]:
                    for slot_gap, on_device in ((0, False), (1, True)):
                        check(cls, dtype, layout, grid, slot_gap, on_device)
                        cases += 1
            if dtype is np.float32:
                check(cls, dtype, LAYOUTS["many"], None, 0, False)  # the grid that is chosen
            # the public kernel
            n, opt = 50, cls(lr=0.05)
            rng = np.random.default_rng(1)
            p, g = random(rng, n, dtype), random(rng, n, dtype)
            state = abs(random(rng, (len(cls.slots), n), dtype))
            q, other = p.copy(), state.copy()
            kernels.kernel[2, 5](p, g, state, opt.scalars(1))
            cls.kernels.cpu_serial(q, g, other, opt.scalars(1))
            assert_same_bits(p, q)
            assert_same_bits(state, other)
        print(json.dumps(cases))
"""


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_same_bits_as_the_cpu(cls):
    assert json.loads(python(CODE, cls.__name__, NUMBA_ENABLE_CUDASIM="1")) > 20
