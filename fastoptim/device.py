"""Arrays on a GPU: what `update` refuses of them, and how they are bound to the kernels.

The counterpart of `checks` and `binding`. It is imported when the first array on a GPU is seen.
"""

import struct
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, pairwise
from typing import Any
from weakref import ref

import numpy as np

from fastoptim.binding import Arrangement
from fastoptim.buffers import Array, Layout
from fastoptim.checks import check_gradient_shape, on_device
from fastoptim.device_memory import DEVICE
from fastoptim.kernels.cpu import COLUMNS, GRAD
from fastoptim.kernels.cuda_launch import (
    DeviceArray,
    DeviceScalars,
    Launch,
    advance,
    described,
    device_of,
    pointer,
    stream_address,
    write_words,
)
from fastoptim.kernels.cuda_memory import INT64, cuda
from fastoptim.kernels.cuda_norm import DeviceNorm
from fastoptim.state import State


def check(
    names: Sequence[Any], params: Sequence[Any], grads: Sequence[Any], state: State, zeroing: bool
) -> list[DeviceArray]:
    """Refuse what kernels on a GPU cannot update, or what is not there; or cannot set to zero, if they are to.

    Returns:
        What the parameters are, then the gradients.

    Raises:
        TypeError, ValueError: naming the array, what was found and what was expected.
    """
    labels = [f"params[{name!r}]" for name in names] + [f"grads[{name!r}]" for name in names]
    for label, array in zip(labels, (*params, *grads), strict=True):
        if not on_device(array):
            raise TypeError(f"{label}: expected all arrays on one GPU, as others are; got {type(array).__name__}")
    found = [described(array, label) for label, array in zip(labels, (*params, *grads), strict=True)]
    devices = {device_of(array.address): label for label, array in zip(labels, found, strict=True) if array.nbytes}
    if len(devices) > 1:
        where = " and ".join(f"{label} on GPU {device}" for device, label in devices.items())
        raise ValueError(f"expected all arrays on one GPU, got {where}")
    count = len(names)
    for name, label, param, grad in zip(names, labels[:count], found[:count], found[count:], strict=True):
        if param.read_only:
            raise ValueError(f"{label}: it is read-only, expected a writeable array, as it is updated in place")
        state.check(name, param)
        _check_gradient(name, grad, param)
    for label, array in zip(labels, found, strict=True):
        if array.address % array.dtype.itemsize:
            raise ValueError(
                f"{label}: expected an address that is a multiple of {array.dtype.itemsize}, got it between"
            )
    extents = sorted(
        (p.address, p.address + p.nbytes, label) for p, label in zip(found, labels[:count], strict=False) if p.nbytes
    )
    for (_, end, first), (start, _, second) in pairwise(extents):
        if start < end:
            raise ValueError(f"{first} and {second} share memory: expected arrays apart")
    for i, grad in enumerate(found[count:]):
        if (clash := overlap(extents, grad, found[i])) is not None:
            raise ValueError(f"{clash} and {labels[count + i]} share memory: expected arrays apart")
    if zeroing:
        _check_zeroed(labels[count:], found)
    return found


def _check_zeroed(labels: Sequence[str], found: Sequence[DeviceArray]) -> None:
    count = len(labels)
    for label, param, grad in zip(labels, found[:count], found[count:], strict=True):
        if grad.read_only:
            raise ValueError(f"{label}: it is read-only, expected a writeable array, as zero_grads sets it to zero")
        if grad.nbytes and grad.address == param.address:
            raise ValueError(f"{label}: it is its parameter itself, and zero_grads sets it to zero")
    pairs = zip(found[count:], labels, strict=True)
    extents = sorted((grad.address, grad.address + grad.nbytes, label) for grad, label in pairs if grad.nbytes)
    for (_, end, first), (start, _, second) in pairwise(extents):
        if start < end:
            raise ValueError(
                f"{first} and {second} share memory: expected arrays apart, as zero_grads sets them to zero"
            )


def _check_gradient(name: Any, grad: DeviceArray, param: DeviceArray) -> None:
    if grad.dtype != param.dtype:
        raise TypeError(
            f"grads[{name!r}]: expected the parameter's dtype {param.dtype}, as nothing is converted on a GPU; "
            f"got {grad.dtype}"
        )
    check_gradient_shape(name, grad.shape, param.shape)


def overlap(extents: Sequence[tuple[int, int, str]], grad: DeviceArray, own: DeviceArray) -> str | None:
    """The parameter that a gradient shares memory with, but for its own, entirely."""
    if not grad.nbytes or grad.address == own.address:
        return None
    before = bisect_left(extents, (grad.address + grad.nbytes,)) - 1
    return extents[before][2] if before >= 0 and extents[before][1] > grad.address else None


