"""Who takes part on the GPU: functions from host arrays to a step of float32 Adam. Nothing is imported before."""

import gc
import os
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import cycle
from math import prod
from typing import Any, NamedTuple

import numpy as np

import fastoptim
from bench.counterparts import counterpart
from bench.gpu_checks import SkippedError
from bench.workloads import WORKLOADS, Arrays, Workload

Step = Callable[[], object]

LARGEST = 2**28  # parameters of the flat workload
BYTES = 64  # of memory for a parameter: 28 that the copy takes, 28 for the contender that takes most, some for pools
SPARE = 2**31  # bytes: contexts, libraries, the filler
MOVED = 7 * 4  # bytes that an update moves for a parameter: p, m and v are read and written, g is read
ADAM = fastoptim.Adam
DEVICE = "cuda"  # what torch knows it by


class Made(NamedTuple):
    """A contender that is ready.

    Attributes:
        step: makes one update, without waiting for it.
        wait: waits for all updates, where waiting for the default stream is not enough.
    """

    step: Step
    wait: Step | None = None


def flat_size(free: int) -> int:
    """How many parameters the flat workload has: the largest power of two for the bytes that are free, up to 2^28."""
    size = LARGEST
    while size > 2**16 and BYTES * size + SPARE > free:
        size //= 2
    return size


def workloads(free: int) -> dict[str, Workload]:
    """What is updated, where so many bytes are free."""
    size = flat_size(free)
    flat = Workload(f"2^{size.bit_length() - 1} flat", f"{size:,} parameters in one array", [(size,)])
    return {"flat": flat, "resnet50": WORKLOADS["resnet50"], "rl_mlp": WORKLOADS["rl_mlp"]}


def host_arrays(work: Workload, seed: int) -> Arrays:
    """Random numbers of a workload's shapes. In large arrays they repeat: to draw a billion takes too long."""
    block = np.random.default_rng(seed).standard_normal(2**20, np.float32)
    return {f"array{i}": np.resize(block, prod(shape)).reshape(shape) for i, shape in enumerate(work.shapes)}


def _converter(library: str) -> Callable[[Any], Any]:
    if library == "torch":
        return partial(import_module("torch").tensor, device=DEVICE)
    if library == "cupy":
        convert: Callable[[Any], Any] = import_module("cupy").asarray
        return convert
    from fastoptim.kernels.cuda.memory import cuda

    to_device: Callable[[Any], Any] = cuda.to_device
    return to_device


def ours_flat(is_bfloat16: bool = False, **options: Any) -> Callable[[Workload], Made]:
    """Flat buffers of float32, or of bfloat16."""

    def make(work: Workload) -> Made:
        from fastoptim.arrays.gpu import GPU

        dtype: Any = import_module("ml_dtypes").bfloat16 if is_bfloat16 else np.float32
        host = {name: array.astype(dtype) for name, array in host_arrays(work, 0).items()}
        params = fastoptim.flatten(host, device="cuda")
        grads = params.zeros_like()
        flat = np.concatenate([grad.reshape(-1) for grad in host_arrays(work, 1).values()])
        GPU.write(grads.buffer, flat.astype(dtype))
        return Made(partial(ADAM(**options).update, params, grads))

    return make


def ours(library: str, sets: int = 1) -> Callable[[Workload], Made]:
    """Dicts of a library's arrays. The gradients are the same arrays in every step, or take turns."""

    def make(work: Workload) -> Made:
        convert = _converter(library)
        params, *grads = (
            {name: convert(array) for name, array in host_arrays(work, seed).items()} for seed in range(1 + sets)
        )
        update = ADAM().update
        if sets == 1:
            return Made(partial(update, params, grads[0]))
        turns = cycle(grads)
        return Made(lambda: update(params, next(turns)))

    return make


def torch(implementation: str) -> Callable[[Workload], Made]:
    """PyTorch: `fused`, kernels for many arrays at once, or `foreach`, one operation at a time on lists of arrays."""

    def make(work: Workload) -> Made:
        convert = _converter("torch")
        tensors = [convert(array).requires_grad_() for array in host_arrays(work, 0).values()]
        for tensor, grad in zip(tensors, host_arrays(work, 1).values(), strict=True):
            tensor.grad = convert(grad)
        return Made(counterpart(ADAM(), "torch").make(tensors, **{implementation: True}).step)

    return make


