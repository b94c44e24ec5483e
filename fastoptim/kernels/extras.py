"""What happens to an element beside the rule, in the same pass: written once, for all rules and devices."""

from typing import Any, NamedTuple

from fastoptim.kernels.rule import Rule, arguments


class Extras(NamedTuple):
    """Which of them there are. Known when kernels are compiled, so that what is off is not in them.

    Attributes:
        factor: the gradient is multiplied by a number, such as one over the loss scale.
        limit: and limited to an interval around zero.
        decay: a part of the parameter is added to it.
        shrink: a part of the parameter is taken from the parameter.
        average: a moving average follows the parameter; it lies behind the state.
        norm: the gradient is multiplied by one more number, the last scalar, which follows from all gradients.
        zero: the gradient is set to zero afterwards. That is left to the loops, as a rule has no say in gradients.
    """

    factor: bool = False
    limit: bool = False
    decay: bool = False
    shrink: bool = False
    average: bool = False
    norm: bool = False
    zero: bool = False

    @property
    def scalars(self) -> tuple[str, ...]:
        """The names of the numbers that come behind those of the rule, one for each of the first six."""
        return tuple(name for name, there in zip(self._fields[:6], self, strict=False) if there)


NOTHING = Extras()


class Signature(NamedTuple):
    """The names of what a pass takes beside `p` and `g`."""

    slots: tuple[str, ...]
    scalars: tuple[str, ...]


def signature(rule: Rule, slots: int, extras: Extras) -> Signature:
    """What the pass around a rule takes: state, behind it the average, and the rule's scalars before the others."""
    names = arguments(rule)[2:]
    return Signature(names[:slots] + ("average",) * extras.average, names[slots:] + extras.scalars)


def around(rule: Rule, count: int, slots: int, extras: Extras, as_tuple: Rule) -> Rule:
    """The function of one element: `(p, g, *state[, average], *scalars) -> (p, *state[, average])`.

    In the order of the passes that it stands for: what is done to the gradient, decay, the rule, the average.

    Args:
        rule: callable where this one will be.
        count: of the rule's scalars.
        slots: of the rule's state.
        extras: what is wanted.
        as_tuple: `(returned, p, state) -> ` what a rule returned, as a tuple.
    """
    if not any(extras[:6]):
        return lambda p, g, *numbers: as_tuple(rule(p, g, *numbers), p, numbers[:slots])
    first = slots + extras.average
    behind = first + count
    places = {name: behind + i for i, name in enumerate(extras.scalars)}
    # numba takes numbers of this function for constants, and leaves out the branches that are never taken
    has_factor, has_limit, has_decay, has_shrink, has_average, has_norm, _ = extras
    factor, limit, decay, shrink, weight, norm = (places.get(name, 0) for name in Extras._fields[:6])

    def element(p: Any, g: Any, *numbers: Any) -> Any:
        if has_factor and has_norm:
            g = numbers[factor] * numbers[norm] * g
        elif has_factor:
            g = numbers[factor] * g
        elif has_norm:
            g = numbers[norm] * g
        if has_limit:
            g = numbers[limit] if g > numbers[limit] else -numbers[limit] if g < -numbers[limit] else g
        if has_decay:
            g = g + numbers[decay] * p
        if has_shrink:
            p = p - numbers[shrink] * p
        new = as_tuple(rule(p, g, *numbers[:slots], *numbers[first:behind]), p, numbers[:slots])
        if has_average:
            return new + (numbers[slots] + numbers[weight] * (new[0] - numbers[slots]),)
        return new

    return element
