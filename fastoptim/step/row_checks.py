"""What is refused of gradients of some rows."""

from collections.abc import Collection, Mapping
from typing import Any

from fastoptim.arrays.info import TensorInfo
from fastoptim.arrays.rows import Rows
from fastoptim.kernels.idle import MOST, NOT_LINEAR, MatrixOf
from fastoptim.settings.algorithm import Algorithm
from fastoptim.settings.plan import Plan
from fastoptim.state.store import StateStore


def check_rows(rows: Mapping[Any, Rows], params: Mapping[Any, TensorInfo]) -> None:
    """Refuse gradients of rows that do not fit their parameters.

    Args:
        rows: by name.
        params: all parameters of the call.

    Raises:
        IndexError, TypeError, ValueError
    """
    for name, grad in rows.items():
        what, param = f"grads[{name!r}]: Rows", params[name]
        if param.device is not None:
            raise TypeError(f"{what}: expected an array on the GPU, as gradients of some rows are for the CPU")
        if not param.shape:
            raise ValueError(f"{what}: expected an array of the shape (), as its parameter has no rows")
        if not param.is_aligned:
            raise ValueError(f"params[{name!r}]: expected it to be aligned beside a gradient of some rows")
        if not param.is_dense(tuple(range(len(param.shape)))):
            raise ValueError(
                f"params[{name!r}]: expected it to be C-contiguous beside a gradient of some rows, got strides "
                f"{param.strides} of the shape {param.shape}"
            )
        if grad.values.shape[1:] != param.shape[1:]:
            raise ValueError(f"{what}: values: expected the shape (k, *{param.shape[1:]}), got {grad.values.shape}")
        if len(grad.indices) and not 0 <= grad.indices.min() <= grad.indices.max() < param.shape[0]:
            outside = grad.indices[(grad.indices < 0) | (grad.indices >= param.shape[0])][0]
            raise IndexError(f"{what}: indices: expected numbers in [0, {param.shape[0]}), got {outside}")
        if grad.values.size and grad.values.ctypes.data == param.address:
            raise ValueError(f"{what}: values: expected an array apart from params[{name!r}], not the same memory")


def check_options_of_rows(
    algorithm: Algorithm,
    plan: Plan,
    store: StateStore,
    params: Mapping[Any, TensorInfo],
    are_dense: Collection[Any],
) -> None:
    """Refuse what a step cannot do with gradients of some rows of these parameters.

    Args:
        algorithm: the optimizer.
        plan: what its options come to.
        store: its state.
        params: what the parameters are.
        are_dense: names whose gradients are of all rows, which had others before.

    Raises:
        TypeError
    """
    owner = type(algorithm).__name__
    for name, param in params.items():
        computed = param.as_computed
        why = {
            f"{owner} sums over arrays before its rule": len(plan.stages) > 1,
            "statistics are of all elements": bool(plan.statistics),
            f"{owner} updates matrices by a function": algorithm.is_matrix(name, param.shape),
            "its state of 8 bits is in blocks": store.format.has_codes(computed.dtype, computed.size),
            "random rounding counts the elements of whole arrays": plan.fused.stochastic,
        }
        if plan.catches_up and not any(why.values()):
            fused, last = plan.fused, plan.stages[-1]
            why |= {
                f"it has more than {MOST} numbers an element, which is all that sparse='catch_up' can do": (
                    1 + len(last.slots) + fused.ema > MOST
                ),
                "a shadow would be behind with sparse='catch_up'": plan.shadows,
                "bounds are no product, as sparse='catch_up' needs": fused.bounds,
                "sparse='catch_up' does not know what is lost of a step": plan.is_kahan and param.is_half,
            }
            if not any(why.values()):
                made, matrix_of = (0, 1, 9, 999), MatrixOf(last)
                rows = plan.rows_of(algorithm, 0, 0, made, 1.0, type(algorithm).carry)
                why[f"with sparse='catch_up': {NOT_LINEAR.format(owner)}"] = any(
                    matrix_of(row) is None for _, row, _ in rows
                )
        for text in [text for text, is_so in why.items() if is_so]:
            found = "an array, after Rows in another call" if name in are_dense else "Rows"
            raise TypeError(f"grads[{name!r}]: expected a gradient of all rows, as {text}; got {found}")
