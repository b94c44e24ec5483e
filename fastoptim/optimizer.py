"""The optimizer: `update(params, grads)`, steps, state. A subclass says its rule, its slots and its step's scalars."""

import copy
import struct
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar, Self

from fastoptim.binding import Binding
from fastoptim.buffers import HOST, Array, FlatDict, Layout, Memory, memory_of
from fastoptim.checks import as_gradient, check_gradient, check_mappings, check_overlaps, check_params, on_device
from fastoptim.hyperparameters import HasHyperparameters, option
from fastoptim.kernels import Kernels
from fastoptim.kernels.rule import Rule, arguments, is_rule
from fastoptim.state import State

if TYPE_CHECKING:
    from fastoptim.device import Clock, DeviceBinding

Arrays = tuple[Any, ...]


class Optimizer(HasHyperparameters):
    """Base of all optimizers, and of your own:

        class Lion(Optimizer):
            rule, slots = lion, ("m",)
            lr: float = nonnegative(1e-4)
            beta1: float = fraction(0.9)

            def scalars(self, t):
                return self.lr, 1 - self.beta1

    The hyperparameters are the constructor's arguments, in this order, and attributes that hold from the next step.
    What an optimizer updates belongs to the thread that calls it; different optimizers may run in different threads.

    Every optimizer takes `capturable=True`, for arrays on a GPU: the step count and the step's numbers then live in the
    GPU's memory, so that an update can be captured in a CUDA graph and replayed, after one that was not captured. What
    is assigned to a hyperparameter holds from the next call, not in replays.

    Attributes:
        rule: a function declared with `fastoptim.rule`.
        slots: the names of the state, as the rule has them behind `p` and `g`.
        kernels: the rule's kernels, to call them yourself.
    """

    rule: ClassVar[Rule]
    slots: ClassVar[tuple[str, ...]] = ()
    kernels: ClassVar[Kernels]
    capturable: bool = option(default=False, kw_only=True)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "rule" in vars(cls):
            if not is_rule(cls.rule):
                raise TypeError(f"{cls.__name__}: its rule {cls.rule!r} is not declared, put @fastoptim.rule before it")
            names = arguments(cls.rule)[2:]
            if names[: len(cls.slots)] != cls.slots:
                raise TypeError(f"{cls.__name__}: its slots are {cls.slots}, but its rule has {names} behind p and g")
            cls.kernels = Kernels(cls.rule, len(cls.slots))
            cls.rule = staticmethod(cls.rule)  # an attribute of the class that is no method

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not hasattr(self, "kernels"):
            raise TypeError(f"{type(self).__name__} has no rule: expected a subclass that says `rule = ...`")
        super().__init__(*args, **kwargs)
        self._iter = 0
        self._clock: Clock | None = None  # of a capturable optimizer, once it has updated arrays on a GPU
        self._state = State(self.slots)
        self._binding: Binding | DeviceBinding | None = None
        self._flat_layout: Layout | None = None  # the binding's, if it is one of `FlatDict`s
        self._names: Arrays | None = None  # or else its names, if there are several, and how to look them up
        self._look_up: Callable[[Any], Arrays] = tuple

    def scalars(self, t: int) -> tuple[float, ...]:
        """The numbers of step `t` (1 is the first) that the rule has behind its state, computed in float64."""
        raise NotImplementedError(f"{type(self).__name__}.scalars(t): expected a tuple of the rule's last arguments")

    @property
    def iter(self) -> int:
        """How many steps were made; with `capturable=True` this waits for the GPU."""
        return self._iter if self._clock is None else self._clock.read()

    @property
    def state(self) -> Mapping[str, Mapping[Any, Array]]:
        """The state by slot and name: `opt.state["m"]["W1"]` is a view of the parameter's shape and dtype."""
        return self._state.views

    def update(self, params: Mapping[Any, Any], grads: Mapping[Any, Any], *, stream: Any = None) -> None:
        """Make one step: update the arrays in `params`, and the state, in place.

        Args:
            params: from name to float32 or float64 `numpy.ndarray`, of any shape and strides, or a `FlatDict`; or to
                contiguous arrays on a GPU, of any library that has `__cuda_array_interface__`.
            grads: the same names (others are ignored) to arrays of the same shapes. On the CPU of NumPy, or anything
                that `np.asarray` takes without a copy, float16, float32 or float64; on a GPU of the parameters' dtypes.
                A gradient may be its parameter itself.
            stream: on a GPU, one of Numba, CuPy or torch, or its address; by default the parameters' own, where their
                library names it, or else the default stream. Nothing here waits for the GPU.

        Raises:
            KeyError: `grads` lacks a name.
            TypeError: a value is no array or has no float dtype, a known parameter's dtype is another now, or some
                arrays are on a GPU and others not.
            ValueError: a gradient's shape differs; a parameter is read-only, shares memory with another one or another
                one's gradient, or its shape is another now. After any of these nothing has changed.
            RuntimeError: arrays are on a GPU, but what is needed there is not installed; it says what to install.
        """
        if self._clock is not None and self._clock.settings != self.hyperparameters():
            self._binding = None
        key, own, given = self._arrays(params, grads)
        binding = self._binding
        if binding is None or not binding.accepts(key, own, given):
            # `given` holds what was made of the gradients, which the binding knows by address alone
            binding, given = self._bind(params, grads)
        if binding.clock is None:
            self._set_scalars(binding, self._iter + 1)
        if stream is not None:
            binding.check_stream(stream)
        if binding is not self._binding:  # nothing can be refused any more
            self._keep(binding)
        binding.run(stream)
        self._iter += 1

    def to(self, device: str) -> Self:
        """Move the state to "cuda", the current GPU, or "cpu", to go on there with arrays that are there.

        Raises:
            ValueError: if the device is neither.
            RuntimeError: if "cuda" cannot be had; it says what to install.
        """
        self._state = self._state.moved(memory_of(device), flat=self._flat_layout is not None)
        self._iter, self._clock, self._binding, self._flat_layout, self._names = self.iter, None, None, None, None
        return self

    def _set_scalars(self, binding: "Binding | DeviceBinding", step: int) -> None:
        scalars = self.scalars(step)
        try:
            binding.set_scalars(scalars)
        except struct.error as error:
            names = ", ".join(arguments(self.rule)[2 + len(self.slots) :])
            what = f"{type(self).__name__}.scalars({step})"
            raise ValueError(
                f"{what}: expected {self.kernels.scalar_count} floats ({names}), got {scalars!r}"
            ) from error

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
        check_mappings(params, grads)
        flat = type(params) is FlatDict and type(grads) is FlatDict and params.layout is grads.layout
        names, own = tuple(params), tuple(params.values())
        given = tuple(grads[name] for name in names)
        if any(map(on_device, own + given)):
            binding: Binding | DeviceBinding = self._bind_on_device(params, grads, flat, names, own, given)
        else:
            given = tuple(map(as_gradient, given, names))
            if self._binding is not None and self._binding.accepts(names, own, given):
                return self._binding, given
            binding = self._bind_on_host(params, grads, flat, names, own, given)
        return binding, given

    def _keep(self, binding: "Binding | DeviceBinding") -> None:
        """Have the binding's state, and the binding itself for the next update, if it may be good for that."""
        self._state, self._clock = binding.state, binding.clock
        self._binding = binding if binding.is_direct else None
        self._flat_layout = binding.key if isinstance(binding.key, Layout) else None
        self._names = None
        if self._flat_layout is None and len(binding.key) > 1:  # a getter of one name returns no tuple
            self._names, self._look_up = binding.key, itemgetter(*binding.key)

    def _bind_on_host(self, params: Any, grads: Any, flat: bool, names: Arrays, own: Arrays, given: Arrays) -> Binding:
        check_params(names, own)
        for name, param, grad in zip(names, own, given, strict=True):
            self._state.check(name, param)
            check_gradient(name, grad, param)
        check_overlaps(names, own, given)
        state = self._state_in(HOST).including(names, own)
        key: Any = names
        places = [state.places[name] for name in names]
        if flat:
            check_params([f"buffer of {dtype}" for dtype in params.buffers], params.arrays)
            if flat_places := state.flat_places(params.layout):
                key, own, given, places = params.layout, params.arrays, grads.arrays, flat_places
        binding = Binding(key, own, given, places, state, self.kernels)
        binding.compile()
        return binding

    def _bind_on_device(
        self, params: Any, grads: Any, flat: bool, names: Arrays, own: Arrays, given: Arrays
    ) -> "DeviceBinding":
        from fastoptim import device  # imported when it is asked for, as it takes a second
        from fastoptim.device_memory import DEVICE

        found = device.check(names, own, given, self._state)
        with device.current(found):
            state = self._state_in(DEVICE).including(names, found[: len(names)], flat)
            key: Any = names
            places = [state.places[name] for name in names]
            if flat and (flat_places := state.flat_places(params.layout)):
                key, own, given, places = params.layout, params.arrays, grads.arrays, flat_places
                found = device.buffers(own, given)
            clock = self._clock
            if self.capturable and clock is None:
                clock = device.Clock(self._iter, found)
            if clock is not None:
                clock.fill(self.hyperparameters(), {place.dtype for place in places}, self.scalars)
            binding = device.DeviceBinding(key, own, given, found, places, state, self.kernels, clock)
        return binding

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

    def __copy__(self) -> Self:  # two optimizers with one state would spoil it for each other
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:  # for pickle and copy.deepcopy: addresses mean nothing elsewhere
        return {
            **self.__dict__,
            "_iter": self.iter,
            "_clock": None,
            "_binding": None,
            "_flat_layout": None,
            "_names": None,
        }
