"""Patterns of names, as those of `groups` and `frozen`, and the names of calls."""

from collections.abc import Iterable, Mapping
from typing import Any

from fastoptim.arrays.named import check_mapping
from fastoptim.settings.patterns import check_matched, first_match
from fastoptim.settings.plan import Plan
from fastoptim.step.bound import Arrays
from fastoptim.step.checks import check_names


class NamePatterns:
    """Takes frozen names out of calls, and refuses patterns that match nothing. It remembers the last call's names."""

    def __init__(self) -> None:
        self._matched: Any = {}  # the patterns that have each matched a name
        self._latest: tuple[Any, ...] = ()  # the patterns of `frozen`, and the names of a call
        self._others: Arrays = ()  # those of the names that are not frozen

    def check(self, plan: Plan, params: Mapping[Any, Any], known: Iterable[Any]) -> None:
        """Refuse a pattern that matches no name, at the first call that has it.

        Args:
            plan: has the patterns.
            params: of the call.
            known: names that have made a step.

        Raises:
            TypeError, ValueError: one does, or the parameters are no mapping.
        """
        if plan.name_patterns != self._matched:
            check_mapping(params, "params")
            for field, patterns in plan.name_patterns.items():
                check_matched(field, patterns, (*params, *known), params)
            self._matched = plan.name_patterns

    def taking_part(
        self, plan: Plan, params: Mapping[Any, Any], grads: Mapping[Any, Any], known: Iterable[Any]
    ) -> tuple[Mapping[Any, Any], Mapping[Any, Any]]:
        """The arrays of a call without those that are frozen: nobody looks at these. For arguments see `check`.

        Raises:
            KeyError, TypeError, ValueError: a gradient is missing, something is no mapping, or a pattern matches no
                name.
        """
        self.check(plan, params, known)
        if not plan.frozen:
            return params, grads
        check_mapping(params, "params")
        latest = plan.frozen, *params
        if latest != self._latest:
            self._others = tuple(name for name in params if first_match(plan.frozen, name) is None)
            self._latest = latest
        names = self._others
        if len(names) == len(params):  # a flat buffer stays one
            return params, grads
        own = {name: params[name] for name in names}
        check_names(own, grads)
        return own, {name: grads[name] for name in names}
