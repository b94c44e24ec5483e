"""The parameters that an optimizer has a model judged with: a pass over parameters and state that changes no state."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fastoptim.arrays.devices import memory_of
from fastoptim.arrays.flat import FlatDict
from fastoptim.arrays.info import on_gpu
from fastoptim.arrays.layout import Kind, kind_of
from fastoptim.arrays.memory import HOST, Memory
from fastoptim.arrays.overlap import check_apart
from fastoptim.settings.algorithm import Algorithm
from fastoptim.settings.rows import WrongScalarsError
from fastoptim.state.counts import Cohort
from fastoptim.step.checks import as_param, infos_of
from fastoptim.step.stepper import Stepper


class Replacement(NamedTuple):
    """What takes the place of the parameters' numbers.

    Attributes:
        memory: where the arrays are.
        arrays: the parameters by name, whose numbers wait meanwhile.
        kinds: what the parameters are.
        put: writes the other numbers into the parameters.
    """

    memory: Memory
    arrays: Mapping[Any, Any]
    kinds: dict[Any, Kind]
    put: Callable[[], None]


def evaluation(stepper: Stepper, algorithm: Algorithm, params: Mapping[Any, Any]) -> Replacement:
    """An optimizer's evaluation parameters in the place of the parameters.

    All is looked at and compiled here, and nothing changed. Names that have made no step stay as they are.

    Raises:
        TypeError, ValueError: an array is not what it was when it was updated, or a number is wrong.
    """
    names, arrays = tuple(params), tuple(params.values())
    on_device = any(map(on_gpu, arrays))
    if not on_device:
        arrays = tuple(map(as_param, arrays, names))
    infos, _ = infos_of(names, arrays, arrays)
    check_apart(names, infos, infos)
    memory, own = memory_of("cuda") if on_device else HOST, dict(zip(names, arrays, strict=True))
    kinds = {name: kind_of(info) for name, info in zip(names, infos, strict=True)}
    stepped = [name for name in names if stepper.counts.has_stepped(name)]
    whole = type(params) is FlatDict and len(stepped) == len(names)
    some = params if whole else {name: own[name] for name in stepped}
    return Replacement(memory, own, kinds, _pass(stepper, algorithm, some) if stepped else _nothing)


def _pass(stepper: Stepper, algorithm: Algorithm, params: Mapping[Any, Any]) -> Callable[[], None]:
    """The pass over parameters that have all made a step."""
    assert algorithm.evaluation_stage is not None
    plan = algorithm.evaluation_plan(algorithm.evaluation_stage)
    step, own, grads = stepper.bind_evaluation(algorithm, plan, params)
    # A plan is asked for the step that follows, and here for the one that was made last.
    made = stepper.counts.on_gpu and stepper.counts.iter
    kinds = [(Cohort((made or cohort.count) - 1, cohort.carry, ()), group) for cohort, group in step.kinds]
    try:
        step.set_rows(plan.rows(algorithm, kinds, 1.0), None)
    except WrongScalarsError as error:
        raise _complaint(algorithm, error) from error.__cause__

    def run() -> None:
        step.engine.run(own, grads)
        step.engine.memory.wait()

    return run


def _nothing() -> None:
    """No name has made a step."""


def _complaint(algorithm: Algorithm, error: WrongScalarsError) -> ValueError:
    assert algorithm.evaluation_stage is not None
    names = algorithm.evaluation_stage.kernels.scalar_names
    expected = f"expected {len(names)} float{'s' * (len(names) != 1)} ({', '.join(names) or 'none'})"
    return ValueError(f"{type(algorithm).__name__}.evaluation_scalars: {expected}, got {error.returned}")
