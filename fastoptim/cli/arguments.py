"""What the options take. Wrong values are refused here, before a command spends any time."""

import os
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

import fastoptim
from fastoptim import Optimizer

# Found, not listed: a new optimizer takes part in every command by being public.
OPTIMIZERS: dict[str, type[Optimizer]] = {
    name: value
    for name in fastoptim.__all__
    if isinstance(value := getattr(fastoptim, name), type) and issubclass(value, Optimizer) and value is not Optimizer
}
DTYPES = ("float32", "float64")
# Numbers with which options are on: which ones does not matter to a kernel. Any other option is on when it is True.
SWITCHED_ON: dict[str, Any] = {
    "grad_scale": 2.0,
    "accumulate": 2,
    "clip_norm": 1.0,
    "clip_value": 1.0,
    "weight_decay": 0.01,
    "bounds": (-1.0, 1.0),
    "ema": 0.9,
    "groups": {"*": {}},
    "frozen": (),  # kernels do not know of it
}
EPOCHS = 30  # every optimizer is past 95 % by then
SEEDS = 2**32  # what scikit-learn takes


def optimizer(text: str) -> type[Optimizer]:
    for name, cls in OPTIMIZERS.items():
        if name.lower() == text.lower():
            return cls
    raise ArgumentTypeError(f"there is no optimizer {text!r}; expected one of {', '.join(OPTIMIZERS)}")


def options(text: str) -> dict[str, Any]:
    """Options that are switched on, by name: "clip_norm,ema"."""
    values = {name: SWITCHED_ON.get(name, True) for name in text.replace(" ", "").split(",") if name}
    return values | ({"weight_decay": SWITCHED_ON["weight_decay"]} if "decoupled" in values else {})


def positive(text: str) -> int:
    return _whole(text, 1, None)


def seed(text: str) -> int:
    return _whole(text, 0, SEEDS)


def png(text: str) -> Path:
    """A file that can be written: tried, because permissions, quotas and mounts tell only then."""
    path = Path(text)
    if path.suffix.lower() != ".png":
        raise ArgumentTypeError(f"expected a name that ends in .png, got {text!r}")
    try:
        if not path.parent.is_dir():
            raise ArgumentTypeError(f"cannot write {text!r}: there is no folder {str(path.parent)!r}")
        existed = os.path.lexists(path)
        path.open("ab").close()
    except OSError as error:
        raise ArgumentTypeError(f"cannot write {text!r}: {error.strerror}") from None
    if not existed:
        path.unlink()
    return path


def _whole(text: str, start: int, stop: int | None) -> int:
    try:
        number = int(text)
    except ValueError:
        number = start - 1
    if number < start or (stop is not None and number >= stop):
        upper = "" if stop is None else f" and below {stop}"
        raise ArgumentTypeError(f"expected a whole number of at least {start}{upper}, got {text!r}")
    return number
