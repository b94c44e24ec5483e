"""How long an update takes on a GPU, in turn with the ceiling: a copy that moves the same number of bytes.

Events and copies are the driver's own, as fastoptim has it at hand: no contender's library has to be there.
"""

from collections.abc import Callable
from functools import cached_property
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from fastoptim.kernels.cuda.driver import checked, driver

Step = Callable[[], object]

BLOCK = 2**22  # bytes of random numbers that memory is filled with: zeros cost a GPU less power
FILLER = 2**28  # bytes


class Effort(NamedTuple):
    """How long to measure one contender.

    Attributes:
        seconds: for all rounds of one kind together, but for the fewest.
        rounds: the fewest and the most.
        round_seconds: what a round takes, about, by repeating fast steps in it.
        calls: the fewest and the most in a round. The most is far from what a stream's queue holds.
    """

    seconds: float = 1.0
    rounds: tuple[int, int] = (7, 50)
    round_seconds: float = 0.004
    calls: tuple[int, int] = (3, 30)


class Copy:
    """Memory on the GPU, and a copy of it: reading `nbytes / 2`, and writing as many."""

    def __init__(self, nbytes: int, device: "Device") -> None:
        self.nbytes, self._api = max(nbytes // 2, 1) * 2, device.api
        half = self.nbytes // 2
        self._memory = device.allocate(half), device.allocate(half)
        self._source, self._target = (device.address(memory) for memory in self._memory)
        block = np.random.default_rng(0).integers(0, 256, min(BLOCK, half), np.uint8)
        checked(self._api.cuMemcpyHtoD(self._source, block.ctypes.data, block.nbytes))
        filled = block.nbytes
        while filled < half:
            part = min(filled, half - filled)
            checked(self._api.cuMemcpyDtoDAsync(self._source + filled, self._source, part, 0))
            filled += part

    def __call__(self) -> None:
        checked(self._api.cuMemcpyDtoDAsync(self._target, self._source, self.nbytes // 2, 0))


class Device:
    """The current GPU: memory, events on the default stream."""

    def __init__(self) -> None:
        from fastoptim.kernels.cuda.arrays import pointer
        from fastoptim.kernels.cuda.memory import cuda

        self._cuda, self.api, self.address = cuda, driver(), pointer
        cuda.current_context()  # makes it this thread's

    def allocate(self, nbytes: int) -> Any:
        """Memory, until what is returned is no longer kept."""
        return self._cuda.device_array((nbytes,), np.uint8)

    def free_memory(self) -> int:
        """Bytes, once what Numba no longer needs is given back: it keeps up to a fifth of the memory for later."""
        context = self._cuda.current_context()
        for owner in context, getattr(context, "memory_manager", None):
            if (pending := getattr(owner, "deallocations", None)) is not None:
                pending.clear()
        return int(checked(self.api.cuMemGetInfo())[0])

    def drain(self) -> None:
        """Wait until all is done."""
        checked(self.api.cuCtxSynchronize())

    def event(self) -> Any:
        """A new one that is recorded now."""
        event = checked(self.api.cuEventCreate(0))
        checked(self.api.cuEventRecord(event, 0))
        return event

    def is_over(self, event: Any) -> bool:
        """Whether the GPU has come to it."""
        return not self.api.cuEventQuery(event)[0]

    def seconds(self, first: Any, last: Any) -> float:
        """Between two events, once the GPU has come to the last."""
        checked(self.api.cuEventSynchronize(last))
        return float(checked(self.api.cuEventElapsedTime(first, last))) / 1e3

    def destroy(self, *events: Any) -> None:
        """Give them back."""
        for event in events:
            checked(self.api.cuEventDestroy(event))

    @cached_property
    def filler(self) -> tuple[Copy, float]:
        """Work that the GPU is given first, so that the host is ahead of it afterwards; and how long it takes."""
        copy = Copy(FILLER, self)
        copy()
        start = self.event()
        for _ in range(10):
            copy()
        end = self.event()
        seconds = self.seconds(start, end) / 10
        self.destroy(start, end)
        return copy, seconds


def measure(
    step: Step, copy: Step, device: Device, wait: Step | None = None, effort: Effort | None = None
) -> dict[str, Any]:
    """Measure one contender's step, and the copy in turn with it.

    Args:
        step: makes one update, without waiting for it.
        copy: the ceiling.
        device: where.
        wait: for a contender with streams of its own, which events on the default one know nothing of.
        effort: how long.

    Returns:
        Medians: `host_seconds` in which a call returns, the GPU having nothing to do at the first; `wall_seconds` for
        an update, of calls one after another and waiting for the last; `gpu_seconds` for it with the host ahead, so
        that the GPU alone counts (None where `wait` is needed), `copy_seconds` of the copy, and `of_copy`, its speed
        divided by the copy's in the same round. `host_ahead` is the part of the rounds in which the host was.
    """
    effort, finish = effort or Effort(), wait or device.drain

    def run(calls: int) -> tuple[float, float]:
        finish()
        start = perf_counter()
        for _ in range(calls):
            step()
        called = perf_counter()
        finish()
        return (called - start) / calls, (perf_counter() - start) / calls

    for _ in range(3):  # compiles, allocates, comes to what is the same in every step
        run(1)
    copy()
    pilot = run(effort.calls[0])[1]
    fewest, most = effort.calls
    calls = min(max(fewest, round(effort.round_seconds / pilot)), most)
    hosts, walls = zip(*_rounds(lambda: run(calls), effort), strict=True)
    host = median(hosts)

    def turn() -> tuple[float, float, bool]:
        finish()
        filler, filler_seconds = device.filler
        if wait is None:
            # twice as long as the host will take for what comes after
            for _ in range(min(int(2 * calls * (host + 20e-6) / filler_seconds) + 1, 300)):
                filler()
        start = device.event()
        for _ in range(calls):
            copy()
        middle = device.event()
        if wait is not None:
            copying = device.seconds(start, middle) / calls
            device.destroy(start, middle)
            return copying, run(calls)[1], False
        for _ in range(calls):
            step()
        end = device.event()
        ahead = not device.is_over(middle)
        stepping, copying = device.seconds(middle, end) / calls, device.seconds(start, middle) / calls
        device.destroy(start, middle, end)
        return copying, stepping, ahead

    turns = _rounds(turn, effort)
    return {
        "host_seconds": host,
        "wall_seconds": median(walls),
        "gpu_seconds": None if wait else median(stepping for _, stepping, _ in turns),
        "copy_seconds": median(copying for copying, _, _ in turns),
        "of_copy": median(copying / stepping for copying, stepping, _ in turns),
        "host_ahead": sum(ahead for _, _, ahead in turns) / len(turns),
        "calls": calls,
        "rounds": [len(walls), len(turns)],
    }


def _rounds(turn: Callable[[], Any], effort: Effort) -> list[Any]:
    fewest, most = effort.rounds
    start, found = perf_counter(), [turn()]
    while len(found) < fewest or (len(found) < most and perf_counter() - start < effort.seconds):
        found.append(turn())
    return found
