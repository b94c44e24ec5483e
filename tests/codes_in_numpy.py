"""State of 8 bits in NumPy, from the definition: the numbers of all codes in a table, and what lies between two."""

import numpy as np

F4, F8 = np.float32, np.float64
BLOCK = 256
NEAREST = np.uint32(2**31)


def table(mantissa):
    """The numbers of codes with 4 bits of exponent and so many of mantissa, before the shift to zero, and the shift.

    A code of a root of 0 is read as a quarter of the smallest step.
    """
    codes = np.arange(2 ** (4 + mantissa))
    exponent, rest = codes >> mantissa, codes % 2**mantissa
    numbers = (1 + rest / 2**mantissa) * 2.0 ** (exponent - 15)
    return numbers, 2.0**-15 - (2.0**-15 / 2**mantissa / 4 if mantissa == 4 else 0)


def decoded(codes, scales, is_root):
    """The numbers of an array of codes, in its shape."""
    flat, each = codes.ravel(), np.repeat(scales, BLOCK)[: codes.size]
    numbers, shift = table(4 if is_root else 3)
    sizes = (numbers[flat if is_root else flat % 128] * each - (each * F4(shift)).astype(F8)).astype(F4)
    if is_root:
        return (sizes * sizes).reshape(codes.shape)
    return np.where(flat >= 128, -sizes, sizes).reshape(codes.shape)


def encoded(numbers, is_root, bits=None):
    """The codes of an array in its shape, and the scales of its blocks. `bits` are 32 for each element, in C order."""
    flat, mantissa = np.ascontiguousarray(numbers, F4).ravel(), 4 if is_root else 3
    every, shift = table(mantissa)
    top, count = F4(every[-1]) - F4(shift), -(-flat.size // BLOCK)
    if bits is not None:
        top *= F4(1 - 2.0**-22)
    bits = np.broadcast_to(NEAREST if bits is None else bits, flat.shape)
    codes, scales = np.zeros(flat.size, np.uint8), np.zeros(count, F4)
    with np.errstate(invalid="ignore"):
        sizes = np.sqrt(flat) if is_root else np.abs(flat)
    for i in range(count):
        block = slice(i * BLOCK, (i + 1) * BLOCK)
        largest = sizes[block].max()
        if not np.isfinite(largest):
            scales[i] = np.nan
        elif largest >= np.finfo(F4).tiny:
            scales[i] = largest / top
            part = (sizes[block].astype(F8) * (top / largest) + shift).astype(F4).astype(F8)
            part = np.maximum(part, 2.0**-15)
            exponent = np.floor(np.log2(part))
            place = (exponent + 15 + part / 2.0**exponent - 1) * 2**mantissa  # among codes
            behind = 23 - mantissa  # the bits of float32 that a code lacks: so many random ones count
            own = np.floor(place + (bits[block] >> np.uint32(32 - behind)) / 2.0**behind)
            codes[block] = own if is_root else own + 128 * np.signbit(flat[block])
    return codes.reshape(numbers.shape), scales
