"""Learning rates that change: functions of the step `t`, which is 0 at the first update.

    opt = fastoptim.Adam(lr=schedules.warmup(schedules.cosine(1e-3, steps=10_000), steps=500))

Any callable from a step to a float is a schedule. These check their arguments (ValueError), compute in float64, have a
`repr` and equality, and can be saved as plain data. Past its last step a schedule keeps its last value, unless it says
otherwise.
"""

from fastoptim.schedules.checked import Schedule
from fastoptim.schedules.curves import (
    constant,
    cosine,
    cosine_restarts,
    exponential,
    linear,
    one_cycle,
    polynomial,
    step,
    warmup,
)
from fastoptim.schedules.data import as_data, from_data

__all__ = [
    "Schedule",
    "as_data",
    "constant",
    "cosine",
    "cosine_restarts",
    "exponential",
    "from_data",
    "linear",
    "one_cycle",
    "polynomial",
    "step",
    "warmup",
]
