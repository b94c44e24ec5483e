"""How many steps each name has made: the only place that counts."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from fastoptim.arrays.memory import Array
from fastoptim.settings.carry import Carry, carried
from fastoptim.state.missed import MissedSteps
from fastoptim.state.saved import count, counts, mapping


class Cohort:
    """Names that have made all their steps together.

    Attributes:
        count: how many steps.
        carry: what the optimizer carries from step to step, None if it carries nothing.
        names: the names, in order.
    """

    __slots__ = ("carry", "count", "names")

    def __init__(self, count: int, carry: Carry, names: Iterable[Any]) -> None:
        self.count, self.carry, self.names = count, carry, dict.fromkeys(names)


class GpuCounter(Protocol):
    """A count of steps in a GPU's memory.

    Attributes:
        settings: the hyperparameters that the steps' numbers there were computed for.
    """

    settings: Any

    def read(self) -> int:
        """How many steps were made: waits for them."""


class StepCounts:
    """Each name counts its own steps, and has its own carry where an optimizer carries something.

    Names that make their steps together share a `Cohort`, which an update counts up once. When some of them make a
    step without the others, the cohort is split.

    Attributes:
        skipped: how many calls made no step, as their gradients were not all finite.
        version: changes whenever a name changes its cohort.
        on_gpu: the counter of a capturable optimizer, which counts instead once there is one.
        of_rows: of parameters that have had gradients of some rows, the steps of each row, int32 `(rows,)`.
        missed: of those whose rows catch up, what the steps would have done that they have missed.
    """

    def __init__(self, carry: Carry = None) -> None:
        self.skipped = self.version = 0
        self.on_gpu: GpuCounter | None = None
        self.of_rows: dict[Any, Array] = {}
        self.missed: dict[Any, MissedSteps] = {}
        self._carry = carry
        self._cohorts: dict[Any, Cohort] = {}

    @property
    def iter(self) -> int:
        """The largest count of all names."""
        if self.on_gpu is not None:
            return self.on_gpu.read()
        return max((cohort.count for cohort in self._cohorts.values()), default=0)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is carried from step to step."""
        return self._carry is None

    @property
    def settings(self) -> Any:
        """The hyperparameters that the numbers in a GPU's memory were computed for."""
        return None if self.on_gpu is None else self.on_gpu.settings

    @property
    def names(self) -> Collection[Any]:
        """All names that have made a step."""
        return self._cohorts.keys()

    def has_stepped(self, name: Any) -> bool:
        """Whether a name has made a step."""
        cohort = self._cohorts.get(name)
        return cohort is not None and (cohort.count > 0 or self.on_gpu is not None)

    def cohorts(self, groups: Mapping[Any, int]) -> dict[Any, Cohort]:
        """The cohort of each name. A cohort that also has other names, or names of several groups, is split first.

        Cohorts that have made as many steps as each other are joined. No count changes.

        Names without a step get a new one, which `add` has to add when they make their first.

        Args:
            groups: the names of a step, each with the number of its group.
        """
        found: dict[Any, list[Any]] = {}
        for name, group in groups.items():
            cohort = self._cohorts.get(name)
            clock = None if cohort is None else (cohort.count, cohort.carry)
            found.setdefault((clock, group), []).append(name)
        chosen: dict[Any, Cohort] = {}
        for (clock, _), members in found.items():
            owners = {self._cohorts[name] for name in members} if clock is not None else set()
            if len(owners) == 1 and len(members) == len(next(iter(owners)).names):
                own = owners.pop()
            else:  # new names, a part of a cohort, or cohorts that have come to be alike
                made, carry = clock or (0, self._carry)
                own = Cohort(made, carry, members)
                for owner in owners:
                    owner.names = {name: None for name in owner.names if name not in own.names}
                if owners:
                    self._cohorts |= dict.fromkeys(members, own)
                    self.version += 1
            chosen |= dict.fromkeys(members, own)
        return chosen

    def add(self, cohorts: Iterable[Cohort]) -> None:
        """Have new cohorts counted."""
        for cohort in cohorts:
            self._cohorts |= {name: cohort for name in cohort.names if name not in self._cohorts}

    def come_back(self) -> None:
        """Count on the host again."""
        if self.on_gpu is not None:
            made, self.on_gpu = self.on_gpu.read(), None
            for cohort in self._cohorts.values():
                cohort.count = made

    def export(self) -> dict[str, Any]:
        """The counts as plain data."""
        made = None if self.on_gpu is None else self.on_gpu.read()
        steps = {name: cohort.count if made is None else made for name, cohort in self._cohorts.items()}
        saved: dict[str, Any] = {"iter": max(steps.values(), default=0), "skipped": self.skipped, "steps": steps}
        if self._carry is not None:
            as_data = list if isinstance(self._carry, tuple) else float  # what a file gives back
            saved["carry"] = {name: as_data(cohort.carry) for name, cohort in self._cohorts.items()}
        if self.of_rows:
            saved["row_steps"] = {name: self._exported_rows(name) for name in self.of_rows}
        return saved

    def is_behind(self, name: Any) -> bool:
        """Whether rows of a parameter have missed steps that they have to make."""
        missed = self.missed.get(name)
        if missed is None or missed.is_idle:
            return False
        return bool((self.of_rows[name] != self._cohorts[name].count).any())

    def _exported_rows(self, name: Any) -> Array:
        if self.is_behind(name):
            raise RuntimeError(f"state_dict: rows of {name!r} are behind, expected opt.flush(params) before it")
        steps = self.of_rows[name]
        return np.full_like(steps, self._cohorts[name].count) if name in self.missed else steps

    def load(self, saved: Mapping[str, Any]) -> "StepCounts":
        """The counts that `export` has returned.

        Raises:
            KeyError, TypeError, ValueError: something is missing or not what it has to be.
        """
        made, skipped = count(saved["iter"], "iter"), count(saved["skipped"], "skipped")
        steps = counts(saved["steps"], "steps")
        for name, own in steps.items():
            if own > made:
                raise ValueError(f"state dict: steps[{name!r}]: expected at most iter, {made}, got {own}")
        carries: dict[Any, Any] = dict.fromkeys(steps)
        if self._carry is not None:
            carries = self._carries(saved["carry"], steps)
        loaded = StepCounts(self._carry)
        loaded.skipped = skipped
        together: dict[tuple[int, Any], list[Any]] = {}
        for name, own in steps.items():
            together.setdefault((own, carries[name]), []).append(name)
        for key, members in together.items():
            loaded._cohorts |= dict.fromkeys(members, Cohort(*key, members))
        loaded._cohorts = {name: loaded._cohorts[name] for name in steps}  # in the order saved
        loaded.of_rows = _steps_of_rows(saved.get("row_steps", {}), steps)
        return loaded

    def _carries(self, saved: Any, steps: Mapping[Any, int]) -> dict[Any, Carry]:
        """The carry of each name that has made a step.

        Raises:
            TypeError, ValueError: there are other names, or one's carry has another form.
        """
        found = mapping(saved, "carry")
        if found.keys() != steps.keys():
            names = [", ".join(map(repr, each)) or "none" for each in (steps, found)]
            raise ValueError(f"state dict: carry: expected the names that steps has, {names[0]}; got {names[1]}")
        for name, carry in found.items():
            try:
                found[name] = carried(carry, self._carry)
            except TypeError as error:
                raise TypeError(f"state dict: carry[{name!r}]: {error}") from None
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._carry, self.export())


def _restored(carry: Carry, saved: dict[str, Any]) -> StepCounts:
    return StepCounts(carry).load(saved)


def _steps_of_rows(saved: Any, steps: Mapping[Any, int]) -> dict[Any, Array]:
    """How many steps each row has made, by name, as copies.

    Raises:
        TypeError, ValueError: these are no counts, or there are more of a row than of its name.
    """
    found = dict[Any, Array]()
    for name, array in mapping(saved, "row_steps").items():
        what, own = f"state dict: row_steps[{name!r}]", np.asarray(array)
        if own.dtype.kind not in "iu" or own.ndim != 1:
            raise TypeError(f"{what}: expected integers (rows,), got {own.dtype} {own.shape}")
        if name not in steps:
            raise ValueError(f"{what}: expected a name that steps has, too")
        if own.size and not 0 <= own.min() <= own.max() <= steps[name]:
            raise ValueError(f"{what}: expected counts in [0, {steps[name]}], got {own.min()} to {own.max()}")
        found[name] = own.astype(np.int32)
    return found
