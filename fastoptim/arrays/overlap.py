"""Whether arrays share memory: the one check, for the host and for GPUs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastoptim.arrays.info import TensorInfo

# np.shares_memory solves a hard problem for odd strides; past this many candidates the arrays count as sharing.
OVERLAP_WORK = 100_000


def check_apart(
    names: Sequence[Any], params: Sequence[TensorInfo], grads: Sequence[TensorInfo], zeroing: bool = False,
    labels: tuple[str, str] = ("params", "grads"), *, may_be_same: bool = True,
) -> None:  # fmt: skip
    """Refuse parameters that share memory with each other, or with a gradient that is not the parameter itself.

    Where gradients are set to zero (`zeroing`), refuse gradients that share memory with anything at all.

    Args:
        names: of the parameters.
        params: where they are, or other arrays that are written.
        grads: where the gradients are, or others.
        zeroing: whether gradients are set to zero.
        labels: what both are called in errors.
        may_be_same: whether a gradient may be its parameter itself.

    Raises:
        ValueError: it names the two arrays.
    """
    count = len(params)
    infos = [*params, *grads]
    extents = [info.extent for info in infos]
    current: list[int] = []  # those that end after the place that the sweep has come to
    for i in sorted((i for i, info in enumerate(infos) if info.size), key=lambda i: extents[i]):
        current = [j for j in current if extents[j][1] > extents[i][0]]
        for j in current:
            first, second = min(i, j), max(i, j)
            is_own = may_be_same and second == first + count and infos[second].has_elements_of(infos[first])
            if not zeroing and (first >= count or is_own):
                continue
            if _share(infos[first], infos[second]):
                found = [f"{labels[k >= count]}[{names[k % count]!r}]" for k in (first, second)]
                why = ", as gradients are set to zero" * zeroing
                raise ValueError(f"{found[0]} and {found[1]} share memory: expected arrays apart{why}")
        current.append(i)


def overlaps_itself(info: TensorInfo) -> bool:
    """Whether two indices of an array may be one place in memory, as in a view made by broadcasting."""
    reach = info.dtype.itemsize
    steps = ((abs(stride), size) for stride, size in zip(info.strides, info.shape, strict=True))
    for stride, size in sorted(steps):
        if size > 1:
            if stride < reach:
                return info.size > 0
            reach += stride * (size - 1)
    return False


class _At:
    """For NumPy: an array at an address, which `np.asarray` makes a header for without reading any memory."""

    def __init__(self, info: TensorInfo) -> None:
        self.__array_interface__ = {
            "version": 3, "typestr": info.dtype.str, "shape": info.shape, "strides": info.strides,
            "data": (info.address, True),
        }  # fmt: skip


def _share(a: TensorInfo, b: TensorInfo) -> bool:
    try:
        work: Any = OVERLAP_WORK
        return np.shares_memory(np.asarray(_At(a)), np.asarray(_At(b)), max_work=work)
    except np.exceptions.TooHardError:
        return True
