"""How a step is made: options and arrays become a binding, its numbers are computed, the kernels run."""

import math
import struct
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from fastoptim.binding import ORDINARY, Arrangement, Binding
from fastoptim.buffers import HOST, Array, FlatDict, Layout, Memory
from fastoptim.checks import (
    as_gradient,
    check_gradient,
    check_mappings,
    check_overlaps,
    check_params,
    check_zeroed,
    on_device,
)
from fastoptim.kernels import Kernels
from fastoptim.kernels.norm import clipping
from fastoptim.options import Options
from fastoptim.state import State

if TYPE_CHECKING:
    from fastoptim.accumulation import Accumulation
    from fastoptim.device import Clock, DeviceBinding

Arrays = tuple[Any, ...]


class Plan(NamedTuple):
    """What the options come to: it changes when one is assigned, and bindings with it.

    Attributes:
        kernels: the rule's, with what the pass has to do beside it.
        groups: the patterns.
        is_plain: whether the numbers of a step are those of `scalars` alone.
        is_varied: whether the numbers of a step are those of a group or a schedule.
        is_measured: whether the norm of the gradients has to be known.
        capturable: the option.
    """

    kernels: Kernels
    groups: tuple[str, ...]
    is_plain: bool
    is_varied: bool
    is_measured: bool
    capturable: bool


