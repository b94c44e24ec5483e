"""The optimizer: `update(params, grads)`, state, averages, state dict. A subclass says its rule, slots and numbers."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from fastoptim.arrays.devices import memory_of
from fastoptim.arrays.flat import FlatDict
from fastoptim.arrays.layout import Layout
from fastoptim.arrays.memory import Array
from fastoptim.arrays.named import ByName, both_by_name, by_name
from fastoptim.kernels.measures import Statistics
from fastoptim.settings.algorithm import Algorithm, subclasses
from fastoptim.settings.declared import Declared
from fastoptim.settings.fields import Field
from fastoptim.settings.loss_scale import LossScale
from fastoptim.settings.patterns import Patterns
from fastoptim.settings.precision import dtype_of
from fastoptim.settings.rows import WrongScalarsError
from fastoptim.state.shaped import ShapedState
from fastoptim.state.store import Beside
from fastoptim.step.accumulate import Accumulator
from fastoptim.step.averaged import holding_averages
from fastoptim.step.memory_use import MemoryUse, memory_use
from fastoptim.step.micro_step import micro_step
from fastoptim.step.saved import checked_values, loaded, saved_of
from fastoptim.step.stepper import Stepper
from fastoptim.step.warm import warm

BY_NAME = frozenset((dict, FlatDict))  # what most parameters are


class Optimizer(Algorithm):
    """Base of all optimizers, and of your own.

    The hyperparameters are the constructor's arguments, in this order, and attributes that hold from the next step.
    Behind them come the `Options` that every optimizer takes, as keywords. Only one thread at a time may call an
    optimizer, and meanwhile no other thread may use its arrays. Different optimizers may run in different threads.

    With `capturable=True`, for arrays on a GPU, the step count and the step's numbers live in the GPU's memory. After
    one update, the next can be captured in a CUDA graph and replayed. An assigned hyperparameter holds from the next
    call. Capture that call anew, and do not replay older graphs. Scalars must become constant: rows are precomputed
    until they stop changing, at least 1,024.

    Examples:
        >>> from fastoptim import Number, Optimizer, fraction, nonnegative, rule
        >>> @rule
        ... def signed(p, g, m, lr, one_minus_beta):
        ...     m = m + one_minus_beta * (g - m)
        ...     return p - (lr if m > 0 else -lr if m < 0 else m), m
        >>> class Signed(Optimizer):
        ...     rule, slots = signed, ("m",)
        ...     lr: Number = nonnegative(1e-3)
        ...     beta: Number = fraction(0.9)
        ...
        ...     def scalars(self, t):
        ...         return self.lr, 1 - self.beta
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not hasattr(type(self), "kernels"):
            raise TypeError(f"{type(self).__name__} has no rule: expected a subclass that says `rule = ...`")
        if args and isinstance(args[0], (list, tuple, Mapping, Iterator)):
            name = type(self).__name__
            raise TypeError(f"{name}: expected hyperparameters; parameters go to update(params, grads)")
        shaped = ShapedState({slot: {} for slot in self.shaped_slots}, self.shared_slots, self.array_slots)
        self._stepper = Stepper((), self.state_format(None), self.carry, shaped)
        self._accumulator = Accumulator()
        super().__init__(*args, **kwargs)
        self._stepper.use_slots(self.stored_slots)

    @property
    def iter(self) -> int:
        """How many steps were made: the largest count of all names. With `capturable=True` this waits for the GPU."""
        return self._stepper.counts.iter

    @property
    def skipped(self) -> int:
        """How many calls made no step, as their gradients were not all finite (`skip_nonfinite`)."""
        return self._stepper.counts.skipped

    @property
    def state(self) -> Mapping[str, Mapping[Any, Array]]:
        """The state by slot and name: `opt.state["m"]["W1"]` is a view of the parameter's shape and dtype.

        With `state_dtype="8bit"`, what has codes is read into a new array of float32. What is written into it is
        lost; on the CPU it is read-only.
        """
        self._stepper.use_slots(self.stored_slots)
        return self._stepper.store.views

    @property
    def averages(self) -> FlatDict | None:
        """The averages of `ema` by name, a new `FlatDict` when parameters are new; None where `ema` is None.

        An optimizer's own evaluation parameters are not kept. They are computed from the parameters: see `averaged`.
        """
        if self.ema is None:
            return None
        averages = self._stepper.store.averages
        return FlatDict(Layout({})) if averages is None else averages

    @property
    def masters(self) -> FlatDict | None:
        """The float32 parameters behind those of 16 bits, by name (`master`); None where `master` is None."""
        if self.master is None:
            return None
        masters = self._stepper.store.beside.master
        return FlatDict(Layout({})) if masters is None else masters

    @property
    def grad_norm(self) -> float | None:
        """The norm of all gradients of the last step, before it was clipped; on a GPU this waits for it.

        None where nothing has asked for it yet: `clip_norm` does, and `skip_nonfinite`.
        """
        norm = self._stepper.norm
        return None if norm is None else float(norm)

    @property
    def last_statistics(self) -> Mapping[Any, Statistics]:
        """What `statistics` has measured in the last step, by name: `opt.last_statistics["W1"].update_norm`.

        Only names that took part are there; none where nothing was asked for. A call that `skip_nonfinite` has skipped
        has `nan` and `inf` alone. On a GPU this waits for it.
        """
        return {name: each for measured in self._stepper.measured for name, each in measured().items()}

    def update(self, params: ByName, grads: ByName, *, shadow: ByName | None = None, stream: Any = None) -> None:
        """Make one step: update the arrays in `params`, and the state, in place.

        Each name counts its own steps. A schedule is asked for the largest count of the names that take part. So an
        optimizer may be called with one layer after another, or with two networks in turn: by names, as positions would
        be the same ones in each call.

        Args:
            params: from name to float `numpy.ndarray`, of any shape and strides, or a `FlatDict`; or to
                contiguous arrays on a GPU, of any library that has `__cuda_array_interface__`. Or a list or tuple of
                such arrays: their names are their positions, 0, 1, 2, ...
            grads: the same names (others are ignored) to arrays of the same shapes. A list or tuple is as long as that
                of the parameters. On the CPU, the arrays are of NumPy, or anything that `np.asarray` takes without a
                copy; on a GPU, of float64 if the parameter is, or else of float32 or less bits. Or it is `Rows`, the
                gradient of some rows. A gradient may be its parameter itself. Where it is None, that parameter and its
                state are left as they are, and do not count the step. Names that are `frozen` may be missing.
            shadow: names of `params` to arrays of bfloat16, float16 or float32 of the same shapes, where the parameters
                are: the new parameters are rounded to them in the same pass. So large models are trained whose passes
                forwards and backwards take less bits than their parameters.
            stream: on a GPU, one of Numba, CuPy or torch, or its address; by default the parameters' own, where their
                library names it, or else the default stream. Nothing here waits for the GPU, but for `skip_nonfinite`.

        Raises:
            KeyError: `grads` lacks a name.
            TypeError: a value is no array or has no float dtype, a known parameter's dtype is another now, or some
                arrays are on a GPU and others not.
            ValueError: a gradient's shape differs; a parameter is read-only, shares memory with another one or another
                one's gradient, or its shape is another now; a pattern of `groups` or `frozen` matches nothing; a
                schedule returns a wrong number. After any of these nothing has changed.
            RuntimeError: arrays are on a GPU, but what is needed there is not installed; it says what to install. Or
                the parameters are the averages for a while (`averaged`).
        """
        stepper = self._stepper
        if type(params) not in BY_NAME or type(grads) not in BY_NAME:
            params, grads = both_by_name(params, grads)
        if shadow is not None:
            shadow = by_name(shadow, "shadow")
        if TYPE_CHECKING:
            assert isinstance(params, Mapping)
            assert isinstance(grads, Mapping)
        try:
            if self.accumulate > 1 or self._accumulator.micro_steps:
                made = micro_step(stepper, self._accumulator, self, params, grads, stream, shadow)
                if isinstance(self.grad_scale, LossScale):
                    self.grad_scale.follow(made)
                return
            plan = stepper.planned
            if plan is None or not plan.is_usual or shadow is not None:
                plan = stepper.plan(self, accumulates=False, shadows=shadow is not None)
            if plan.is_direct:  # the same as below with fewer calls
                known = stepper.steps.find(params, grads, stepper.counts.version)
                found = known or stepper.bind(self, plan, params, grads)
            else:
                found = stepper.find(self, plan, *stepper.taking_part(plan, params, grads), shadow)
            step = found[0]
            if stream is not None:
                step.engine.check_stream(stream)
            if step.is_plain:  # as `run` does, but without one more call
                step.run_plain(self, plan)
            else:
                made = stepper.run(self, plan, found, float(self.grad_scale), stream, shadow=shadow)
                if isinstance(self.grad_scale, LossScale):
                    self.grad_scale.follow(made)
        except WrongScalarsError as error:
            raise self.complaint(error) from error.__cause__

    def warmup(self, params: ByName) -> None:
        """Compile what `update(params, ...)` and `averaged(params)` need, or load it from the cache; change nothing.

        It is for gradients that lie in memory as the parameters do. Those of another layout or dtype need one kernel
        more, which is compiled when the first one comes. So are, on a GPU, the small kernels that count steps and copy.

        Raises:
            TypeError, ValueError, RuntimeError: the parameters, or the options, are refused as by `update`.
        """
        try:
            warm(self._stepper, self._accumulator, self, by_name(params, "params"))
        except WrongScalarsError as error:
            raise self.complaint(error) from error.__cause__

    def memory(self, params: ByName) -> MemoryUse:
        """How many bytes `update(params, ...)` will hold: parameters, state, averages and summed gradients.

        Nothing is allocated for it: parameters whose numbers do not matter, as `np.empty(shape)`, will do.

        Raises:
            TypeError: a parameter is no array, or has no float dtype.
        """
        return memory_use(self, self._stepper.store.shaped, by_name(params, "params"), self._stepper.counts.names)

    def flush(self, params: ByName, rows: Mapping[Any, Any] | None = None) -> None:
        """Make the steps that rows have missed, with `sparse="catch_up"`: before they are read, or saved.

        Args:
            params: the parameters. Those that had no gradient of `Rows` are left alone.
            rows: from names to integers `(k,)`: which rows. All rows of other names; None for all of all.

        Raises:
            IndexError: there is no such row.
            KeyError: `rows` has a name that `params` has not.
            TypeError, ValueError: an array is not what it was when it was updated.
        """
        plan = self._stepper.plan(self, accumulates=False)
        self._stepper.flush(self, plan, by_name(params, "params"), rows or {})

    @contextmanager
    def averaged(self, params: ByName) -> Iterator[None]:
        """Within `with opt.averaged(params):` the arrays in `params` hold what a model is to be judged and used with.

        These are the averages of `ema`; or the optimizer's own evaluation parameters, if it has such (`evaluation`),
        which are the parameters themselves before a name's first step. At the end, also after an exception, the arrays
        get their own numbers back. `update` is refused meanwhile. A `frozen` parameter without a step has no average,
        and is left as it is.

        Raises:
            RuntimeError: there are no averages, or the parameters are the averages already.
            KeyError: a parameter that is not frozen has no average of `ema` yet.
            TypeError, ValueError: an array is not what it was when it was updated. Nothing has changed then.
        """
        self.flush(params)
        with holding_averages(self._stepper, self, self.averages, params):
            yield

    @property
    def is_averaged(self) -> bool:
        """Whether some parameters hold their averages for now: within `with opt.averaged(params):`."""
        return self._stepper.is_averaged

    def to(self, device: str) -> Self:
        """Move the state to "cuda", the current GPU, or "cpu", to go on there.

        Raises:
            ValueError: if the device is neither.
            RuntimeError: if "cuda" cannot be had; it says what is missing.
        """
        memory = memory_of(device)
        accumulator = self._accumulator.moved(memory)
        self._stepper.move(memory)
        self._accumulator = accumulator
        return self

    def state_dict(self) -> dict[str, Any]:
        """All that it takes to go on later, or elsewhere, with the same bits: names, state, counts, hyperparameters.

        The arrays are views of the optimizer's own (copies of those on a GPU), which change with the next step:
        `copy.deepcopy` keeps them. Schedules of `fastoptim.schedules` are data in it; of any other callable, only that
        it is one.
        """
        self._stepper.use_slots(self.stored_slots)
        return saved_of(self, (self._stepper.counts, self._stepper.store, self._accumulator))

    def load_state_dict(self, saved: Mapping[str, Any], hyperparameters: bool = True, *, convert: bool = False) -> None:
        """Go on from what `state_dict` has returned, of an optimizer of the same class. The arrays are copied.

        Args:
            saved: the state dict. A callable that was no data in it has to be assigned before.
            hyperparameters: whether its hyperparameters and options are taken, too; if not, the present ones stay.
            convert: where the present ones stay, whether state of another `state_dtype` is rounded to this one's, and
                masters, or what `rounding="kahan"` has kept, are dropped where this one keeps none; if not, such a
                state dict is refused.

        Raises:
            KeyError, TypeError, ValueError: something is missing or not what it has to be; nothing has changed then.
            RuntimeError: the parameters are the averages for a while (`averaged`).
            CheckpointError, OSError: a file's array cannot be read; the state may hold anything then.
        """
        if self.is_averaged:
            raise RuntimeError("load_state_dict: the parameters are the averages, expected the end of `averaged`")
        values = checked_values(self, saved, hyperparameters, convert)
        slots = self.stages_of(self.variant_of(values))[-1].slots if self.matrices is None else ()
        shapes = self.state_shape if self.matrices is None else None  # or else it depends on the new values
        counts, store, accumulator = loaded(
            saved, values, slots, self._stepper, self._accumulator, shapes, convert and not hyperparameters
        )
        self._stepper.take(counts, store)
        self._accumulator = accumulator
        for name, value in values.items():
            if isinstance(value, LossScale) and isinstance(self.grad_scale, LossScale):
                self.grad_scale.take(value)  # so that a training loop that holds it goes on with it
            else:
                setattr(self, name, value)

    @classmethod
    def _relatives(cls) -> Mapping[str, type[Declared]]:
        return subclasses(Optimizer)

    def _assigned(self, field: Field, old: Any, new: Any) -> None:
        """A field was assigned. Plan again if that changes more than a number of the step."""
        if field.chooses_rule or field.name == "groups":
            vars(self)["variant"] = self.variant_of(vars(self))
        if field.kw_only or field.chooses_rule or callable(old) or callable(new) or isinstance(field, Patterns):
            self._stepper.replan()
        if field.name in self._shaping:
            self._stepper.steps.clear()
        if field.name == "state_dtype":
            self._stepper.use_state_dtype(dtype_of(new))
        if field.name in Beside._fields and new is None:
            self._stepper.drop(field.name)
        if field.name == "rounding" and new != "kahan":
            self._stepper.drop("compensation")

    if not TYPE_CHECKING:  # which should find attributes that are not there

        def __getattr__(self, name: str) -> Any:
            """Called for a missing attribute. After an `__init__` that did not call this class's, all are missing."""
            if name in ("_stepper", "_accumulator"):
                raise self.not_initialised()
            if name in (*self.slots, *self.shaped_slots):
                raise AttributeError(f"{type(self).__name__} has no attribute {name!r}: use opt.state[{name!r}]")
            if name.startswith("__"):  # Python asks for some of them
                raise AttributeError(name)
            raise AttributeError(self._unknown(name))

    def __copy__(self) -> Self:  # two optimizers with one state would spoil it for each other
        return copy.deepcopy(self)