CUPY_ADAM = "m += a * (g - m); v += b * (g * g - v); p -= s * m / (sqrt(v) + eps)"


def cupy(work: Workload) -> Made:
    """CuPy: the formula in one kernel of one's own, called for each array."""
    library: Any = import_module("cupy")
    kernel = library.ElementwiseKernel(
        "float32 g, float32 a, float32 b, float32 s, float32 eps", "float32 p, float32 m, float32 v", CUPY_ADAM, "adam"
    )
    params, grads = ([library.asarray(x) for x in host_arrays(work, seed).values()] for seed in range(2))
    own = [(g, p, library.zeros_like(p), library.zeros_like(p)) for p, g in zip(params, grads, strict=True)]
    h, t = ADAM(), 0

    def step() -> None:
        nonlocal t
        t += 1
        size = h.lr * (1 - h.beta2**t) ** 0.5 / (1 - h.beta1**t)
        for g, p, m, v in own:
            kernel(g, 1 - h.beta1, 1 - h.beta2, size, h.eps, p, m, v)

    return Made(step)


def optax(work: Workload) -> Made:
    """Optax under jit: one compiled function that may write into the memory of the parameters and state it is given."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # it would take most of the GPU's memory
    jax: Any = import_module("jax")
    library: Any = import_module("optax")
    if jax.default_backend() != "gpu":
        raise SkippedError(f"jax is installed for {jax.default_backend()!r} alone")
    transformation = counterpart(ADAM(), "optax").make()
    params, grads = (jax.tree.map(jax.numpy.array, host_arrays(work, seed)) for seed in range(2))
    state = transformation.init(params)

    def update(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        changes, state = transformation.update(grads, state, params)
        return library.apply_updates(params, changes), state

    compiled = jax.jit(update, donate_argnums=(0, 1))

    def step() -> None:
        nonlocal params, state
        params, state = compiled(params, state, grads)

    return Made(step, lambda: jax.block_until_ready((params, state)))


class Contender(NamedTuple):
    """One way to make a step.

    Attributes:
        title: its name in tables.
        packages: those that it needs.
        make: makes it.
        moved: the bytes that it moves for a parameter.
    """

    title: str
    packages: tuple[str, ...]
    make: Callable[[Workload], Made]
    moved: int = MOVED


HALVES = ours_flat(is_bfloat16=True, state_dtype="bfloat16")
TABLE = {
    "fastoptim-flat": Contender("fastoptim flat", (), ours_flat()),
    "fastoptim-bf16": Contender("fastoptim flat, all bfloat16", ("ml_dtypes",), HALVES, 7 * 2),
    "fastoptim-8bit": Contender("fastoptim flat, state of 8 bits", (), ours_flat(state_dtype="8bit"), 3 * 4 + 4),
    "fastoptim": Contender("fastoptim dict (Numba arrays)", (), ours("numba")),
    "fastoptim-torch": Contender("fastoptim dict (torch tensors)", ("torch",), ours("torch")),
    "fastoptim-cupy": Contender("fastoptim dict (CuPy arrays)", ("cupy",), ours("cupy")),
    "fastoptim-turns": Contender("fastoptim dict, other gradients each step", ("torch",), ours("torch", 2)),
    "torch-fused": Contender("torch fused", ("torch",), torch("fused")),
    "torch-foreach": Contender("torch foreach", ("torch",), torch("foreach")),
    "cupy": Contender("CuPy, a kernel of one's own", ("cupy",), cupy),
    "optax": Contender("Optax under jit", ("optax", "jax"), optax),  # the last: jax does not give memory back
}
CONTENDERS = {name: each for name, each in TABLE.items() if all(map(find_spec, each.packages))}


def release() -> None:
    """Give back what the last contender had."""
    gc.collect()
    if torch_module := sys.modules.get("torch"):
        torch_module.cuda.empty_cache()
    if cupy_module := sys.modules.get("cupy"):
        cupy_module.get_default_memory_pool().free_all_blocks()
