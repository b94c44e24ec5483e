"""Makes the steps of one rule: from two dicts of arrays to the kernels' calls."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastoptim.arrays.memory import Memory
from fastoptim.arrays.rows import Rows
from fastoptim.kernels.measures import Statistics
from fastoptim.kernels.reduce import clip_coef
from fastoptim.settings.algorithm import Algorithm
from fastoptim.settings.carry import Carry
from fastoptim.settings.plan import Plan
from fastoptim.settings.rows import Rows as NumberRows
from fastoptim.settings.state_format import StateFormat
from fastoptim.state.counts import StepCounts
from fastoptim.state.shaped import ShapedState
from fastoptim.state.store import StateStore
from fastoptim.step.array_sums import counted
from fastoptim.step.bind import Binder, takes_shadow
from fastoptim.step.bound import BoundStep
from fastoptim.step.cache import BoundSteps, Found
from fastoptim.step.name_patterns import NamePatterns
from fastoptim.step.staged import Scratch


class Stepper:
    """What the steps of a rule need and leave behind.

    Args:
        slots: the names of the rule's state.
        format: how they lie in memory.
        carry: what is carried before the first step, None for nothing.
        shaped: the state of other shapes than the parameters', with no parameter yet.

    Attributes:
        store: state and averages.
        counts: each name's steps.
        steps: the bound steps that are kept.
        patterns: of the names in groups, and of those that are frozen.
        norm: of the gradients of the last step that needed it: a float, or what becomes one; None before.
        measured: calls that return statistics by name, of the last step.
        planned: what the options come to; None until that has been looked at.
        is_averaged: whether the parameters hold the averages for a while, so that no step may be made.
    """

    def __init__(
        self,
        slots: tuple[str, ...],
        format: StateFormat = StateFormat(),  # noqa: B008  # it never changes
        carry: Carry = None,
        shaped: ShapedState | None = None,
    ) -> None:
        self.store, self.counts = StateStore(slots, shaped=shaped, format=format), StepCounts(carry)
        self.norm: Any = None
        self.measured: tuple[Callable[[], Mapping[Any, Statistics]], ...] = ()
        self.is_averaged = False
        self.planned: Plan | None = None
        self.steps, self.patterns, self._scratch = BoundSteps(), NamePatterns(), Scratch()
        self._plan: Plan | None = None  # the last one, for which steps were bound

    def move(self, memory: Memory) -> None:
        """Go on in another memory."""
        store = self.store.moved(memory, flat=self.steps.is_flat)
        self.norm = None if self.norm is None else float(self.norm)
        self.counts.come_back()
        self.take(self.counts, store)

    def take(self, counts: StepCounts, store: StateStore) -> None:
        """Go on with other counts and state."""
        self.counts, self.store = counts, store
        self.steps.clear()

    def drop(self, name: str) -> None:
        """Forget the averages, "ema", or the masters, "master"."""
        if getattr(self.store.beside, name) is not None:
            self.take(self.counts, self.store.without(name))

    def use_slots(self, slots: tuple[str, ...]) -> None:
        """Have these slots: the state of those that are new is zero, and that of others is forgotten."""
        if slots != self.store.slots:
            self.take(self.counts, self.store.with_slots(slots))

    def use_state_dtype(self, dtype: np.dtype[Any] | None) -> None:
        """Have slots of this dtype, see `StateFormat`. The state that there is, is rounded to it."""
        format = self.store.format._replace(dtype=dtype)
        if format != self.store.format:
            self.take(self.counts, self.store.with_format(format))

    def replan(self) -> None:
        """Look at the options again: one was assigned."""
        self.planned = None

    def plan(self, algorithm: Algorithm, accumulates: bool, shadows: bool = False) -> Plan:
        """What the options come to.

        Raises:
            ValueError: they cannot go together.
        """
        plan = self.planned
        if plan is None or (plan.accumulates, plan.shadows) != (accumulates, shadows):
            plan = algorithm.plan(algorithm.stages, algorithm.matrix_stages, accumulates, shadows)
            self.use_slots(algorithm.stored_slots)
            if self._plan is None or not plan.is_like(self._plan):
                self.steps.clear()
            if not plan.capturable:
                self.counts.come_back()
            self.planned = self._plan = plan
        return plan

    def taking_part(
        self, plan: Plan, params: Mapping[Any, Any], grads: Mapping[Any, Any]
    ) -> tuple[Mapping[Any, Any], Mapping[Any, Any]]:
        """The arrays of a call without those that are frozen. For errors see `NamePatterns`."""
        return self.patterns.taking_part(plan, params, grads, self.counts.names)

    def flush(self, algorithm: Algorithm, plan: Plan, params: Mapping[Any, Any], rows: Mapping[Any, Any]) -> None:
        """Make the steps that rows have missed.

        Args:
            algorithm: with its options.
            plan: what they come to.
            params: the parameters; those whose rows do not catch up are left alone.
            rows: which ones, by name: all where there is no such name.

        Raises:
            IndexError, KeyError, TypeError, ValueError: an index is out of range, a name is unknown, or an array is not
                what it was.
        """
        for name in rows:
            if name not in params:
                raise KeyError(f"flush: rows has {name!r}, which params has not")
        for name, param in params.items():
            own = None
            if name in rows:
                own = np.atleast_1d(rows[name])
                own = Rows(own, np.zeros((len(own), 0), np.float32)).indices
            if not self.counts.is_behind(name):
                continue
            known = [each for each in self.steps.rows if each.name == name and each.is_at(param)]
            if not known:
                none = Rows(np.zeros(0, np.int64), np.zeros((0, *param.shape[1:]), np.float32))
                (step, *_), known = self.bind(algorithm, plan, {name: param}, {name: none}), []
                known = [*step.engine.rows]
            known[0].catch_up(own)

    def find(
        self,
        algorithm: Algorithm,
        plan: Plan,
        params: Mapping[Any, Any],
        grads: Mapping[Any, Any],
        shadow: Mapping[Any, Any] | None = None,
    ) -> Found:
        """The step that takes these arrays: a known one, or a new one. No array, state or count changes.

        Args:
            algorithm: with its options.
            plan: what they come to.
            params: the parameters.
            grads: the gradients.
            shadow: other arrays that the new parameters are rounded to.

        Raises:
            KeyError, TypeError, ValueError: an array cannot be updated.
            RuntimeError: the parameters are the averages for a while.
        """
        if plan.capturable and self.counts.settings != algorithm.hyperparameters():
            self.steps.clear()
        found = self.steps.find(params, grads, self.counts.version)
        if found is None or not takes_shadow(found, shadow):
            found = self.bind(algorithm, plan, params, grads, shadow)
        return found

    def bind(
        self,
        algorithm: Algorithm,
        plan: Plan,
        params: Mapping[Any, Any],
        grads: Mapping[Any, Any],
        shadow: Mapping[Any, Any] | None = None,
    ) -> Found:
        """A step for arrays that none of the kept steps takes as they are. For arguments and errors see `find`."""
        if self.is_averaged:
            raise RuntimeError("update: the parameters are the averages, expected the end of `with opt.averaged(...)`")
        self.patterns.check(plan, params, self.counts.names)
        return Binder(algorithm, plan, self.store, self.counts, self.steps, self._scratch).bind(params, grads, shadow)

    def bind_evaluation(self, algorithm: Algorithm, plan: Plan, params: Mapping[Any, Any]) -> Found:
        """A step that computes evaluation parameters. It is not kept, and the parameters are their own gradients.

        Raises:
            TypeError, ValueError: an array is not what it was when it was updated.
        """
        return Binder(algorithm, plan, self.store, self.counts, BoundSteps(), self._scratch, may_have_rows=False).bind(
            params, params
        )

    def rows(self, algorithm: Algorithm, plan: Plan, found: Found, divisor: float) -> NumberRows:
        """The numbers of a step, looked at before it is made.

        Raises:
            ValueError, WrongScalarsError: the numbers are wrong.
        """
        step = found[0]
        rows = plan.rows(algorithm, step.kinds, divisor)
        step.set_rows(rows, 1.0 if plan.clip_norm is not None and not step.engine.clips_itself else None)
        return rows

    def run(
        self,
        algorithm: Algorithm,
        plan: Plan,
        found: Found,
        divisor: float,
        stream: Any,
        rows: NumberRows | None = None,
        asked: Sequence[str] | None = None,
        shadow: Mapping[Any, Any] | None = None,
    ) -> bool:
        """Make a step.

        Args:
            algorithm: what makes the step's numbers.
            plan: what the options come to.
            found: the step and its arrays.
            divisor: what the gradients are divided by.
            stream: on a GPU.
            rows: the step's numbers, where they are known already.
            asked: the statistics that a skipped call has to have; if not given, those of the plan.
            shadow: the other arrays that the step was found for.

        Returns:
            Whether it was made: not where an element of the gradients is not finite and such calls are skipped.

        Raises:
            ValueError, WrongScalarsError: the numbers are wrong. Nothing has changed then.
        """
        step, params, grads = found
        if step.is_plain and rows is None:
            step.run_plain(algorithm, plan)
            return True
        if step.is_stale(self.store):  # another part of this call has made its first step since this was bound
            own, given = (dict(zip(step.key, arrays, strict=True)) for arrays in (params, grads))
            (step, params, grads), rows = self.bind(algorithm, plan, own, given, shadow), None
        engine, norm, coef = step.engine, None, None
        if engine.counter is None and rows is None:  # wrong numbers are an error also where the call is skipped
            rows = plan.rows(algorithm, step.kinds, divisor)
        if plan.needs_norm:
            norm = engine.measure(params, grads, plan.clip_norm, divisor, stream)
            if plan.skip_nonfinite and not math.isfinite(norm):
                nonfinite = counted(step.key, params, grads, engine.memory, plan.statistics if asked is None else asked)
                if plan.fused.zero_grads:  # or gradients that are added to would be nan for ever
                    engine.memory.clear([x.values if type(x) is Rows else x for x in grads], stream)
                for each in engine.rows:
                    each.let_go()
                self.norm = norm
                self.counts.skipped += 1
                self.measured = (nonfinite,)
                return False
            if plan.clip_norm is not None and not engine.clips_itself:
                coef = clip_coef(norm, plan.clip_norm)
        if rows is not None:
            step.set_rows(rows, coef)
        if engine.rows:
            engine.set_row_numbers(algorithm, plan, step.kinds, divisor, coef)
        if not step.is_kept:  # nothing can be refused any more
            self._keep(step, plan)
        if norm is not None:
            self.norm = norm
        engine.run(params, grads, stream)
        self.measured = (engine.statistics,) if plan.statistics else ()
        if rows is not None:
            step.count(rows)
        return True

    def _keep(self, step: BoundStep, plan: Plan) -> None:
        """Take over what the step was bound with, and keep the step."""
        store = step.store
        store.memory.copy(step.beginning)
        if not store.beside.is_same(self.store.beside):  # which other steps have the addresses of
            self.steps.clear()
        self.store = store
        self.counts.add(cohort for cohort, _ in step.kinds)
        self.counts.on_gpu = step.engine.counter
        of_rows, steps = self.counts.of_rows, {each.name: each.own.steps for each in step.engine.rows}
        if new := {name: own for name, own in steps.items() if of_rows.get(name) is not own}:
            self.steps.clear()  # from now on, a gradient of all rows counts a step for each of them
            of_rows.update(new)
        for each in step.engine.rows:
            if each.own.missed is None:
                self.counts.missed.pop(each.name, None)
            else:
                self.counts.missed[each.name] = each.own.missed
        step.was_kept(plan.is_plain and self.counts.is_plain)
        self.steps.keep(step, self.counts.version)

    def __getstate__(self) -> dict[str, Any]:  # for pickle and copy.deepcopy
        norm = None if self.norm is None else float(self.norm)
        return {**self.__dict__, "norm": norm, "is_averaged": False, "planned": None, "_plan": None, "measured": ()}
