"""What other libraries have for one of our optimizers, by docs/equivalents.toml, which tests/test_peers.py proves.

A row of that table has a text for ours and one for each library: `Momentum(lr, momentum)`, `SGD(params, lr, momentum)`.
Both are evaluated with our optimizer's hyperparameters as names. The row holds if the first text gives the optimizer.
"""

import inspect
import tomllib
from functools import cache, partial
from importlib import import_module
from operator import attrgetter
from typing import Any, NamedTuple

import fastoptim
from bench.options import options
from bench.processes import ROOT
from fastoptim import Optimizer

TABLE = ROOT / "docs" / "equivalents.toml"
MODULES = {"torch": "torch.optim"}  # where a library has its optimizers, if its key in the table is not the name
AROUND: dict[str, Any] = {"clip_norm": None, "ema": None, "groups": None}  # what contenders do around a step


class Counterpart(NamedTuple):
    """What a library has for one of our optimizers.

    Attributes:
        library: its key in the table.
        text: what makes it, in Python.
        values: of the names in the text.
        is_for_matrices: whether it takes, or updates in the same way, matrices alone.
    """

    library: str
    text: str
    values: dict[str, Any]
    is_for_matrices: bool = False

    @property
    def module(self) -> Any:
        """The module of the names that the text calls."""
        return import_module(MODULES.get(self.library, self.library))

    @property
    def called(self) -> Any:
        """The class or function that the text calls."""
        return attrgetter(_called(self.text))(self.module)

    def takes(self, argument: str) -> bool:
        """Whether that one has an argument of this name."""
        return argument in inspect.signature(self.called).parameters

    def make(self, params: Any = None, **arguments: Any) -> Any:
        """What the text makes, for parameters where it names them, and with further arguments."""
        names = vars(self.module) | self.values | {"params": params}
        if arguments:
            names[_called(self.text)] = partial(self.called, **arguments)
        return eval(self.text, names)


def find(optimizer: Optimizer, library: str) -> Counterpart | None:
    """What a library has that computes the same, or None if the table has nothing.

    Where no row is the same, one may differ in the optimizer's own switches and words, if its state is as large. They
    choose the form of a formula, as where `eps` is added. The fewer of them differ, the better.
    """
    values = _table()["numbers"] | _values(optimizer)
    found = []
    for row in _table()["row"]:
        if library in row and _called(row["ours"]) == type(optimizer).__name__:
            count = _differences(optimizer, row["ours"], values)
            if count is not None:
                found.append((count, row[library], library in row.get("matrices", ())))
    if not found:
        return None
    _, text, is_for_matrices = min(found, key=lambda each: each[0])
    return Counterpart(library, text, values, is_for_matrices)


def counterpart(optimizer: Optimizer, library: str) -> Counterpart:
    """The same, of an optimizer that has one.

    Raises:
        LookupError: the table has nothing.
    """
    if (found := find(optimizer, library)) is None:
        raise LookupError(f"{TABLE}: expected a row for {optimizer!r} with the key {library!r}, found none")
    return found


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


def _called(text: str) -> str:
    return text.partition("(")[0]


def _values(optimizer: Optimizer) -> dict[str, Any]:
    """The hyperparameters; 1 for a learning rate that changes, as a schedule of theirs is multiplied by it."""
    values = vars(options(optimizer)) | AROUND
    return values | {"lr": 1.0} if callable(values["lr"]) else values


def _differences(optimizer: Optimizer, text: str, named: dict[str, Any]) -> int | None:
    """How many switches and words a text gives other values; None if anything else differs."""
    try:
        other = eval(text, vars(fastoptim) | named)
    except ValueError:  # its numbers need another variant than those of this optimizer
        return None
    own = {x.name for x in inspect.signature(type(optimizer)).parameters.values() if x.kind is not x.KEYWORD_ONLY}
    values, others = _values(optimizer), _values(other)
    differing = [name for name in values if values[name] != others[name]]
    switches = all(name in own and isinstance(values[name], bool | str) for name in differing)
    return len(differing) if switches and other.slots == optimizer.slots else None