def buffers(params: Sequence[Any], grads: Sequence[Any]) -> list[DeviceArray]:
    """What the buffers of two `FlatDict`s are."""
    return [described(array, "buffer") for array in (*params, *grads)]


def _device(found: Sequence[DeviceArray]) -> int:
    """Which GPU the arrays are on."""
    return next((device_of(array.address) for array in found if array.nbytes), 0)


@contextmanager
def current(found: Sequence[DeviceArray]) -> Iterator[None]:
    """Allocate where the arrays are."""
    with cuda.gpus[_device(found)]:
        yield


class Clock:
    """The step count and the scalars of the steps to come, in the device's memory: what a captured update reads.

    The rows are computed on the host, as everywhere, so that a replay gives the bits of a call. There are as many as it
    takes until they no longer change in the parameters' dtype; a graph may be replayed for ever.
    """

    SHORTEST, LONGEST = 2**10, 2**20  # rows

    def __init__(self, step: int, found: Sequence[DeviceArray]) -> None:
        self.device = _device(found)
        self._step = cuda.to_device(np.array([step], np.int64))
        self._tables: dict[np.dtype[Any], Any] = {}
        self.settings: Any = None

    def fill(self, settings: Any, dtypes: Iterable[np.dtype[Any]], scalars: Callable[[int], tuple[float, ...]]) -> None:
        """Have the rows of all steps there, for these settings and dtypes."""
        if self.settings == settings and self._tables.keys() >= set(dtypes):
            return
        tables = {dtype: self._rows(dtype, scalars) for dtype in {*self._tables, *dtypes}}
        for dtype, rows in tables.items():
            if dtype in self._tables and self._tables[dtype].shape == rows.shape:
                DEVICE.write(self._tables[dtype], rows)  # where a captured launch finds it
            else:
                self._tables[dtype] = cuda.to_device(rows)
        self.settings = settings

    def _rows(self, dtype: np.dtype[Any], scalars: Callable[[int], tuple[float, ...]]) -> Array:
        def row(t: int) -> Array:
            return np.array(scalars(t), dtype)

        count = self.SHORTEST
        while any((row(count) != row(count * later)).any() for later in (2, 4, 16)):
            count *= 2
            if count > self.LONGEST:
                raise ValueError(f"capturable: the numbers of a step still change after {self.LONGEST:,} steps")
        return np.stack([row(t + 1) for t in range(count)])

    def scalars(self, dtype: np.dtype[Any]) -> DeviceScalars:
        """Where a kernel finds them."""
        table = self._tables[dtype]
        # a table may be empty, of a rule without scalars, and has no address then
        address = DEVICE.address(table) if table.size else 0
        return DeviceScalars(address, dtype, len(table), self._address)

    @property
    def _address(self) -> int:
        return pointer(self._step)

    def advance(self, stream: int) -> None:
        """Count a step, in the order of the stream."""
        advance(self._address, self.device, stream)

    def read(self) -> int:
        """How many steps were made: waits for them."""
        return int(DEVICE.read(self._step)[0])


