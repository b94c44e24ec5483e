"""The optimizer: `update(params, grads)`, steps, state. A subclass says its rule, its slots and its step's scalars."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Self

from fastoptim import state_dict
from fastoptim.buffers import Array, FlatDict, Layout, memory_of
from fastoptim.kernels import Kernels
from fastoptim.kernels.rule import Rule, arguments, is_rule
from fastoptim.steps import Steps


class Optimizer(Steps):
    """Base of all optimizers, and of your own:

        class Lion(Optimizer):
            rule, slots = lion, ("m",)
            lr: float = nonnegative(1e-4)
            beta1: float = fraction(0.9)

            def scalars(self, t):
                return self.lr, 1 - self.beta1

    The hyperparameters are the constructor's arguments, in this order, and attributes that hold from the next step.
    Behind them come the `Options` that every optimizer takes, as keywords. What an optimizer updates belongs to the
    thread that calls it; different optimizers may run in different threads.

    With `capturable=True`, for arrays on a GPU, the step count and the step's numbers live in the GPU's memory, so that
    an update can be captured in a CUDA graph and replayed, after one that was not captured. What is assigned to a
    hyperparameter holds from the next call, which is to be captured anew: graphs from before must not be replayed. From
    some step on, 1024 at the latest where they look constant, a rule's numbers have to stay the same.

    Attributes:
        rule: a function declared with `fastoptim.rule`.
        slots: the names of the state, as the rule has them behind `p` and `g`.
        kernels: the rule's kernels, to call them yourself.
        skipped: how many calls made no step, as their gradients were not all finite (`skip_nonfinite`).
    """

    rule: ClassVar[Rule]
    slots: ClassVar[tuple[str, ...]] = ()
    kernels: ClassVar[Kernels]

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

    @property
    def grad_norm(self) -> float | None:
        """The norm of all gradients of the last step, before it was clipped; on a GPU this waits for it.

        None where nothing has asked for it yet: `clip_norm` does, and `skip_nonfinite`.
        """
        return None if self._norm is None else float(self._norm)

    def update(self, params: Mapping[Any, Any], grads: Mapping[Any, Any], *, stream: Any = None) -> None:
        """Make one step: update the arrays in `params`, and the state, in place.

        Args:
            params: from name to float32 or float64 `numpy.ndarray`, of any shape and strides, or a `FlatDict`; or to
                contiguous arrays on a GPU, of any library that has `__cuda_array_interface__`.
            grads: the same names (others are ignored) to arrays of the same shapes. On the CPU of NumPy, or anything
                that `np.asarray` takes without a copy, float16, float32 or float64; on a GPU of the parameters' dtypes.
                A gradient may be its parameter itself. Where it is None, that parameter and its state are left as they
                are, and do not count the step.
            stream: on a GPU, one of Numba, CuPy or torch, or its address; by default the parameters' own, where their
                library names it, or else the default stream. Nothing here waits for the GPU, but for `skip_nonfinite`.

        Raises:
            KeyError: `grads` lacks a name.
            TypeError: a value is no array or has no float dtype, a known parameter's dtype is another now, or some
                arrays are on a GPU and others not.
            ValueError: a gradient's shape differs; a parameter is read-only, shares memory with another one or another
                one's gradient, or its shape is another now; a pattern of `groups` matches nothing; a schedule returns a
                wrong number. After any of these nothing has changed.
            RuntimeError: arrays are on a GPU, but what is needed there is not installed; it says what to install. Or
                the parameters are the averages for a while (`averaged`).
        """
        if self.accumulate > 1:
            self._accumulate(params, grads, stream)
        else:
            self._step(params, grads, stream)

    @contextmanager
    def averaged(self, params: Mapping[Any, Any]) -> Iterator[None]:
        """Within `with opt.averaged(params):` the arrays in `params` hold the averages of `ema`.

        At the end, also after an exception, they get their own numbers back. `update` is refused meanwhile.

        Raises:
            RuntimeError: there are no averages, or the parameters are the averages already.
            KeyError: a parameter has no average yet.
            TypeError, ValueError: an array is not what it was when it was updated. Nothing has changed then.
        """
        from fastoptim.passes import check_like, copy_into  # by an optimizer

        averages = self._averages()
        if averages is None:
            raise RuntimeError("averaged: there are no averages, expected an optimizer with ema=...")
        if self._is_averaged:
            raise RuntimeError("averaged: the parameters are the averages already")
        arrays = dict(params)
        for name, array in arrays.items():
            if name not in averages:
                raise KeyError(f"params[{name!r}]: expected a parameter that was updated, it has no average")
            check_like(array, f"params[{name!r}]", averages.layout.places[name])
        saved = averages.only(arrays)
        copy_into(saved, arrays)
        self._is_averaged, self._binding = True, None
        try:
            copy_into(arrays, {name: averages[name] for name in arrays})
            yield
        finally:
            try:
                copy_into(arrays, saved)
            finally:
                self._is_averaged = False

    def to(self, device: str) -> Self:
        """Move the state to "cuda", the current GPU, or "cpu", to go on there with arrays that are there.

        Raises:
            ValueError: if the device is neither.
            RuntimeError: if "cuda" cannot be had; it says what to install.
        """
        memory = memory_of(device)
        state = self._state.moved(memory, flat=self._flat_layout is not None)
        average = None if self._average is None else self._average.moved(memory)
        accumulation = None if self._accumulation is None else self._accumulation.moved(memory)
        self._counts, self._iter, self._clock = self._own_counts(), self.iter, None
        self._since = self._iter
        self._state, self._average, self._accumulation = state, average, accumulation
        self._forget_binding()
        return self

    def _averages(self) -> FlatDict | None:
        """What `opt.ema` is."""
        if self.__dict__["ema"] is None:
            return None
        return self._average if self._average is not None else FlatDict(Layout({}))

    def state_dict(self) -> dict[str, Any]:
        """All that it takes to go on later, or elsewhere, with the same bits: names, state, counts, hyperparameters.

        The arrays are views of the optimizer's own (copies of those on a GPU), which change with the next step:
        `copy.deepcopy` keeps them. Schedules of `fastoptim.schedules` are data in it; of any other callable, only that
        it is one.
        """
        return state_dict.of(self)

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` has returned, of an optimizer of the same class. The arrays are copied.

        A callable that was not data in it has to be assigned before.

        Raises:
            KeyError, TypeError, ValueError: something is missing or not what it has to be; nothing has changed then.
        """
        state_dict.load(self, saved)

    def __copy__(self) -> Self:  # two optimizers with one state would spoil it for each other
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:  # for pickle and copy.deepcopy: addresses mean nothing elsewhere
        own = {
            "_iter": self.iter,
            "_counts": self._own_counts(),
            "_since": self.iter,
            "_norm": self.grad_norm,
            "_clock": None,
            "_plan": None,
            "_last_plan": None,
            "_is_averaged": False,
            "_binding": None,
            "_active": (),
            "_flat_layout": None,
            "_names": None,
            "_look_up": tuple,
        }
        return {**self.__dict__, **own}
