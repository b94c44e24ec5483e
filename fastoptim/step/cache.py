"""The bound steps of an optimizer: the last ones are kept for calls with other names or layouts in turn."""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from fastoptim.arrays.flat import FlatDict
from fastoptim.arrays.layout import Layout
from fastoptim.step.bound import Arrays, BoundStep
from fastoptim.step.checks import check_names

LIMIT = 64  # bound steps

Found = tuple[BoundStep, Arrays, Arrays]  # and the parameters and gradients as it takes them


class BoundSteps:
    """The last bound steps. They keep no arrays alive."""

    def __init__(self) -> None:
        self._latest: BoundStep | None = None
        self._names: Arrays | None = None  # the latest one's, if it is one of names
        self._look_up: Callable[[Any], Arrays] = tuple
        self._by_key: dict[Any, list[BoundStep]] = {}

    def find(self, params: Mapping[Any, Any], grads: Mapping[Any, Any], version: int) -> Found | None:
        """The step that takes these arrays as they are, if there is one.

        Args:
            params: the parameters.
            grads: the gradients.
            version: of the cohorts, see `StepCounts`.

        Raises:
            KeyError, TypeError: a name is missing, or something is no mapping.
        """
        latest = self._latest
        if latest is None:
            return None
        if type(params) is FlatDict and type(grads) is FlatDict and params.layout is grads.layout:
            found = self.search(params.layout, params.arrays, grads.arrays, version)
            if found is not None:
                return found
        try:
            if type(grads) is not dict:  # looking up a key in another mapping may have side effects
                check_names(params, grads)
            names, own = tuple(params), tuple(params.values())
            if names == self._names:
                given = self._look_up(grads)
                if (latest.version == version or latest.is_current(version)) and latest.accept(own, given):
                    return latest, own, given
            else:
                given = tuple(map(grads.__getitem__, names))
        except (KeyError, TypeError, AttributeError):
            check_names(params, grads)
            raise
        return self._others(names, own, given, version)

    def search(self, key: Any, params: Arrays, grads: Arrays, version: int) -> Found | None:
        """The step of these names, or of this layout, that takes these arrays, if there is one."""
        latest = self._latest
        if (
            latest is not None
            and latest.key == key
            and (latest.version == version or latest.is_current(version))
            and latest.accept(params, grads)
        ):
            return latest, params, grads
        return self._others(key, params, grads, version)

    def _others(self, key: Any, params: Arrays, grads: Arrays, version: int) -> Found | None:
        """One that is not the latest."""
        latest = self._latest
        for step in self._by_key.get(key, ()):
            current = step.version == version or step.is_current(version)
            if step is not latest and current and step.accept(params, grads):
                self._use(step)
                return step, params, grads
        return None

    def keep(self, step: BoundStep, version: int) -> None:
        """Keep a step for later calls. Drop steps whose cohorts were split, and the oldest beyond `LIMIT`."""
        steps = [each for each in self._by_key.pop(step.key, ()) if each.version == version or each.is_current(version)]
        self._by_key[step.key] = [*steps[1 - LIMIT :], step]
        while sum(map(len, self._by_key.values())) > LIMIT:
            del self._by_key[next(iter(self._by_key))]
        self._use(step)

    def _use(self, step: BoundStep) -> None:
        self._latest = step
        key = step.key
        self._by_key[key] = self._by_key.pop(key)  # the last key is the one that was used last
        if isinstance(key, Layout):
            self._names = None
        elif key is not self._names:
            self._names = key
            # a getter of one name returns no tuple
            self._look_up = itemgetter(*key) if len(key) > 1 else lambda grads: tuple(map(grads.__getitem__, key))

    @property
    def rows(self) -> Sequence[Any]:
        """The parameters of the last step that may have gradients of some rows."""
        return () if self._latest is None else self._latest.engine.rows

    @property
    def is_flat(self) -> bool:
        """Whether the last step was one of flat buffers."""
        return self._latest is not None and isinstance(self._latest.key, Layout)

    def clear(self) -> None:
        """Keep none."""
        self._latest = self._names = None
        self._by_key.clear()

    def __reduce__(self) -> tuple[Any, ...]:  # addresses mean nothing elsewhere
        return BoundSteps, ()
