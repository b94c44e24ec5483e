"""Steps that take milliseconds: beside other threads, and with statistics or gradients of another layout or dtype."""

from collections.abc import Iterator
from functools import partial

import numpy as np

import fastoptim
from bench.calls import Calls, Way, plain_numpy, same_dict
from bench.workloads import WORKLOADS, Workload, mlp
from fastoptim.cli.plain_numpy import PlainNumpy

RESNET50 = WORKLOADS["resnet50"]
TWO_MILLION = Workload("2M", "2,002,000 parameters in 2 arrays", mlp(1000, 2000))
BATCH = 128
SIDES = 100, 1000, 4000


def after_product(calls: Calls) -> Calls:
    """A matrix product before each step: threads of BLAS spin on behind it."""
    shape = TWO_MILLION.shapes[0]
    x, delta = (np.ones((BATCH, width), np.float32) for width in shape)
    return Calls(calls.step, lambda: np.matmul(x.T, delta))


def one_array(side: int, kind: str, *, plain: bool = False) -> Calls:
    """Adam on one square array, whose gradient is `contiguous`, of order `fortran`, or `float64`."""
    random = np.random.default_rng(0)
    params, grad = {"W": np.ones((side, side), np.float32)}, random.standard_normal((side, side), np.float32)
    grads = {"W": {"contiguous": grad, "fortran": np.asfortranarray(grad), "float64": grad.astype(np.float64)}[kind]}
    if not plain:
        opt = fastoptim.Adam()
        return Calls(lambda: opt.update(params, grads))
    numpy = PlainNumpy(fastoptim.Adam(), params)
    # NumPy is faster if it converts the gradient once than if each operation does.
    return Calls(lambda: numpy.update({"W": np.ascontiguousarray(grads["W"], np.float32)}))


def _staged() -> Iterator[tuple[str, Way]]:
    for side in SIDES:
        for kind in "contiguous", "fortran", "float64":
            name = f"{side} x {side}, {kind} gradient"
            yield name, Way(partial(one_array, side, kind), f"NumPy, {name}")
            yield f"NumPy, {name}", Way(partial(one_array, side, kind, plain=True))


LARGE = {
    "2M": Way(lambda: same_dict(TWO_MILLION), "NumPy, 2M"),
    "2M, after a product": Way(lambda: after_product(same_dict(TWO_MILLION)), "NumPy, 2M, after a product"),
    "2M, beside a process": Way(lambda: same_dict(TWO_MILLION), "NumPy, 2M, beside a process", busy=True),
    "ResNet-50": Way(lambda: same_dict(RESNET50)),
    "ResNet-50, nan and inf counted": Way(lambda: same_dict(RESNET50, statistics=("nan", "inf"))),
    "ResNet-50, update norms": Way(lambda: same_dict(RESNET50, statistics=("update_norm",))),
    "ResNet-50, four statistics": Way(
        lambda: same_dict(RESNET50, clip_value=1.0, statistics=("grad_norm", "param_norm", "update_norm", "clipped"))
    ),
    "NumPy, 2M": Way(lambda: plain_numpy(TWO_MILLION)),
    "NumPy, 2M, after a product": Way(lambda: after_product(plain_numpy(TWO_MILLION))),
    "NumPy, 2M, beside a process": Way(lambda: plain_numpy(TWO_MILLION), busy=True),
}
STAGED = dict(_staged())
