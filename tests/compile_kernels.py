"""Compile a share of what most test modules need into numba's cache: `compile_kernels.py SHARE SHARES`.

Run by conftest.py before several processes begin, which would otherwise compile the same kernels at the same time.
"""

import sys

import numpy as np

import fastoptim
from fastoptim import Adam
from references import EVERYTHING, SEVERAL
from support import DTYPES, FEW, OPTIMIZERS, WITH_KERNELS, has_public_kernel, scalars_of_step
from variants import accepted

SMALL, LARGE = 3, 40_000  # elements, for one thread and for several


def update(cls, dtype, size, options):
    params = {"p": np.ones(size, dtype)}
    opt = cls(**accepted(cls, {**options, "groups": None, "accumulate": 1, "frozen": ()}))
    for _ in range(2):
        opt.update(params, {"p": np.ones(size, dtype)})


def public_kernels(cls, dtype):
    p, state = np.ones(SMALL, dtype), np.zeros((len(cls.slots), SMALL), dtype)
    scalars = scalars_of_step(cls(), 1)
    for which in "cpu", "cpu_serial":
        if has_public_kernel(cls, dtype, which):
            getattr(cls.kernels, which)(p, p.copy(), state, scalars)


WORK = [(update, (cls, dtype, SMALL, {})) for cls in OPTIMIZERS for dtype in DTYPES]
WORK += [(update, (cls, np.float32, SMALL, options)) for cls in FEW for options in SEVERAL.values()]
WORK += [(update, (cls, np.float32, SMALL, EVERYTHING)) for cls in OPTIMIZERS]
WORK += [(update, (Adam, np.float64, SMALL, EVERYTHING)), (update, (Adam, np.float32, LARGE, {}))]
WORK += [(public_kernels, (cls, dtype)) for cls in WITH_KERNELS for dtype in DTYPES]

if __name__ == "__main__":
    share, shares = map(int, sys.argv[1:])
    assert fastoptim.__file__
    for function, arguments in WORK[share::shares]:
        function(*arguments)
