"""What is refused of gradients of some rows."""

from collections.abc import Collection, Mapping
from typing import Any

from fastoptim.arrays.info import TensorInfo
from fastoptim.arrays.rows import Rows
from fastoptim.kernels.idle import MOST, NOT_LINEAR, MatrixOf
from fastoptim.kernels.storage import computed_in
from fastoptim.settings.algorithm import Algorithm
from fastoptim.settings.plan import Plan
from fastoptim.state.store import StateStore


def check_rows(rows: Mapping[Any, Rows], values: Mapping[Any, TensorInfo], params: Mapping[Any, TensorInfo]) -> None:
    """Refuse gradients of rows that do not fit their parameters.

    Args:
        rows: by name.
        values: what their values are.
        params: all parameters of the call.

    Raises:
        IndexError, TypeError, ValueError
    """
    for name, grad in rows.items():
        what, param, given = f"grads[{name!r}]: Rows", params[name], values[name]
        if (param.device is None) != (given.device is None):
            expected = "an array of NumPy" if param.device is None else "an array on the GPU"
            raise TypeError(
                f"{what}: values: expected {expected}, as its parameter is, got {type(grad.values).__name__}"
            )
        if given.size and given.device != param.device:
            raise ValueError(f"{what}: values: expected GPU {param.device}, where its parameter is, got {given.device}")
        if param.device is not None and computed_in(given.dtype) != computed_in(param.dtype):
            raise TypeError(
                f"{what}: values: expected float64 only beside a parameter of it on a GPU, which is {param.dtype}; "
                f"got {given.dtype}"
            )
        if param.device is not None and not given.is_aligned:
            raise ValueError(f"{what}: values: expected an address that is a multiple of {given.dtype.itemsize}")
        if not param.shape:
            raise ValueError(f"{what}: expected an array of the shape (), as its parameter has no rows")
        if not param.is_aligned:
            raise ValueError(f"params[{name!r}]: expected it to be aligned beside a gradient of some rows")
        if not param.is_dense(tuple(range(len(param.shape)))):
            raise ValueError(
                f"params[{name!r}]: expected it to be C-contiguous beside a gradient of some rows, got strides "
                f"{param.strides} of the shape {param.shape}"
            )
        if given.shape[1:] != param.shape[1:]:
            raise ValueError(f"{what}: values: expected the shape (k, *{param.shape[1:]}), got {given.shape}")
        if len(grad.indices) and not 0 <= grad.indices.min() <= grad.indices.max() < param.shape[0]:
            outside = grad.indices[(grad.indices < 0) | (grad.indices >= param.shape[0])][0]
            raise IndexError(f"{what}: indices: expected numbers in [0, {param.shape[0]}), got {outside}")
        if given.size and given.address == param.address:
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
            "a captured graph would repeat the rows of one call (capturable)": plan.capturable,
            "sparse='catch_up' is for the CPU": plan.catches_up and param.device is not None,
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