class DeviceBinding:
    """Arrays on a GPU that have passed every check, and the launches that update them.

    Args:
        arranged: where everything is.
        found: what the parameters are, then the gradients.
        clock: of a capturable optimizer.
    """

    on_host = False
    is_direct = True

    def __init__(self, arranged: Arrangement, found: Sequence[DeviceArray], clock: Clock | None) -> None:
        self.arranged, self.key, self.kinds, self.clock = arranged, arranged.key, arranged.kinds, clock
        kernels, places, extras = arranged.kernels, arranged.places, arranged.kernels.extras
        count = len(places)
        self._params, self._zeroing = tuple(arranged.params), extras.zero
        self._found = list(found[:count])
        self._grads = [_reference(grad) for grad in arranged.grads]
        self._gradients = [grad.address for grad in found[count:]]
        self._extents = sorted((p.address, p.address + p.nbytes, "") for p in self._found if p.nbytes)
        self._device = _device(found)
        self._stream = next((p.stream for p in found if p.stream), 0)
        self._rows = [0] * count
        self._spans = np.zeros((count, COLUMNS), np.int64)
        order = sorted(range(count), key=lambda i: places[i].dtype.itemsize)
        self._table = cuda.to_device(self._spans) if count > 1 else None
        table = pointer(self._table) if self._table is not None else 0
        norm_is_wanted = arranged.inputs or extras.norm
        sizes = [(size, places[i].dtype) for i, _, size in arranged.inputs]
        self._norm = DeviceNorm(sizes, self._device) if norm_is_wanted else None
        self._packs: list[tuple[Callable[..., None], Array]] = []
        self._sets: list[tuple[Any, Array]] = []  # where the numbers of several kinds are, there and here
        self._launches: list[Launch] = []
        scalar_count = kernels.scalar_count - extras.norm  # what depends on the norm is there already
        row = 0
        for dtype, indices in groupby(order, key=lambda i: places[i].dtype):
            first, size = row, 0
            for i in indices:
                size += places[i].size
                state = arranged.state.address(places[i])
                addresses = self._found[i].address, self._gradients[i], *state, arranged.averages[i], arranged.sets[i]
                self._spans[row] = *addresses, size
                self._rows[i] = row
                row += 1
            numbers = np.zeros(scalar_count * len(arranged.kinds), dtype)
            scalars: Array | DeviceScalars = numbers
            if clock is not None:
                scalars = clock.scalars(dtype)
            else:
                self._packs.append((struct.Struct(f"{numbers.size}{dtype.char}").pack_into, numbers))
                if len(arranged.kinds) > 1:
                    words = np.zeros(-(-numbers.nbytes // INT64.itemsize), INT64)
                    numbers = words.view(dtype)[: numbers.size]
                    self._packs[-1] = self._packs[-1][0], numbers
                    there = cuda.to_device(words)
                    self._sets.append((there, words))
                    scalars = DeviceScalars(pointer(there), dtype)
            where = table + first * self._spans.strides[0]
            coefficient = self._norm.coefficient(dtype) if self._norm is not None else 0
            self._launches.append(
                kernels.device_loops.prepare(
                    self._spans[first:row], scalars, where, self._device, coefficient=coefficient
                )
            )
        self.arranged = arranged._replace(grads=())  # which are not ours to keep
        self._written_on: int | None = None  # the stream in whose order the device's table is that of the host

    def accepts(self, key: Any, params: tuple[Any, ...], grads: tuple[Any, ...]) -> bool:
        """Whether the parameters are the same and the gradients like those before; if so, take the new gradients."""
        if self.key != key or any(param is not own for param, own in zip(params, self._params, strict=True)):
            return False
        # A `FlatDict`'s buffers stay where they are; an array of another library may be given other memory.
        moved = (pointer(param) != own.address for param, own in zip(params, self._found, strict=True))
        if not isinstance(key, Layout) and any(moved):
            return False
        for i, (grad, own) in enumerate(zip(grads, self._found, strict=True)):
            if grad is not None and self._grads[i]() is grad and pointer(grad) == self._gradients[i]:
                continue
            if self._zeroing:  # then it is looked at together with all others
                return False
            if not on_device(grad):
                return False
            try:
                new = described(grad, "")
            except TypeError:
                return False
            if (new.dtype, new.shape) != (own.dtype, own.shape) or new.address % new.dtype.itemsize:
                return False
            if overlap(self._extents, new, own) is not None or (new.nbytes and device_of(new.address) != self._device):
                return False
            self._grads[i], self._gradients[i] = _reference(grad), new.address
            self._spans[self._rows[i], GRAD] = new.address
            self._written_on = None
        return True

    def set_scalars(self, scalars: Sequence[float]) -> None:
        """Take a step's numbers, rounded to each dtype, as `Binding.set_scalars` does."""
        for pack, numbers in self._packs:
            pack(numbers, 0, *scalars)

    def measure(self, grads: Sequence[Any], limit: float | None, divisor: float, stream: Any = None) -> DeviceNorm:
        """Have the norm made of all gradients together, divided by `divisor`, and what they are multiplied by."""
        assert self._norm is not None
        addresses = [self._gradients[i] + byte for i, byte, _ in self.arranged.inputs]
        address = self._stream if stream is None else stream_address(stream)
        self._norm.launch(addresses, limit or 0.0, divisor, address)
        return self._norm

    def clear(self, grads: Sequence[Any], stream: Any = None) -> None:
        """Set gradients to zero."""
        from fastoptim.passes import Clear  # an optimizer itself

        arrays = dict(enumerate(grads))
        Clear().update(arrays, arrays, stream=stream)

    def check_stream(self, stream: Any) -> None:
        """Refuse what is no stream.

        Raises:
            TypeError
        """
        stream_address(stream)

    def run(self, stream: Any = None) -> None:
        """Update all parameters and state in place, on a stream, without waiting for it."""
        address = self._stream if stream is None else stream_address(stream)
        # A captured write has not happened yet, and one on another stream perhaps not.
        if self._table is not None and (self.clock is not None or self._written_on != address):
            write_words(pointer(self._table), self._spans, self._device, address)
            self._written_on = address
        for there, words in self._sets:
            write_words(pointer(there), words, self._device, address)
        for launch in self._launches:
            launch(address)
        if self.clock is not None:
            self.clock.advance(address)


def _reference(array: Any) -> Callable[[], Any]:
    """A weak one: gradients are not kept alive from one update to the next."""
    try:
        return ref(array)
    except TypeError:
        return lambda: None
