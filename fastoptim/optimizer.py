"""The optimizer: `update(params, grads)`, steps, state. A subclass says its rule, its slots and its step's scalars."""

import inspect
import struct
from collections.abc import Mapping
from typing import Any, ClassVar, dataclass_transform

from fastoptim.binding import Binding
from fastoptim.buffers import Array, FlatDict, Layout
from fastoptim.checks import as_gradient, check_gradient, check_mappings, check_overlaps, check_params
from fastoptim.hyperparameters import Hyperparameter, fraction, nonnegative, switch
from fastoptim.kernels import Kernels
from fastoptim.kernels.rule import Rule, arguments, is_rule
from fastoptim.state import State

Arrays = tuple[Any, ...]


@dataclass_transform(field_specifiers=(nonnegative, fraction, switch))
class Optimizer:
    """Base of all optimizers, and of your own:

        class Lion(Optimizer):
            rule, slots = lion, ("m",)
            lr: float = nonnegative(1e-4)
            beta1: float = fraction(0.9)

            def scalars(self, t):
                return self.lr, 1 - self.beta1

    The hyperparameters are the constructor's arguments, in this order, and attributes that hold from the next step.
    What an optimizer updates belongs to the thread that calls it; different optimizers may run in different threads.

    Attributes:
        rule: a function declared with `fastoptim.rule`.
        slots: the names of the state, as the rule has them behind `p` and `g`.
        kernels: the rule's kernels, to call them yourself.
        iter: how many steps were made.
    """

    rule: ClassVar[Rule]
    slots: ClassVar[tuple[str, ...]] = ()
    kernels: ClassVar[Kernels]
    _hyperparameters: ClassVar[dict[str, Hyperparameter]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Hyperparameter)}
        cls._hyperparameters = {**cls._hyperparameters, **own}
        if "__init__" not in vars(cls):
            positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
            cls.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # what help() and inspect look at
                [inspect.Parameter(name, positional, default=x.default) for name, x in cls._hyperparameters.items()]
            )
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
        signature: inspect.Signature = type(self).__signature__  # type: ignore[attr-defined]
        try:
            values = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}{signature}: {error}") from None
        values.apply_defaults()
        for name, value in values.arguments.items():
            setattr(self, name, value)
        self.iter = 0
        self._state = State(self.slots)
        self._binding: Binding | None = None
        self._flat_layout: Layout | None = None  # the binding's, if it is one of `FlatDict`s

    def scalars(self, t: int) -> tuple[float, ...]:
        """The numbers of step `t` (1 is the first) that the rule has behind its state, computed in float64."""
        raise NotImplementedError(f"{type(self).__name__}.scalars(t): expected a tuple of the rule's last arguments")

    @property
    def state(self) -> Mapping[str, Mapping[Any, Array]]:
        """The state by slot and name: `opt.state["m"]["W1"]` is a view of the parameter's shape and dtype."""
        return self._state.views

    def update(self, params: Mapping[Any, Array], grads: Mapping[Any, Any]) -> None:
        """Make one step: update the arrays in `params`, and the state, in place.

        Args:
            params: from name to float32 or float64 `numpy.ndarray`, of any shape and strides, or a `FlatDict`.
            grads: the same names (others are ignored) to arrays of the same shapes: of NumPy, or anything that
                `np.asarray` takes without a copy; float16, float32 or float64. A gradient may be its parameter itself.

        Raises:
            KeyError: `grads` lacks a name.
            TypeError: a value is no array or has no float dtype, or a known parameter's dtype is another now.
            ValueError: a gradient's shape differs; a parameter is read-only, shares memory with another one or another
                one's gradient, or its shape is another now. After any of these nothing has changed.
        """
        key, own, given = self._arrays(params, grads)
        binding = self._binding
        if binding is None or not binding.accepts(key, own, given):
            # `given` holds what was made of the gradients, which the binding knows by address alone
            binding, given = self._bind(params, grads)
        step = self.iter + 1
        scalars = self.scalars(step)
        try:
            binding.set_scalars(scalars)
        except (struct.error, OverflowError) as error:
            names = ", ".join(arguments(self.rule)[2 + len(self.slots) :])
            what = f"{type(self).__name__}.scalars({step})"
            raise ValueError(
                f"{what}: expected {self.kernels.scalar_count} floats ({names}), got {scalars!r}"
            ) from error
        binding.run(self.kernels.loops)
        self.iter = step

    def _arrays(self, params: Mapping[Any, Array], grads: Mapping[Any, Any]) -> tuple[Any, Arrays, Arrays]:
        """What tells the names and their order, the parameters, and the gradients in the same order."""
        if type(params) is FlatDict and type(grads) is FlatDict and params.layout is grads.layout is self._flat_layout:
            return self._flat_layout, params.arrays, grads.arrays
        try:
            names = tuple(params)
            return names, tuple(params.values()), tuple(map(grads.__getitem__, names))
        except (KeyError, TypeError, AttributeError):
            check_mappings(params, grads)
            raise

    def _bind(self, params: Mapping[Any, Array], grads: Mapping[Any, Any]) -> tuple[Binding, Arrays]:
        """Look at everything, and make a binding for it: after an error nothing has changed."""
        check_mappings(params, grads)
        names, own = tuple(params), tuple(params.values())
        given = tuple(as_gradient(grads[name], name) for name in names)
        if self._binding is not None and self._binding.accepts(names, own, given):
            return self._binding, given
        check_params(names, own)
        for name, param, grad in zip(names, own, given, strict=True):
            self._state.check(name, param)
            check_gradient(name, grad, param)
        check_overlaps(names, own, given)

        state = self._state.including(names, own)
        key: Any = names
        places = [state.places[name] for name in names]
        if type(params) is FlatDict and type(grads) is FlatDict and params.layout is grads.layout:
            check_params([f"buffer of {dtype}" for dtype in params.buffers], params.arrays)
            if flat_places := state.flat_places(params.layout):
                key, own, given, places = params.layout, params.arrays, grads.arrays, flat_places
        binding = Binding(key, own, given, places, state, self.kernels.scalar_count)
        binding.compile(self.kernels.loops)
        self._state = state
        self._binding = binding if binding.is_direct else None
        self._flat_layout = key if isinstance(key, Layout) else None
        return binding, given

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._hyperparameters)
        return f"{type(self).__name__}({values})"

    def __getstate__(self) -> dict[str, Any]:  # for pickle and copy.deepcopy: addresses mean nothing elsewhere
        return {**self.__dict__, "_binding": None, "_flat_layout": None}
