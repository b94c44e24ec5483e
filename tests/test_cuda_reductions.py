"""Reductions on a GPU, in numba's simulator: the CPU's bits for arrays of less, of exactly and of more than a block."""

from importlib.util import find_spec

import pytest

from support import SUMMED, python

if find_spec("numba_cuda") is None:
    pytest.skip("needs numba-cuda: pip install 'fastoptim[cuda13]'", allow_module_level=True)

CODE = """
import sys
import numpy as np
from numba import cuda
import fastoptim
from fastoptim.kernels.cuda import elementwise, reduce
from support import DTYPES, SUMMED, assert_same_bits, random

cls = next(cls for cls in SUMMED if cls.__name__ == sys.argv[1])
# float32 and float64 in turn; the large ones once, as the simulator is slow
SMALL = [0, 1, 127, 129, 3, 31, 2, 65]
LARGE = [4096, 4097, 10_000] if cls is SUMMED[0] else [4097]
rng = np.random.default_rng(0)

def arrays(sizes):
    return {f"a{i}": random(rng, size, DTYPES[i % 2]) for i, size in enumerate(sizes)}

def sent(values, flat):
    return fastoptim.flatten(values, device="cuda") if flat else {name: cuda.to_device(x) for name, x in values.items()}

def check(sizes, threads, flat, steps):
    elementwise.THREADS = reduce.THREADS = threads
    host = arrays(sizes)
    on_gpu = sent(host, flat)
    one, other = cls(lr=0.05), cls(lr=0.05)
    for step in range(steps):
        grads = arrays(sizes)
        if step == 0:
            grads["a1"][:] = 0  # a norm of zero
        one.update(on_gpu, sent(grads, flat))
        other.update(host, grads)
    for name, p in host.items():
        assert_same_bits(on_gpu[name].copy_to_host() if p.size else p, p, name)
        for slot, values in other.state.items():
            mine = one.state[slot][name]
            assert_same_bits(mine.copy_to_host() if mine.size else values[name], values[name], f"{slot} {name}")

with np.errstate(all="ignore"):
    check(SMALL[:4] + LARGE, 2, False, 1)
    check(SMALL, 3, True, 6)
    check(SMALL[2:], 1, False, 2)
print("ok")
"""


@pytest.mark.parametrize("cls", SUMMED)
def test_same_bits_as_the_cpu(cls):
    assert python(CODE, cls.__name__, NUMBA_ENABLE_CUDASIM="1").strip() == "ok"
