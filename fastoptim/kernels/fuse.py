"""What the options do to an element, fused with the rule into one pass: written once, for all rules and devices."""

from collections.abc import Callable
from typing import Any, NamedTuple

from numba import types
from numba.extending import overload

from fastoptim.kernels.rule import Rule, arguments


class Fused(NamedTuple):
    """The options that a pass includes. They are known when a kernel is compiled, so that the others are not in it.

    Attributes:
        grad_scale: the gradient is multiplied by a number: one over the loss scale, negative to maximize.
        clip_value: the gradient is limited to an interval around zero.
        weight_decay: a part of the parameter is added to the gradient.
        decoupled: a part of the parameter is taken from the parameter.
        cautious: what the rule does to the parameter is taken back where it moves it along its gradient.
        rescaled: what is left of it is made longer, by a number of the array that a stage before has counted.
        bounds: the parameter is brought into an interval.
        ema: a moving average follows the parameter; it lies behind the state.
        clip_norm: the gradient is multiplied by `clip_coef`, the last scalar, which depends on all gradients.
        compensation: what the parameter has lost by being rounded is added to it first, and kept afterwards; it lies
            behind the state and the average.
        copy: the parameter is also written to another array, rounded; that is the last operand, and never read.
        stochastic: parameter and state are rounded up or down at random; the scalars are the pieces of the step's key.
        zero_grads: the gradient is set to zero afterwards. The loops do that, as a rule cannot write to gradients.
    """

    grad_scale: bool = False
    clip_value: bool = False
    weight_decay: bool = False
    decoupled: bool = False
    cautious: bool = False
    rescaled: bool = False
    bounds: bool = False
    ema: bool = False
    clip_norm: bool = False
    compensation: bool = False
    copy: bool = False
    stochastic: bool = False
    zero_grads: bool = False

    @property
    def scalars(self) -> tuple[str, ...]:
        """The names of the scalars that come behind those of the rule, in the order of `SCALARS`."""
        return tuple(name for option, names in SCALARS.items() if getattr(self, option) for name in names)

    @property
    def changes_elements(self) -> bool:
        """Whether the function of one element is more than the rule."""
        return any(self._replace(zero_grads=False))  # with others, scalars come behind those of the rule

    def described(self, owner: str) -> str:
        """An optimizer with these options, in words: "Adam with clip_norm, ema"."""
        names = sorted(name for name, included in zip(self._fields, self, strict=True) if included)
        return f"{owner} with {', '.join(names)}" if names else owner


NOTHING = Fused()
# The scalars of each option that has some. The order is that of a row of scalars. `clip_norm` has to stay last: a GPU
# keeps its number, `clip_coef`, apart from the others, as it is computed there.
SCALARS: dict[str, tuple[str, ...]] = {
    "grad_scale": ("grad_scale",),
    "clip_value": ("clip_value",),
    "weight_decay": ("weight_decay",),
    "decoupled": ("decoupled",),
    "bounds": ("low", "high"),
    "ema": ("ema",),
    "stochastic": ("random_0", "random_1", "random_2", "random_3"),
    "clip_norm": ("clip_norm",),
}


class Signature(NamedTuple):
    """The names of what a pass takes beside `p` and `g`."""

    slots: tuple[str, ...]
    scalars: tuple[str, ...]


def signature(rule: Rule, slots: int, fused: Fused) -> Signature:
    """What the pass around a rule takes: the state and what lies behind it; the rule's scalars, then the options'."""
    names = arguments(rule)[2:]
    behind = ("average",) * fused.ema + ("compensation",) * fused.compensation + ("copy",) * fused.copy
    return Signature(names[:slots] + behind, names[slots:] + fused.scalars)


