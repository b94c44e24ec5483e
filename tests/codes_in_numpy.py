"""State of 8 bits in NumPy, from the definition: the numbers of all codes in a table, and what lies between two."""

import numpy as np

F4, F8 = np.float32, np.float64
BLOCK = 256
NEAREST = np.uint32(2**31)


def table(mantissa):
    """The numbers of codes with 4 bits of exponent and so many of mantissa, before they are scaled."""
    codes = np.arange(2 ** (4 + mantissa))
    exponent, rest = codes >> mantissa, codes % 2**mantissa
    return ((1 + rest / 2**mantissa) * 2.0 ** (exponent - 15) - 2.0**-15).astype(F4)


def decoded(codes, scales, is_root):
    """The numbers of an array of codes, in its shape."""
    flat, each = codes.ravel(), np.repeat(scales, BLOCK)[: codes.size]
    if is_root:
        roots = table(4)[flat] * each
        return (roots * roots).reshape(codes.shape)
    sizes = table(3)[flat % 128] * each
    return np.where(flat >= 128, -sizes, sizes).reshape(codes.shape)


def encoded(numbers, is_root, bits=NEAREST):
    """The codes of an array in its shape, and the scales of its blocks. `bits` are 32 for each element, in C order."""
    flat, mantissa = np.ascontiguousarray(numbers, F4).ravel(), 4 if is_root else 3
    top, count = table(mantissa)[-1], -(-flat.size // BLOCK)
    bits = np.broadcast_to(bits, flat.shape)
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
            part = sizes[block] * (top / largest) + F4(2.0**-15)
            exponent = np.floor(np.log2(part))
            place = (exponent + 15 + part.astype(F8) / 2.0**exponent - 1) * 2**mantissa  # among codes
            place = np.minimum(place, 2.0 ** (4 + mantissa) - 1)
            behind = 23 - mantissa  # the bits of float32 that a code lacks: so many random ones count
            own = np.floor(place + (bits[block] >> np.uint32(32 - behind)) / 2.0**behind)
            own = np.maximum(own, sizes[block] > 0) if is_root else own + 128 * np.signbit(flat[block])
            codes[block] = own
    return codes.reshape(numbers.shape), scales
