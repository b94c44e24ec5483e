"""One of the calls that make a step together."""

from collections.abc import Mapping
from typing import Any

from fastoptim.arrays.flat import FlatDict
from fastoptim.arrays.rows import Rows
from fastoptim.settings.algorithm import Algorithm
from fastoptim.step.accumulate import Accumulator
from fastoptim.step.checks import check_names
from fastoptim.step.stepper import Stepper


def micro_step(
    stepper: Stepper,
    accumulator: Accumulator,
    algorithm: Algorithm,
    params: Mapping[Any, Any],
    grads: Mapping[Any, Any],
    stream: Any,
    shadow: Mapping[Any, Any] | None = None,
) -> bool:
    """Add to the summed gradients, and make a step with the names that have had enough calls.

    Whatever is wrong with the arrays or the numbers is found before anything is added.

    Returns:
        Whether all of it was made: not where an element is not finite and such calls are skipped.

    Raises:
        KeyError, TypeError, ValueError, WrongScalarsError: see `Optimizer.update`. Nothing has changed then.
    """
    plan = stepper.plan(algorithm, accumulates=True, shadows=shadow is not None)
    params, grads = stepper.taking_part(plan, params, grads)  # with all names: a part of them may make a step
    check_names(params, grads)
    for name in params:
        if type(grads[name]) is Rows:
            raise TypeError(
                f"grads[{name!r}]: expected a gradient of all rows, as accumulate sums whole arrays; got Rows"
            )
    if type(grads) not in (dict, FlatDict):
        grads = {name: grads[name] for name in params}  # once: a mapping may compute what is looked up
    sums = accumulator.including(params)
    ready = []
    for count, own, gradients in accumulator.batches(params, grads, sums, algorithm.accumulate):
        found = stepper.find(algorithm, plan, own, gradients, shadow)
        if count:
            ready.append((count, own, gradients, found, stepper.rows(algorithm, plan, found, count)))
    if not accumulator.add(sums, params, grads, algorithm, stream):
        stepper.counts.skipped += 1
        stepper.measured = accumulator.measured
        return False
    # In an order that nothing else decides: numbers that all names share depend on it.
    ready.sort(key=lambda batch: batch[0])
    measured, made = list[Any](), True
    for i, (count, own, gradients, found, rows) in enumerate(ready):
        if i and not found[0].is_kept:  # it was bound with copies of the averages before this call's other steps
            found = stepper.find(algorithm, plan, own, gradients, shadow)
        made &= stepper.run(algorithm, plan, found, count, stream, rows, shadow=shadow)
        accumulator.stepped(own)
        measured += stepper.measured
    if ready:
        stepper.measured = tuple(measured)
    return made
