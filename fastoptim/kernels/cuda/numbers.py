"""How the words that a thread has loaded become numbers, and its new numbers become words: several elements at once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numba.extending import register_jitable

from fastoptim.kernels.codes import ZERO, scale_of
from fastoptim.kernels.cuda.memory import SIMULATED, reader, word_loader, word_storer
from fastoptim.kernels.cuda.simulated import simulated
from fastoptim.kernels.encode import MIDDLE
from fastoptim.kernels.halves import random_bits
from fastoptim.kernels.random import BITS, bits_of
from fastoptim.kernels.storage import F4, Codes, Storage, same
from fastoptim.kernels.unroll import unrolled

Function = Callable[..., Any]


def updated_lanes(element: Function, count: int) -> Function:
    """`(lanes, numbers) -> ` what the function of an element returns for each of `count` lanes."""
    return of_each_lane(register_jitable(lambda lane, numbers: element(*lane, *numbers)), count)


def of_each_lane(function: Function, count: int) -> Function:
    """`(lanes, *others) -> ` a tuple of `function(lane, *others)` for each of `count` lanes."""
    calls = (f"function(lanes[{i}], *others)" for i in range(count))
    return unrolled("each", "lanes, *others", calls, count, function=function)


def for_kernels(function: Function) -> Function:
    """A function for kernels, also in the simulator, where it is one of NumPy's numbers.

    It does no harm to one that compiled code may call already.
    """
    return simulated(function) if SIMULATED else register_jitable(function)


def codes_of(storages: Sequence[Storage]) -> list[tuple[int, Codes]]:
    """The columns of operands that have codes."""
    return [(column, storage.codes) for column, storage in enumerate(storages) if storage.codes is not None]


def element_loader(storages: Sequence[Storage], width: int) -> Function:
    """`(addresses, i, scales) -> ` elements `i` to `i + width - 1`, each a tuple with a number of every operand.

    For addresses and alignment see `word_loader`; `scales` are those of the operands that have codes.
    """
    load, coded = word_loader(storages, width), [column for column, _ in codes_of(storages)]
    if all(storage.widen is same for storage in storages) and not coded:
        return register_jitable(lambda addresses, i, scales: load(addresses, i))
    elements, names = list[str](), dict[str, Any]()
    for column, storage in enumerate(storages):
        scale = f", scales[{coded.index(column)}]" if storage.codes else ""
        elements.append(f"widen{column}(words[{column}]{scale})")
        names[f"widen{column}"] = storage.codes.decode if storage.codes else storage.widen
    content = [storage.name for storage in storages]
    widen = of_each_lane(for_kernels(unrolled("widened", "words, scales", elements, *content, **names)), width)
    return register_jitable(lambda addresses, i, scales: widen(load(addresses, i), scales))


def scales_reader(storages: Sequence[Storage]) -> Function:
    """`(addresses, i) -> ` the scales of the block that element `i` is in, of the operands that have codes."""
    read, found = reader(F4, 1), register_jitable(lambda addresses, i: ())
    for column, _ in codes_of(storages):
        found = _with_scale(found, read, column)
    return found


def _with_scale(before: Function, read: Function, column: int) -> Function:
    return register_jitable(lambda addresses, i: before(addresses, i) + read(scale_of(addresses[column], i)))


def narrowing(storages: Sequence[Storage], written: Sequence[int], own_bits: Mapping[int, int]) -> Function:
    """`(new, place, key, factors) -> ` the words of an element's new numbers.

    Args:
        storages: of all operands.
        written: the columns of those that are written.
        own_bits: of those that are rounded at random, see `random_numbers`. Then `key` is that of the element's chunk,
            and `place` where it is there.

    In the function, `factors` are what the sizes of operands with codes are multiplied by; 0 for a block of zeros.
    """
    own_storages = [storages[column] for column in written]
    if not own_bits and all(x.narrow is same and x.codes is None for x in own_storages):
        return register_jitable(lambda new, place, key, factors: new)
    elements, names, coded = list[str](), dict[str, Any](), 0
    for i, column in enumerate(written):
        storage, bits = storages[column], bits_of(own_bits[column]) if column in own_bits else ""
        if storage.codes:
            size = f"(size{i}(new[{i}]) if factors[{coded}] > zero else zero)"
            elements.append(f"word{i}({size}, factors[{coded}], {bits or 'middle'})")
            names |= {f"word{i}": storage.codes.encode, f"size{i}": storage.codes.size, "zero": ZERO, "middle": MIDDLE}
            coded += 1
        elif bits and storage.dither:
            elements.append(f"word{i}(new[{i}], {bits})")
            names[f"word{i}"] = storage.dither
        else:
            elements.append(f"word{i}(new[{i}])")
            names[f"word{i}"] = storage.narrow
    content = *(storage.name for storage in storages), *written, *own_bits.values()
    narrow = for_kernels(unrolled("narrowed", "new, random, factors", elements, *content, **BITS, **names))
    if not own_bits:
        return register_jitable(lambda new, place, key, factors: narrow(new, MIDDLE, factors))
    random_at = for_kernels(random_bits)
    return register_jitable(lambda new, place, key, factors: narrow(new, random_at(place, 0, key), factors))


def narrowed_lanes(
    storages: Sequence[Storage], written: Sequence[int], own_bits: Mapping[int, int], places: Sequence[int]
) -> Function:
    """`(lanes, place, key, factors) -> ` the words of lanes that are so far behind a place. See `narrowing`."""
    calls = (f"narrow(lanes[{i}], place + {place}, key, factors)" for i, place in enumerate(places))
    narrow = narrowing(storages, written, own_bits)
    return unrolled("narrowed", "lanes, place, key, factors", calls, len(places), narrow=narrow)


def element_storer(
    storages: Sequence[Storage], width: int, written: Sequence[int], own_bits: Mapping[int, int], zero_grads: bool
) -> Function:
    """`(addresses, i, lanes, key, offset)`: store the new numbers of elements `i` to `i + width - 1`, in that order.

    The gradient is left alone or set to zero. For `written`, `own_bits` and `key` see `narrowing`; `offset` is what
    leads from an element's number to its place in its chunk. There are no codes.
    """
    store = word_storer(storages, width, written, zero_grads)
    narrow = narrowed_lanes(storages, written, own_bits, range(width))
    return register_jitable(
        lambda addresses, i, lanes, key, offset: store(addresses, i, narrow(lanes, i + offset, key, ()))
    )
