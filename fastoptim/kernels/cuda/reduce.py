"""The norm of all gradients on a GPU, and clip_coef: the sums of `norm`, in the same order. Both stay on the GPU."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numba import types

from fastoptim.kernels.cuda.arrays import pointer
from fastoptim.kernels.cuda.launch import Loaded
from fastoptim.kernels.cuda.memory import INT64, SIMULATED, Array, cuda, device_function, reader, writer
from fastoptim.kernels.cuda.numbers import element_loader
from fastoptim.kernels.cuda.words import write_words
from fastoptim.kernels.reduce import BLOCK, LANES, LARGEST, SMALLER, storage_order
from fastoptim.kernels.reduce import clip_coef as clip_coef_of
from fastoptim.kernels.storage import Storage

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
THREADS = 2 if SIMULATED else LANES  # in a block; the simulator starts a thread of Python for each
BLOCKS = 4096

# Columns of a table with a row for each array: its address, its elements, and the number of its first block.
ADDRESS, SIZE, FIRST = range(3)
ROW = 3 * 8

# Bytes in the result: the norm as float64, then clip_coef in either dtype.
CLIP_COEF = {FLOAT32: 8, FLOAT64: 16}


@device_function
def add_pairwise(lanes: Any, sums: Any) -> None:
    """Add the lanes of each of `sums` sums, which lie one behind another, as `norm` does; each is in its first lane."""
    half = LANES >> 1
    while half:
        cuda.syncthreads()
        lane = cuda.threadIdx.x
        while lane < half:
            for first in range(0, sums * LANES, LANES):
                lanes[first + lane] += lanes[first + lane + half]
            lane += cuda.blockDim.x
        half >>= 1
    cuda.syncthreads()


def sum_kernel(own: Storage) -> tuple[Callable[..., None], tuple[Any, ...]]:
    """The kernel that fills the sums of arrays of a storage, and the numba types of its arguments."""
    load, words, write = element_loader((own,), 1), reader(INT64, 3), writer(FLOAT64)
    wide = own.computed == FLOAT64

    def sum_blocks(table: Any, rows: Any, sums: Any, start: Any, stop: Any) -> None:
        lanes = cuda.shared.array(LANES, types.float64)
        smaller = cuda.shared.array(LANES, types.float64)
        block = start + cuda.blockIdx.x
        while block < stop:
            low, high = 0, rows - 1
            while low < high:  # the last row that begins no later
                middle = (low + high + 1) >> 1
                if words(table + middle * ROW)[2] > block:
                    high = middle - 1
                else:
                    low = middle
            address, size, first = words(table + low * ROW)
            done = (block - first) * BLOCK
            end = min(size - done, BLOCK)
            lane = cuda.threadIdx.x
            while lane < LANES:
                total, small = 0.0, 0.0
                i = lane
                while i < end:
                    value = float(load((address,), done + i, ())[0][0])  # float64
                    total += value * value
                    if wide:
                        small += (value * SMALLER) * (value * SMALLER)
                    i += LANES
                lanes[lane], smaller[lane] = total, small
                lane += cuda.blockDim.x
            add_pairwise(lanes, 1)
            if wide:
                add_pairwise(smaller, 1)
            if cuda.threadIdx.x == 0:
                write(sums + block * 16, lanes[0])
                write(sums + block * 16 + 8, smaller[0] if wide else 0.0 * float(lanes[0]))
            cuda.syncthreads()
            block += cuda.gridDim.x

    return sum_blocks, (types.int64,) * 5


def finish_kernel() -> tuple[Callable[..., None], tuple[Any, ...]]:
    """The kernel that makes norm and clip_coef of the sums, and the numba types of its arguments."""
    read, write, write32 = reader(FLOAT64, 1), writer(FLOAT64), writer(FLOAT32)

    def finish(sums: Any, count: Any, out: Any, numbers: Any) -> None:
        limit, divisor = numbers
        lanes = cuda.shared.array(LANES, types.float64)
        smaller = cuda.shared.array(LANES, types.float64)
        lane = cuda.threadIdx.x
        while lane < LANES:
            total, small = 0.0, 0.0
            i = lane
            while i < count:
                total += read(sums + i * 16)[0]
                small += read(sums + i * 16 + 8)[0]
                i += LANES
            lanes[lane], smaller[lane] = total, small
            lane += cuda.blockDim.x
        add_pairwise(lanes, 1)
        add_pairwise(smaller, 1)
        if cuda.threadIdx.x == 0:
            norm = math.sqrt(lanes[0])
            if not math.isfinite(lanes[0]) and math.isfinite(smaller[0]):
                norm = min(math.sqrt(smaller[0]) / SMALLER, LARGEST)
            norm /= divisor
            clip_coef = np.float64(clip_coef_of(norm, limit))
            write(out, norm)
            write32(out + 8, np.float32(clip_coef))
            write(out + 16, clip_coef)

    return finish, (types.int64, types.int64, types.int64, types.UniTuple(types.float64, 2))


@cache
def _sum(own: Storage, device: int) -> Loaded:
    return Loaded(*sum_kernel(own), device)


@cache
def _finish(device: int) -> Loaded:
    return Loaded(*finish_kernel(), device)


class DeviceNorm:
    """The norm of arrays on a GPU.

    Args:
        arrays: elements and storage of each, in the order in which those of one storage are added.
        device: the number of the device that they are on.
    """

    def __init__(self, arrays: Sequence[tuple[int, Storage]], device: int) -> None:
        self._device, self._room = device, 0
        self._device_table = cuda.to_device(np.zeros((max(len(arrays), 1), 3), np.int64))
        self._result = cuda.to_device(np.zeros(3))
        self._numbers = np.zeros(2)
        self.resize(arrays)

    def resize(self, arrays: Sequence[tuple[int, Storage]]) -> None:
        """Have as many arrays, perhaps of other sizes. What is computed stays where it was."""
        self._order: list[int] = []  # the index of the array that each row of the table is for
        self._parts: list[tuple[Loaded, int, Array]] = []  # for each storage: kernel, first row, arguments
        first, rows = 0, list[tuple[int, int, int]]()
        for storage in storage_order(own for _, own in arrays):
            start, begin = len(rows), first
            for i, (size, own) in enumerate(arrays):
                if own == storage and size:
                    self._order.append(i)
                    rows.append((0, size, first))
                    first += -(-size // BLOCK)
            if first > begin:
                words = np.array([0, len(rows) - start, 0, begin, first], np.int64)
                self._parts.append((_sum(storage, self._device), start, words))
        self._table = np.array(rows, np.int64).reshape(-1, 3)
        if first > self._room or not self._room:
            room = first + first // 4 + 1
            with cuda.gpus[self._device]:
                self._sums = cuda.device_array((room, 2), FLOAT64)
            self._room = room
        self._end = np.array([pointer(self._sums), first, pointer(self._result)], np.int64)
        for _, start, words in self._parts:
            words[0] = pointer(self._device_table) + start * ROW
            words[2] = pointer(self._sums)

    def clip_coef(self, dtype: np.dtype[Any]) -> int:
        """The address of clip_coef, the number that gradients are multiplied by, in a dtype of computation."""
        return pointer(self._result) + CLIP_COEF[dtype]

    def launch(self, addresses: Sequence[int], limit: float, divisor: float, stream: int) -> None:
        """Compute the norm of the arrays at these addresses, divided by `divisor`, in the order of the stream."""
        self._table[:, ADDRESS] = [addresses[i] for i in self._order]
        if self._order:
            write_words(pointer(self._device_table), self._table, self._device, stream)
        for loaded, _, words in self._parts:
            blocks = 1 if SIMULATED else min(int(words[4] - words[3]), BLOCKS)
            loaded.launch(blocks, THREADS, stream, words.ctypes.data + np.arange(len(words)) * 8)
        self._numbers[:] = limit, divisor
        where = [*(self._end.ctypes.data + np.arange(3) * 8), *(self._numbers.ctypes.data + np.arange(2) * 8)]
        _finish(self._device).launch(1, THREADS, stream, np.array(where, np.int64))

    def __float__(self) -> float:
        """The norm that was computed last: waits for the GPU."""
        cuda.synchronize()
        return float(self._result.copy_to_host()[0])
