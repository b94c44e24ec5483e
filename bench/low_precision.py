"""Steps in low precision: Adam on 50 million parameters in one array, in each setting, beside what others take."""

from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numba
import numpy as np

import fastoptim
from bench.calls import Calls, Way
from bench.workloads import WORKLOADS

LR, CLIP_NORM = 1e-3, 1.0


def numbers(dtype: str, factor: float = 1.0) -> Any:
    """Random numbers of a dtype, which repeat themselves."""
    import ml_dtypes  # not everybody has it, and registers the name bfloat16

    assert ml_dtypes.bfloat16
    drawn = np.random.default_rng(0).standard_normal(2**20, np.float32) * np.float32(factor)
    return np.resize(drawn, WORKLOADS["flat_50m"].size).astype(dtype)


def ours(param: str, grad: str, shadow: str = "", **options: Any) -> Calls:
    """Our Adam on an array of a dtype, and a gradient; `shadow` is the dtype of what it is rounded to."""
    params, grads = {"w": numbers(param)}, {"w": numbers(grad, 0.01)}
    opt, copies = fastoptim.Adam(LR, **options), {"w": numbers(shadow)} if shadow else None
    return Calls(lambda: opt.update(params, grads, shadow=copies) if copies else opt.update(params, grads))


def in_passes(library: str) -> Calls:
    """What others do for a bfloat16 gradient and copy of float32 parameters: cast, clip, step, cast."""
    torch: Any = import_module("torch")
    torch.set_num_threads(numba.get_num_threads())
    param, grad = torch.from_numpy(numbers("float32")), torch.from_numpy(numbers("float32", 0.01)).bfloat16()
    copy, param.grad = param.bfloat16(), torch.empty_like(param)
    if library == "torch":
        step = torch.optim.AdamW([param], LR, weight_decay=0.0, fused=True).step
    else:
        step = import_module("deepspeed.ops.adam").DeepSpeedCPUAdam([param], LR, weight_decay=0.0).step

    def one_step() -> None:
        param.grad.copy_(grad)
        torch.nn.utils.clip_grad_norm_([param], CLIP_NORM)
        step()
        copy.copy_(param)

    return Calls(one_step)


HALF = "bfloat16", "bfloat16"
SINGLE = "float32", "float32"
SETTINGS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "50M": (SINGLE, {}),
    "50M, all bfloat16": (HALF, {"state_dtype": "bfloat16"}),
    "50M, bfloat16, stochastic": (HALF, {"rounding": "stochastic"}),
    "50M, bfloat16, kahan": (HALF, {"rounding": "kahan"}),
    "50M, bfloat16, master": (HALF, {"master": "float32"}),
    "50M, 8 bits": (SINGLE, {"state_dtype": "8bit"}),
    "50M, 8 bits, nearest": (SINGLE, {"state_dtype": "8bit", "rounding": "nearest"}),
    "50M, clipped": (SINGLE, {"clip_norm": CLIP_NORM}),
    "50M, clipped, bfloat16 gradients and shadow": (("float32", *HALF), {"clip_norm": CLIP_NORM}),
}
OTHERS = {"PyTorch": "torch", "DeepSpeed": "deepspeed"}
LOW_PRECISION = {name: Way(partial(ours, *dtypes, **options)) for name, (dtypes, options) in SETTINGS.items()}
LOW_PRECISION |= {
    f"{name}, 50M, clipped, bfloat16 gradients and copy": Way(partial(in_passes, library))
    for name, library in OTHERS.items()
    if find_spec(library)
}
