"""Staged copies: dense copies of arrays that kernels cannot walk as they lie, made before the pass and put back after.

A gradient is staged where it lies in another order than its parameter or has another dtype; a parameter where it has
gaps or its axes run backwards.
"""

import ctypes
from typing import Any, NamedTuple

import numpy as np

from fastoptim.arrays.info import TensorInfo
from fastoptim.arrays.layout import view_of
from fastoptim.arrays.memory import ALIGNMENT, Array
from fastoptim.kernels.copy import Copy, Side, can_copy
from fastoptim.kernels.cpu import SERIAL_LIMIT
from fastoptim.kernels.launch import Launches

Arrays = tuple[Any, ...]


def set_cell(cell: int, address: int) -> None:
    """Write into the int64 at an address."""
    ctypes.c_int64.from_address(cell).value = address


class Scratch:
    """Memory that all steps of an optimizer share, as they run one after another. It grows when a step needs more."""

    def __init__(self) -> None:
        self._bytes = np.zeros(0, np.uint8)
        self._start = 0

    @property
    def address(self) -> int:
        """Where it begins, at a cache line. It moves when it grows."""
        return int(self._bytes.ctypes.data) + self._start

    def reserve(self, size: int) -> None:
        """Have so many bytes."""
        if self._bytes.nbytes < size + ALIGNMENT:
            self._bytes = np.empty(size + ALIGNMENT, np.uint8)
            self._start = -int(self._bytes.ctypes.data) % ALIGNMENT

    def view(self, offset: int, size: int, dtype: np.dtype[Any]) -> Array:
        """A 1-D array in it, from so many bytes on."""
        start = self._start + offset
        return self._bytes[start : start + size * dtype.itemsize].view(dtype)

    def __reduce__(self) -> tuple[Any, ...]:  # its numbers last no longer than a step
        return Scratch, ()


class Staged(NamedTuple):
    """One array and its dense copy.

    Attributes:
        number: of the parameter.
        is_param: whether the array is a parameter, which is put back, or a gradient.
        shape, dtype, axes: of the copy, whose axes lie in this order.
        offset: bytes from the beginning of the scratch memory to the copy.
        cell: address of the int64 that gets the copy's address.
        gather, scatter: compiled copies there and back; None where NumPy has to copy.
    """

    number: int
    is_param: bool
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: tuple[int, ...]
    offset: int
    cell: int
    gather: Copy | None
    scatter: Copy | None


class StagedCopies:
    """All staged copies of a step."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch, self._size = scratch, 0
        self._copies: list[Staged] = []
        self._cells: list[Array] = []
        self._gather = self._scatter = Launches([], SERIAL_LIMIT)
        self._address = 0  # of the scratch memory, when it was written into the cells

    def __bool__(self) -> bool:
        return bool(self._copies)

    def new_cell(self) -> int:
        """The address of a new int64."""
        self._cells.append(np.zeros(1, np.int64))
        return int(self._cells[-1].ctypes.data)

    def add(
        self, index: int, source: int, info: TensorInfo, target: int, dtype: np.dtype[Any], axes: tuple[int, ...],
        *, is_param: bool,
    ) -> None:  # fmt: skip
        """Stage an array.

        Args:
            index: the number of the parameter.
            source: address of the int64 that has the array's address.
            info: what the array is.
            target: address of the int64 that gets the copy's address.
            dtype: of the copy.
            axes: the order in which the copy's lie.
            is_param: whether the copy is put back after the pass.
        """
        gather = scatter = None
        if info.is_aligned and can_copy(info.dtype, dtype):
            itemsize = dtype.itemsize
            there = Side(dtype, view_of(np.empty(info.size, np.uint8), info.shape, axes).strides, target)
            there = there._replace(strides=tuple(itemsize * stride for stride in there.strides))
            here = Side(info.dtype, info.strides, source)
            gather = Copy(info.shape, here, there)
            scatter = Copy(info.shape, there, here) if is_param else None
        self._copies.append(Staged(index, is_param, info.shape, dtype, axes, self._size, target, gather, scatter))
        self._size += info.size * dtype.itemsize
        self._size += -self._size % ALIGNMENT

    def in_order(self, index: int, source: int, info: TensorInfo, dtype: np.dtype[Any]) -> int:
        """The cell with the address of a gradient's C-contiguous copy: the one that there is, or a new one."""
        in_order = tuple(range(len(info.shape)))
        for staged in self._copies:
            if (staged.number, staged.is_param, staged.axes) == (index, False, in_order):
                return staged.cell
        cell = self.new_cell()
        self.add(index, source, info, cell, dtype, in_order, is_param=False)
        return cell

    def compile(self) -> None:
        """Have everything ready, so that the copies cannot fail."""
        self._gather = Launches([each.gather.launch() for each in self._copies if each.gather], SERIAL_LIMIT)
        self._scatter = Launches([each.scatter.launch() for each in self._copies if each.scatter], SERIAL_LIMIT)
        self._gather.compile()
        self._scatter.compile()

    def gather(self, params: Arrays, grads: Arrays) -> None:
        """Make all copies of these arrays."""
        if not self._copies:
            return
        self._scratch.reserve(self._size)
        if self._scratch.address != self._address:
            self._address = self._scratch.address
            for staged in self._copies:
                set_cell(staged.cell, self._address + staged.offset)
        self._gather.run()
        for staged in self._copies:
            if staged.gather is None:
                array = (params if staged.is_param else grads)[staged.number]
                with np.errstate(all="ignore"):  # what overflows in a conversion is inf, as in a kernel
                    np.copyto(self._view(staged), array, casting="same_kind")

    def scatter(self, params: Arrays, grads: Arrays, zero_grads: bool) -> None:
        """Put the parameters back; set the gradients to zero if the pass did that to their copies."""
        self._scatter.run()
        for staged in self._copies:
            if staged.is_param and staged.scatter is None:
                np.copyto(params[staged.number], self._view(staged))
            elif not staged.is_param and zero_grads:
                grads[staged.number][...] = 0

    def _view(self, staged: Staged) -> Array:
        size = int(np.prod(staged.shape, dtype=np.int64))
        view: Array = view_of(self._scratch.view(staged.offset, size, staged.dtype), staged.shape, staged.axes)
        return view