class Steps(Options):
    """What an `Optimizer` does when it is called. It says its slots, kernels and scalars."""

    slots: ClassVar[tuple[str, ...]] = ()
    kernels: ClassVar[Kernels]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._iter = 0
        self.skipped = 0
        self._norm: Any = None  # a float, or something on a GPU that becomes one
        self._counts: dict[Any, int] = {}  # each name's own steps, when its binding was kept
        self._since = 0  # the step at which that was
        self._average: FlatDict | None = None
        self._accumulation: Accumulation | None = None
        self._is_averaged = False  # whether the parameters are the averages for a while
        self._clock: Clock | None = None  # of a capturable optimizer, once it has updated arrays on a GPU
        self._state = State(self.slots)
        self._last_plan: Plan | None = None
        self._unmatched = True  # whether the patterns of `groups` have yet to be looked at
        self._forget_binding()

    def _forget_binding(self) -> None:
        self._binding: Binding | DeviceBinding | None = None
        self._active: Arrays = ()  # the names that take part in every step since `_since`
        self._flat_layout: Layout | None = None  # the binding's, if it is one of `FlatDict`s
        self._names: Arrays | None = None  # or else its names, if there are several, and how to look them up
        self._look_up: Callable[[Any], Arrays] = tuple

    def scalars(self, t: int) -> tuple[float, ...]:
        """The numbers of step `t` that the rule has behind its state."""
        raise NotImplementedError

    def _accumulate(self, params: Any, grads: Any, stream: Any) -> None:
        """Add to the sums of gradients, and make a step on them if it is time."""
        from fastoptim.accumulation import Accumulation  # has an optimizer itself

        if self._accumulation is None:
            self._accumulation = Accumulation()
        self._accumulation.update(self, params, grads, stream)

    @property
    def _calls(self) -> int:
        return 0 if self._accumulation is None or self.accumulate == 1 else self._accumulation.calls

    def _prepare(self, params: Any, grads: Any) -> None:
        """Find whatever `_step` would refuse, before anything is done that could not be undone."""
        plan = self._plan or self._replan()
        binding, _ = self._bound(params, grads)
        if binding.clock is None:
            self._set_scalars(binding, plan, 1.0)

    def _step(self, params: Any, grads: Any, stream: Any) -> None:
        plan = self._plan or self._replan()
        binding, given = self._bound(params, grads)
        if stream is not None:
            binding.check_stream(stream)
        coefficient = 1.0
        if plan.is_measured:
            norm = binding.measure(given, self.clip_norm, self._divisor, stream)
            if self.skip_nonfinite and not math.isfinite(norm):
                self._skip(binding, norm, given, stream)
                return
            if self.clip_norm is not None and binding.on_host:
                coefficient = clipping(norm, self.clip_norm)
        if binding.clock is None:
            self._set_scalars(binding, plan, coefficient)
        if binding is not self._binding:  # nothing can be refused any more
            self._keep(binding)
        if plan.is_measured:
            self._norm = norm
        binding.run(stream)
        self._iter += 1

    def _bound(self, params: Any, grads: Any) -> "tuple[Binding | DeviceBinding, Arrays]":
        """The binding of these arrays, and the gradients as it takes them: after an error nothing has changed."""
        if self._clock is not None and self._clock.settings != self.hyperparameters():
            self._binding = None
        key, own, given = self._arrays(params, grads)
        binding = self._binding
        if binding is None or not binding.accepts(key, own, given):
            # `given` holds what was made of the gradients, which the binding knows by address alone
            binding, given = self._bind(params, grads)
        return binding, given

    def _skip(self, binding: "Binding | DeviceBinding", norm: Any, given: Arrays, stream: Any) -> None:
        """Make no step. But gradients that are added to would be nan for ever, if they were not set to zero."""
        if binding.arranged.kernels.extras.zero:
            binding.clear(given, stream)
        self._norm = norm
        self.skipped += 1

    def _set_scalars(self, binding: "Binding | DeviceBinding", plan: Plan, coefficient: float) -> None:
        step = self._iter + 1
        numbers: Any
        if plan.is_plain and binding.kinds is ORDINARY:
            numbers = self.scalars(step)
        else:
            extras = plan.kernels.extras
            last = (coefficient,) if extras.norm and binding.on_host else ()
            if binding.kinds is ORDINARY and not plan.is_varied:
                numbers = (*self.scalars(step), *self._extra_scalars(extras), *last)
            else:
                numbers = [x for kind in binding.kinds for x in (*self._row(plan, kind, step), *last)]
        try:
            binding.set_scalars(numbers)
        except struct.error as error:
            raise self._wrong_scalars(step, numbers) from error

    def _row(self, plan: Plan, kind: tuple[int, int | None], step: int) -> tuple[float, ...]:
        """The numbers of a step for the names of one kind, those of the rule and what comes behind them."""
        late, group = kind
        view = self._as_in(group, step - 1) if plan.is_varied else self
        numbers = tuple(view.scalars(step - late))
        if len(numbers) != self.kernels.scalar_count:
            raise self._wrong_scalars(step - late, numbers)
        return (*numbers, *view._extra_scalars(plan.kernels.extras))

    def _wrong_scalars(self, step: int, numbers: Any) -> ValueError:
        expected = f"expected {self.kernels.scalar_count} floats ({', '.join(self.kernels.scalar_names)})"
        return ValueError(f"{type(self).__name__}.scalars({step}): {expected}, got {numbers!r}")

    def _arrays(self, params: Mapping[Any, Array], grads: Mapping[Any, Any]) -> tuple[Any, Arrays, Arrays]:
        """What tells the names and their order, the parameters, and the gradients in the same order."""
        if type(params) is FlatDict and type(grads) is FlatDict and params.layout is grads.layout is self._flat_layout:
            return self._flat_layout, params.arrays, grads.arrays
        try:
            if type(grads) is not dict:  # whose lookup may do more than look
                check_mappings(params, grads)
            names = tuple(params)
            if names == self._names:  # the very same tuple again is compared faster later on
                return self._names, tuple(params.values()), self._look_up(grads)
            return names, tuple(params.values()), tuple(map(grads.__getitem__, names))
        except (KeyError, TypeError, AttributeError):
            check_mappings(params, grads)
            raise

    def _bind(self, params: Mapping[Any, Any], grads: Mapping[Any, Any]) -> "tuple[Binding | DeviceBinding, Arrays]":
        """Look at everything, and make a binding for it: after an error nothing has changed."""
        if self._is_averaged:
            raise RuntimeError("update: the parameters are the averages, expected the end of `with opt.averaged(...)`")
        check_mappings(params, grads)
        self._check_groups(params)
        found = {name: grads[name] for name in params}
        names = tuple(name for name, grad in found.items() if grad is not None)
        own, given = tuple(params[name] for name in names), tuple(found[name] for name in names)
        flat = type(params) is FlatDict and type(grads) is FlatDict and params.layout is grads.layout
        there = any(map(on_device, (*params.values(), *given)))
        if not there:
            given = tuple(map(as_gradient, given, names))
        if self._binding is not None and self._binding.accepts(names, own, given):
            return self._binding, given
        if there:
            return self._bind_on_device(params, grads, flat, names, own, given), given
        return self._bind_on_host(params, grads, flat, names, own, given), given

    def _keep(self, binding: "Binding | DeviceBinding") -> None:
        """Have the binding's state, and the binding itself for the next update, if it may be good for that."""
        if binding.arranged.fresh:
            from fastoptim.passes import copy_into  # by an optimizer

            copy_into(binding.arranged.average or {}, binding.arranged.fresh)
            binding.arranged = binding.arranged._replace(fresh={})
        if binding.clock is None:
            self._counts, self._since = self._own_counts(), self._iter
        arranged = binding.arranged
        self._active = arranged.names
        self._state, self._average, self._clock = arranged.state, arranged.average, binding.clock
        self._binding = binding if binding.is_direct else None
        self._flat_layout = binding.key if isinstance(binding.key, Layout) else None
        self._names, self._unmatched = None, False
        if self._flat_layout is None and len(binding.key) > 1:  # a getter of one name returns no tuple
            self._names, self._look_up = binding.key, itemgetter(*binding.key)

    def _bind_on_host(self, params: Any, grads: Any, flat: bool, names: Arrays, own: Arrays, given: Arrays) -> Binding:
        check_params(names, own)
        for name, param, grad in zip(names, own, given, strict=True):
            self._state.check(name, param)
            check_gradient(name, grad, param)
        extras = (self._plan or self._replan()).kernels.extras
        check_overlaps(names, own, given, extras.zero)
        arranged = self._arranged(params, grads, flat, names, own, given, own, HOST)
        if isinstance(arranged.key, Layout):
            check_params([f"buffer of {dtype}" for dtype in params.buffers], params.arrays)
        if extras.zero:
            check_zeroed(names, given)
        binding = Binding(arranged)
        binding.compile()
        return binding

    def _bind_on_device(
        self, params: Any, grads: Any, flat: bool, names: Arrays, own: Arrays, given: Arrays
    ) -> "DeviceBinding":
        from fastoptim import device  # imported when it is asked for, as it takes a second
        from fastoptim.device_memory import DEVICE

        plan = self._plan or self._replan()
        extras = plan.kernels.extras
        found = device.check(names, own, given, self._state, extras.zero)
        with device.current(found):
            arranged = self._arranged(params, grads, flat, names, own, given, found[: len(names)], DEVICE)
            if isinstance(arranged.key, Layout):
                found = device.buffers(arranged.params, arranged.grads)
            clock = self._clock
            if plan.capturable and clock is None:
                clock = device.Clock(self._iter, found)
            if clock is not None:
                if arranged.kinds != ORDINARY or len(names) < len(arranged.state.places):
                    raise ValueError("capturable: expected all parameters to take part in every step")
                dtypes = {place.dtype for place in arranged.places}
                clock.fill(self.hyperparameters(), dtypes, lambda t: self._row(plan, (0, None), t))
            return device.DeviceBinding(arranged, found, clock)

    def _arranged(
        self, params: Any, grads: Any, flat: bool, names: Arrays, own: Arrays, given: Arrays, like: Any, memory: Memory
    ) -> Arrangement:
        """Where everything is, or will be; `like` has the dtypes and shapes of `own`."""
        plan = self._plan or self._replan()
        state = self._state_in(memory).including(names, like, flat)
        average, fresh = None, {}
        if plan.kernels.extras.average:
            from fastoptim.passes import following  # which copies by an optimizer

            # in the order of the state, as both are walked in one
            average = following(self._average, params, {name: state.places[name][:3] for name in names}, memory)
            fresh = {name: array for name, array in zip(names, own, strict=True) if name not in (self._average or ())}
        kinds, sets = self._kinds(names)
        # the norm adds in the order in which the names made their first steps, whatever order they come in now
        known: Mapping[Any, Any] = self._own_counts() if self._clock is None else self._state.places
        order = {name: i for i, name in enumerate(known)}
        seen = sorted(names, key=lambda name: order.get(name, len(order)))
        key: Any = names
        places = [state.places[name] for name in names]
        numbers = {name: i for i, name in enumerate(names)}
        inputs = [(numbers[name], 0, state.places[name].size) for name in seen]
        averages = [average[name] for name in names] if average is not None else []
        if flat and len(kinds) == 1 and (average is None or average.layout is params.layout):
            layout: Layout = params.layout
            if flat_places := state.flat_places(layout):
                numbers = {dtype: i for i, dtype in enumerate(layout.sizes)}
                inputs = []
                for name in seen:
                    dtype, shape, _, offset = layout.places[name]
                    inputs.append((numbers[dtype], offset * dtype.itemsize, math.prod(shape)))
                key, own, given, places = layout, params.arrays, grads.arrays, flat_places
                averages = list(average.arrays) if average is not None else []
                sets = [0] * len(places)
        addresses = [memory.address(array) for array in averages] or [0] * len(places)
        return Arrangement(
            key, names, own, given, places, addresses, sets, kinds, inputs if plan.is_measured else (), state, average,
            fresh, plan.kernels,
        )  # fmt: skip

    def _kinds(self, names: Arrays) -> tuple[tuple[tuple[int, int | None], ...], list[int]]:
        """What tells names apart: how many steps they were not part of, and their group. And which kind each is."""
        counts = self._own_counts() if self._clock is None else dict.fromkeys(self._state.places, self._iter)
        kinds: dict[tuple[int, int | None], int] = {}
        sets = [kinds.setdefault((self._iter - counts.get(name, 0), self._group(name)), len(kinds)) for name in names]
        ordinary = not kinds or tuple(kinds) == ORDINARY
        return ORDINARY if ordinary else tuple(kinds), sets

    def _own_counts(self) -> dict[Any, int]:
        """How many steps each name was part of."""
        if self._clock is not None:
            return dict.fromkeys(self._state.places, self._clock.read())
        made = self._iter - self._since
        return {**self._counts, **{name: self._counts.get(name, 0) + made for name in self._active}}

    def _check_groups(self, params: Mapping[Any, Any]) -> None:
        """Refuse a pattern that matches nothing, at the first update that has it."""
        if self._unmatched:
            for pattern in self.groups or ():
                if not any(fnmatchcase(str(name), pattern) for name in (*params, *self._state.places, *self._counts)):
                    raise ValueError(
                        f"groups[{pattern!r}]: expected a pattern that matches a name of params, which are "
                        f"{', '.join(map(repr, params)) or 'none'}"
                    )

    def _state_in(self, memory: Memory) -> State:
        """The state, which has to be where the arrays are, once there is some."""
        if not self._state.places:
            return State(self.slots, memory=memory)
        if self._state.memory is not memory:
            here, there = self._state.memory.name, memory.name
            raise ValueError(
                f"the arrays are on {there!r}, but the optimizer's state is on {here!r}: opt.to({there!r})"
            )
        return self._state

    def _reconsider(self) -> None:
        self._plan: Plan | None = None
        if self.__dict__.get("ema") is None and self.__dict__.get("_average") is not None:
            self._average = self._binding = None

    def _replan(self) -> Plan:
        extras = self._extras()
        groups = tuple(self.groups or ())
        is_varied = bool(groups or self._schedules())
        plan = Plan(
            self.kernels.including(extras),
            groups,
            is_plain=not is_varied and not extras.scalars,
            is_varied=is_varied,
            is_measured=extras.norm or self.skip_nonfinite,
            capturable=self.capturable,
        )
        if plan.capturable:
            self._check_capturable()
        elif self._clock is not None:  # the host counts again
            self._counts, self._iter, self._clock = self._own_counts(), self._clock.read(), None
            self._since, self._binding = self._iter, None
        if plan != self._last_plan:
            self._unmatched |= self._last_plan is None or plan.groups != self._last_plan.groups
            self._binding, self._last_plan = None, plan
        if self.accumulate == 1:
            self._accumulation = None  # with the sums that no step will be made on
        self._plan = plan
        return plan

    def _check_capturable(self) -> None:
        """Refuse what a replayed graph could not do."""
        there = {"groups": self.groups, "skip_nonfinite": self.skip_nonfinite, "accumulate": self.accumulate > 1}
        found = [name for name, is_there in there.items() if is_there]
        found += [f"the schedule of {name}" for name in self._schedules()]
        if found:
            raise ValueError(
                f"capturable: expected nothing that needs the host in every step, found {', '.join(found)}"
            )
