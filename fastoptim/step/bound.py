"""A bound step: arrays that have passed every check, and what the kernels need to know of them."""

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from fastoptim.arrays.memory import Memory
from fastoptim.kernels.measures import Statistics
from fastoptim.settings.plan import Plan
from fastoptim.settings.rows import Kind, Numbers, Rows, WrongScalarsError
from fastoptim.state.counts import Cohort, GpuCounter
from fastoptim.state.store import StateStore
from fastoptim.step.packer import fit, words_of

Arrays = tuple[Any, ...]


class Engine(Protocol):
    """What runs a bound step, on the host or on a GPU."""

    @property
    def memory(self) -> Memory:
        """Where the arrays are."""

    @property
    def counter(self) -> GpuCounter | None:
        """What counts the steps in the device's memory, which also has their numbers; None where the host counts."""

    @property
    def is_simple(self) -> bool:
        """Whether `run` needs neither arrays nor stream."""

    @property
    def clips_itself(self) -> bool:
        """Whether the engine applies `clip_coef` itself, on its device."""

    @property
    def accept(self) -> Callable[[Arrays, Arrays], bool]:
        """Whether arrays are like those that the step was bound for; if so, their addresses are taken."""

    def takes_shadow(self, shadow: Arrays, params: Arrays, grads: Arrays) -> bool:
        """Whether other arrays for the rounded parameters are like those before; if so, their addresses are taken."""

    def plain_calls(self) -> tuple[Callable[..., None], Callable[[], None]]:
        """For steps that are made often: what takes the numbers as its arguments, and what runs the step."""

    def check_stream(self, stream: Any) -> None:
        """Refuse what is no stream for these arrays."""

    def set_scalars(self, numbers: Sequence[float]) -> None:
        """Take a step's numbers, those of each kind behind those of the one before, rounded to each dtype."""

    def measure(self, params: Arrays, grads: Arrays, limit: float | None, divisor: float, stream: Any) -> Any:
        """The norm of all gradients together, divided by `divisor`: a float, or what becomes one."""

    def run(self, params: Arrays = (), grads: Arrays = (), stream: Any = None) -> None:
        """Update all parameters and state in place."""

    @property
    def rows(self) -> Sequence[Any]:
        """The parameters that may have gradients of some rows."""

    def set_row_numbers(
        self, algorithm: Numbers, plan: Plan, kinds: Sequence[Kind], divisor: float, clip_coef: float | None
    ) -> None:
        """Have the numbers that rows of parameters need, each those of its own step."""

    def statistics(self) -> Mapping[Any, Statistics]:
        """What was measured in the last run, by name."""


class BoundStep:
    """Nothing in it has to be saved: it is bound anew when an option changes or the state moves.

    Attributes:
        key: the names that take part, or the layout of a `FlatDict`.
        kinds: what tells names apart in a step, in the order of the rows of scalars.
        base: the optimizer's store when the step was bound, and `store` once the step is kept.
        store: the one that has all names. It is the optimizer's from the first step on.
        beginning: pairs of a new average or master and the parameter that it is a copy of at first.
        engine: what runs the step.
        has_clip_coef: whether the last number of each kind is what gradients are multiplied by.
        is_kept: whether its first step was made: then its names are counted.
        is_plain: whether `run_plain` makes it.
        accept: whether arrays are like those that it was bound for; if so, their addresses are taken.
        version: of the cohorts that it knows, see `StepCounts`.
    """

    def __init__(
        self,
        key: Any,
        kinds: Sequence[Kind],
        base: StateStore,
        store: StateStore,
        beginning: Sequence[tuple[Any, Any]],
        engine: Engine,
        version: int,
        has_clip_coef: bool,
    ) -> None:
        self.has_clip_coef = has_clip_coef
        self.key, self.kinds, self.beginning, self.engine = key, kinds, beginning, engine
        self.base, self.store = base, store
        self.is_kept = self.is_plain = False
        self.accept = engine.accept
        self.version = version
        self._cohort: Cohort = kinds[0][0] if kinds else Cohort(0, None, ())
        self._sizes = [(cohort, len(cohort.names)) for cohort, _ in kinds]
        self._pack: Callable[..., None] = _unbound
        self._run: Callable[[], None] = _unbound

    def was_kept(self, is_plain: bool) -> None:
        """Its first step is being made."""
        self.is_kept, self.beginning, self.base = True, (), self.store
        self.is_plain = is_plain and len(self.kinds) == 1 and self.engine.is_simple
        if self.is_plain:
            self._pack, self._run = self.engine.plain_calls()

    def is_stale(self, store: StateStore) -> bool:
        """Whether it was bound for another store, or has the addresses of averages or masters that have moved."""
        return not self.base.beside.is_same(store.beside) if self.is_kept else self.base is not store

    def is_current(self, version: int) -> bool:
        """Whether the names of each kind still make their steps together, now that some changed their cohorts."""
        if any(len(cohort.names) != size for cohort, size in self._sizes):  # one was split
            return False
        self.version = version
        return True

    def run_plain(self, algorithm: Numbers, plan: Plan) -> None:
        """Make a step whose numbers are one row that depends on the step alone, and count it.

        Raises:
            WrongScalarsError: `scalars` returns something else than the rule's numbers. Nothing has changed then.
        """
        cohort = self._cohort
        t = cohort.count + 1
        if self.engine.rows:  # and nothing else
            self.engine.set_row_numbers(algorithm, plan, self.kinds, plan.grad_scale, None)
            self._run()
            cohort.count = t
            return
        numbers = algorithm.scalars(t) if plan.is_bare else plan.row_at(algorithm, t)
        try:
            self._pack(*numbers)
        except (struct.error, TypeError, OverflowError, WrongScalarsError):
            self.set_rows(plan.rows(algorithm, self.kinds, 1.0), None)  # which says what is wrong
            raise
        self._run()
        cohort.count = t

    def set_rows(self, rows: Rows, clip_coef: float | None) -> None:
        """Take the numbers of a step.

        Args:
            rows: a row for each kind.
            clip_coef: the last number of each row. None where there is none, or the engine has it already.

        Raises:
            WrongScalarsError: one is no number, or a dtype cannot hold one.
        """
        scalars = rows.scalars
        if clip_coef is not None:
            rows.set_clip_coef(clip_coef)
        elif self.engine.clips_itself and self.has_clip_coef:
            scalars = rows.without_clip_coef()
        try:
            self.engine.set_scalars(scalars)
        except WrongScalarsError as error:
            width, dtype = rows.width, error.dtype
            starts = range(0, len(rows.scalars), width)
            wrong = [i for i, start in enumerate(starts) if not fit(rows.scalars[start : start + width], dtype)]
            i = wrong[0] if wrong else 0
            words = words_of(rows.scalars[i * width : (i + 1) * width], rows.returned[i], dtype)
            raise WrongScalarsError(words, self.kinds[i][0].count + 1) from error.__cause__

    def count(self, rows: Rows) -> None:
        """Count the step that was made with these numbers."""
        for (cohort, _), carry in zip(self.kinds, rows.carries, strict=True):
            cohort.count += 1
            cohort.carry = carry


def _unbound(*numbers: float) -> None:
    raise AssertionError("the step was not kept as a plain one")
