"""Steps on the mean gradient of several calls: the summed gradients, and how many calls each name has had."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastoptim.arrays.devices import info_of, memory_of
from fastoptim.arrays.flat import FlatDict, extended
from fastoptim.arrays.layout import Kind, Layout, kind_of
from fastoptim.arrays.memory import HOST, Memory, copy_from
from fastoptim.arrays.overlap import check_apart
from fastoptim.settings.algorithm import Algorithm
from fastoptim.settings.plan import Plan
from fastoptim.state.saved import arrays_in, counts
from fastoptim.step.adding import Accumulation
from fastoptim.step.bind import given
from fastoptim.step.cache import Found
from fastoptim.step.checks import infos_of
from fastoptim.step.host import AddressGuard
from fastoptim.step.stepper import Stepper


class Accumulator:
    """The summed gradients of the names that have yet to make their step.

    Attributes:
        sums: by name, None before the first call.
        micro_steps: how many calls each name has had since its last step.
    """

    def __init__(self) -> None:
        self.sums: FlatDict | None = None
        self.micro_steps: dict[Any, int] = {}
        self._had: set[Any] = set()  # the names that had a gradient in one of these calls
        self._adding, self._stepper = Accumulation(), Stepper(())
        self._latest: tuple[Any, Any, Mapping[Any, Any]] = (None, None, {})  # names, sums, and the sums of these names
        self._apart: tuple[Any, AddressGuard] | None = None  # names and arrays that were found to share no memory

    def including(self, params: Mapping[Any, Any]) -> FlatDict:
        """The sums with zeros for parameters that are new; `add` keeps them.

        Raises:
            TypeError, ValueError: a parameter is no array, or on another device.
        """
        sums = self.sums
        alike = sums is not None and (type(params) is not FlatDict or params.layout is sums.layout)
        if sums is not None and alike and params.keys() <= sums.keys():
            return sums
        infos = {name: info_of(array, f"params[{name!r}]") for name, array in params.items()}
        kinds: dict[Any, Kind] = {name: kind_of(info.as_computed) for name, info in infos.items()}
        on_device = any(info.device is not None for info in infos.values())
        memory = memory_of("cuda") if on_device else HOST
        return extended(sums, params.layout if type(params) is FlatDict else None, kinds, memory)

    def batches(
        self, params: Mapping[Any, Any], grads: Mapping[Any, Any], sums: FlatDict, accumulate: int
    ) -> list[tuple[int, Mapping[Any, Any], Mapping[Any, Any]]]:
        """The names that step with this call, in batches: the number of calls in the sums, the parameters, the sums.

        Names that need more calls come with 0. A sum is None where none of its calls had a gradient.
        """
        names, before = tuple(params), self.micro_steps
        if not self._had.issuperset(names) and any(grads[name] is None for name in names):
            has = {name for name in names if name in self._had or grads[name] is not None}
            found: Mapping[Any, Any] = {name: sums[name] if name in has else None for name in names}
        else:
            found = self._sums_of(params, sums)
        due: dict[int, list[Any]] = {}
        for count in set(map(before.get, names)):  # mostly one: all names have the same count
            new = (count or 0) + 1
            if new >= accumulate:
                due[new] = [name for name in names if before.get(name) == count]
        if len(due) == 1 and len(next(iter(due.values()))) == len(names):
            return [(next(iter(due)), params, found)]
        if not due:
            return [(0, params, found)]
        ready = {name for members in due.values() for name in members}
        due[0] = [name for name in names if name not in ready]
        return [
            (count, {name: params[name] for name in members}, {name: found[name] for name in members})
            for count, members in due.items()
        ]

    def _sums_of(self, params: Mapping[Any, Any], sums: FlatDict) -> Mapping[Any, Any]:
        """The sums of these names alone, in their order."""
        if type(params) is FlatDict and params.layout is sums.layout:
            return sums
        names = tuple(params)
        if self._latest[0] != names or self._latest[1] is not sums:
            self._latest = names, sums, {name: sums[name] for name in names}
        return self._latest[2]

    def add(
        self, sums: FlatDict, params: Mapping[Any, Any], grads: Mapping[Any, Any], options: Algorithm, stream: Any
    ) -> bool:
        """Add the gradients of a call to the sums, and count it for each name.

        Args:
            sums: those of `including`.
            params: the parameters, whose names take part.
            grads: the gradients.
            options: of the optimizer: grad_scale, zero_grads, skip_nonfinite and statistics count.
            stream: on a GPU.

        Returns:
            Whether they were added: not where an element is not finite and such calls are skipped.

        Raises:
            KeyError, TypeError, ValueError: a gradient does not fit. Nothing has changed then.
        """
        plan, found = self.bind(sums, params, grads, options)
        if stream is not None:
            found[0].engine.check_stream(stream)
        scale, asked = float(self._adding.grad_scale), options.statistics
        if not self._stepper.run(self._adding, plan, found, scale, stream, asked=asked):
            return False
        self.sums, names, micro_steps = sums, tuple(params), self.micro_steps
        counts = set(map(micro_steps.get, names))
        if len(counts) == 1:
            micro_steps.update(dict.fromkeys(names, (counts.pop() or 0) + 1))
        else:
            micro_steps.update({name: micro_steps.get(name, 0) + 1 for name in names})
        if not self._had.issuperset(names):
            self._had.update(name for name in names if grads[name] is not None)
        return True

    @property
    def measured(self) -> tuple[Any, ...]:
        """What says why the last call was skipped: see `Stepper`."""
        return self._stepper.measured

    def bind(
        self, sums: FlatDict, params: Mapping[Any, Any], grads: Mapping[Any, Any], options: Algorithm
    ) -> tuple[Plan, Found]:
        """What adds the gradients of a call to the sums. Nothing is added yet; for arguments and errors see `add`."""
        adding = self._adding
        for name in "grad_scale", "zero_grads", "skip_nonfinite":
            if getattr(adding, name) != (value := getattr(options, name)):
                setattr(adding, name, value)
                self._stepper.replan()
        if adding.zero_grads:
            self._check_apart(params, grads)
        plan = self._stepper.plan(adding, accumulates=False)
        return plan, self._stepper.find(adding, plan, self._sums_of(params, sums), grads)

    def _check_apart(self, params: Mapping[Any, Any], grads: Mapping[Any, Any]) -> None:
        """Refuse gradients that share memory with a parameter: the adding knows of the sums alone."""
        call = given(params, grads)
        if self._apart is None or self._apart[0] != call.names or not self._apart[1].accept(call.params, call.grads):
            own, gradients = infos_of(call.names, call.params, call.grads)
            check_apart(call.names, own, gradients, zeroing=True)
            self._apart = call.names, AddressGuard(own, gradients)

    def stepped(self, names: Iterable[Any]) -> None:
        """Names have made a step on their sums, which it has set to zero."""
        for name in names:
            del self.micro_steps[name]
            self._had.discard(name)

    def moved(self, memory: Memory) -> "Accumulator":
        """The same in a memory."""
        other = Accumulator()
        other.sums = None if self.sums is None else self.sums.moved(memory)
        other.micro_steps, other._had = dict(self.micro_steps), set(self._had)
        return other

    def export(self) -> dict[str, Any]:
        """The sums of the names that had a gradient since their last step, and how many calls each has had."""
        sums = self.sums
        gradients = {} if sums is None else {name: sums.memory.read(sums[name]) for name in sums if name in self._had}
        return {"micro_steps": dict(self.micro_steps), "gradients": gradients}

    def load(self, saved: Mapping[str, Any], kinds: dict[Any, Any], memory: Memory) -> Callable[[], "Accumulator"]:
        """Check what `export` has returned; what this returns makes an accumulator of it, with copies of the arrays.

        Args:
            saved: with "micro_steps" and "gradients".
            kinds: dtype and shape of the names that the state has.
            memory: where the sums are to be.

        Raises:
            TypeError, ValueError: something is not what it has to be.
        """
        micro_steps = {name: n for name, n in counts(saved["micro_steps"], "micro_steps").items() if n}
        gradients = arrays_in(saved["gradients"], "gradients", kinds, None)
        for name in gradients:
            if name not in micro_steps:
                raise ValueError(f"state dict: gradients[{name!r}]: expected a name that micro_steps has, too")

        def loaded() -> Accumulator:
            other = Accumulator()
            axes = {name: tuple(range(len(array.shape))) for name, array in gradients.items()}
            if gradients:
                other.sums = FlatDict(Layout({k: (x.dtype, x.shape, axes[k]) for k, x in gradients.items()}), memory)
                for name, array in gradients.items():
                    copy_from(array, other.sums[name], memory)
            other.micro_steps, other._had = micro_steps, set(gradients)
            return other

        return loaded

    def __getstate__(self) -> dict[str, Any]:  # for pickle and copy.deepcopy: addresses mean nothing elsewhere
        return {**self.__dict__, "_apart": None, "_latest": (None, None, {})}
