"""Copies from the host to a GPU in the order of a stream, of more than `words.write_words` is for."""

from typing import Any

import numpy as np

from fastoptim.kernels.cuda.arrays import pointer
from fastoptim.kernels.cuda.memory import INT64, SIMULATED, Array, cuda


class Upload:
    """Memory for int64 on a device, and two buffers on the host that they are sent from in turn.

    The buffers are pinned, so that a copy waits for nothing. The host waits only where the last copy from the same
    buffer has not happened yet, which is the one before the last.

    Args:
        device: its number.
    """

    def __init__(self, device: int) -> None:
        self._device, self._size, self._turn = device, 0, 0
        self._here: list[Array] = []
        self._sent: list[Any] = [None, None]  # events

    def reserve(self, count: int) -> None:
        """Have memory for so many words."""
        if count > self._size:
            size = count + count // 4
            with cuda.gpus[self._device]:
                here = [cuda.pinned_array(size, INT64) for _ in range(2)]
                self._there = cuda.device_array(size, INT64)
            self._here, self._size, self._sent = here, size, [None, None]

    def words(self, count: int) -> Array:
        """Where to write the next words, on the host: `(count,)`."""
        self.reserve(count)
        self._turn = 1 - self._turn
        if self._sent[self._turn] is not None:
            with cuda.gpus[self._device]:
                self._sent[self._turn].synchronize()
        return self._here[self._turn][:count]

    def send(self, count: int, stream: int) -> int:
        """Copy the words that were written last to the device, in the order of a stream. Return their address there."""
        if not count:
            return 0
        with cuda.gpus[self._device]:
            # Numba would wait where the default stream is given as 0.
            own = 0 if SIMULATED else cuda.external_stream(stream)
            self._there[:count].copy_to_device(self._here[self._turn][:count], stream=own)
            if self._sent[self._turn] is None:
                self._sent[self._turn] = cuda.event() if SIMULATED else cuda.event(timing=False)
            self._sent[self._turn].record(own)
        return pointer(self._there)


def words_of(nbytes: int) -> int:
    """How many words so many bytes take."""
    return -(-nbytes // INT64.itemsize)


def sent_together(upload: Upload, arrays: list[Array], stream: int) -> list[int]:
    """Send arrays of the host, each beginning at a word. Return their addresses on the device."""
    counts = [words_of(array.nbytes) for array in arrays]
    starts = np.cumsum([0, *counts]).tolist()
    words = upload.words(starts[-1])
    for array, start in zip(arrays, starts, strict=False):
        words[start:].view(array.dtype)[: array.size] = array.reshape(-1)
    address = upload.send(starts[-1], stream)
    return [address + start * INT64.itemsize for start in starts[:-1]]