def around(
    rule: Rule,
    count: int,
    slots: int,
    fused: Fused,
    as_tuple: Rule,
    *,
    is_last: bool = True,
    counts: bool = False,
    rescale: int = 0,
) -> Rule:
    """The function of one element: `(p, g, *state, *behind, *scalars) -> (p, *state, *behind)`, see `signature`.

    Its order: what is done to the gradient, weight decay, the rule, what is taken back of it, the bounds, the average.

    Args:
        rule: callable where this function will be.
        count: how many scalars the rule takes.
        slots: how many slots of state the rule takes.
        fused: the options to include.
        as_tuple: `(returned, p, state) -> ` what a rule returned, as a tuple.
        is_last: whether the rule returns the new parameter, so that what follows from that is done, too.
        counts: return nothing but whether the rule goes against the gradient.
        rescale: with `rescaled`, the place of its number among the rule's scalars.
    """
    if not fused.changes_elements:
        return lambda p, g, *numbers: as_tuple(rule(p, g, *numbers), p, numbers[:slots])
    first, lost = slots + fused.ema + fused.compensation + fused.copy, slots + fused.ema
    behind = first + count
    places = {name: behind + i for i, name in enumerate(fused.scalars)}
    # Numba takes these closed-over values for constants, and leaves out the branches that are never taken.
    has_scale, has_clip_value, has_decay, has_decoupled, is_cautious, is_rescaled, has_bounds, *others = fused
    has_average, has_clip_norm, has_compensation, has_copy, *_ = others
    has_copy = has_copy or has_compensation  # what is written there is the new parameter, too
    is_cautious, has_bounds, has_average, has_copy = (
        x and is_last for x in (is_cautious, has_bounds, has_average, has_copy)
    )
    rescale += first
    scale, limit, decay, shrink, low, high, weight, *_, clip_coef = (
        places.get(name, 0) for names in SCALARS.values() for name in names
    )

    def element(p: Any, g: Any, *numbers: Any) -> Any:
        if has_compensation:
            p = p + numbers[lost]
        if has_scale and has_clip_norm:
            g = numbers[scale] * numbers[clip_coef] * g
        elif has_scale:
            g = numbers[scale] * g
        elif has_clip_norm:
            g = numbers[clip_coef] * g
        if has_clip_value:
            g = numbers[limit] if g > numbers[limit] else -numbers[limit] if g < -numbers[limit] else g
        if has_decay:
            g = g + numbers[decay] * p
        if has_decoupled:
            p = p - numbers[shrink] * p
        new = as_tuple(rule(p, g, *numbers[:slots], *numbers[first:behind]), p, numbers[:slots])
        if counts:
            return ((new[0] < p) if g > 0 else (new[0] > p) if g < 0 else False,)
        if is_cautious:
            # A product of step and gradient would be 0 for two small numbers. And `p if ... else q` as the last word
            # becomes a store under a mask, with which AMD's processors take 5 times as long.
            q = p if g == 0 else new[0]
            lower, higher = p if q > p else q, p if q < p else q
            kept = lower if g > 0 else higher
            if is_rescaled:
                kept = p + numbers[rescale] * (kept - p)
            new = (kept,) + new[1:]
        if has_bounds:
            q = new[0]
            new = (numbers[low] if q < numbers[low] else numbers[high] if q > numbers[high] else q,) + new[1:]
        if has_average:
            average = numbers[slots] + numbers[weight] * (new[0] - numbers[slots])
            if has_copy:
                return new + (average, new[0])
            return new + (average,)
        if has_copy:
            return new + (new[0],)
        return new

    return element


def typed(updated: Any, element: Any, state: Any) -> Any:
    """What a rule returned, as a tuple. Anything but p and the state in the element's own type is refused."""
    return _checked(updated, element, 1 + len(state))


def typed_alone(updated: Any, element: Any, state: Any) -> Any:
    """What a rule that leaves the state as it is has returned, as a tuple of `p` alone."""
    return _checked(updated, element, 1)


def typed_values(updated: Any, element: Any, others: Any) -> Any:
    """What the rule of a reduction returned, as a tuple of one more than there are `others`."""
    return _checked(updated, element, 1 + len(others))


def _checked(updated: Any, element: Any, count: int) -> Any:
    new = updated if isinstance(updated, tuple) else (updated,)  # in numba's simulator, which calls these functions
    if len(new) != count or any(type(x) is not type(element) for x in new):
        raise TypeError(f"the rule returned {updated} for elements of {type(element)}")
    return new


@overload(typed, strict=False)
def _typed_overload(updated: Any, element: Any, state: Any) -> Callable[..., Any]:
    few = "Return a tuple of p and each slot" if len(state) else "Return p alone, as there is no state"
    return _as_tuple(updated, element, 1 + len(state), "p and the new state", few)


@overload(typed_alone, strict=False)
def _typed_alone_overload(updated: Any, element: Any, state: Any) -> Callable[..., Any]:
    return _as_tuple(updated, element, 1, "p", "Return p alone, as the state stays as it is")


@overload(typed_values, strict=False)
def _typed_values_overload(updated: Any, element: Any, others: Any) -> Callable[..., Any]:
    few = "Return a tuple of each slot that the rule names, and each value that is summed"
    return _as_tuple(updated, element, 1 + len(others), "the new state and what is summed", few)


def _as_tuple(updated: Any, element: Any, count: int, what: str, wrong_count: str) -> Callable[..., Any]:
    """What makes a tuple of `count` elements of what a rule returned."""
    expected = types.UniTuple(element, count)
    if updated == expected:
        return lambda updated, element, others: updated
    if updated == element and count == 1:
        return lambda updated, element, others: (updated,)
    returned = updated.count if isinstance(updated, types.BaseTuple) else 1
    hint = "A literal or a power promotes float32: write x * x for x**2, take 1 - beta or 0.5 as scalars"
    raise TypeError(
        f"the rule returned {updated} for elements of {element}; expected {count} x {element}, {what}. "
        f"{hint if returned == count else wrong_count}"
    )
