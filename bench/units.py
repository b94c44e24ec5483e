"""Numbers as people read them."""

SCALES = (("s", 1.0), ("ms", 1e3), ("µs", 1e6), ("ns", 1e9))


def seconds(value: float) -> str:
    """In the unit that suits it, as `25.3 µs`."""
    unit, scale = next(((unit, scale) for unit, scale in SCALES if abs(value) * scale >= 1), SCALES[-1])
    return f"{value * scale:.1f} {unit}"
