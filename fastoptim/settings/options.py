"""What a step does beside the optimizer's formula: options that every optimizer takes, all off by default."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from fastoptim.settings.bounds import Bounds
from fastoptim.settings.cautious import Cautious
from fastoptim.settings.data import values_from_data
from fastoptim.settings.declared import Declared
from fastoptim.settings.fields import Choice, Count, Number, Switch, option
from fastoptim.settings.fields import nonnegative as nonnegative_number  # one of the options is called so
from fastoptim.settings.groups import OFF, Groups
from fastoptim.settings.loss_scale import GradScale, LossScale
from fastoptim.settings.patterns import Patterns, first_match
from fastoptim.settings.plan import Plan
from fastoptim.settings.precision import Seed, master, rounding, state_dtype
from fastoptim.settings.rows import evaluation_numbers_of
from fastoptim.settings.statistics import Names


def _limit(default: None) -> Number:
    return Number(default, "a finite number > 0", open_below=True, optional=True)


def sparse(default: str) -> Choice:
    """The option `sparse`."""
    return Choice((default, "catch_up"))


def _ema(default: None) -> Number:
    return Number(default, "a number in [0, 1)", high=1.0, optional=True)


class Options(Declared):
    """What a step does in the one pass beside the formula, in this order. All are off by default.

    Args:
        grad_scale: the gradients are divided by it, as by a loss scale. A `LossScale` finds the number by itself.
        accumulate: the number of calls that make one step, on the mean of their gradients. Each name counts its own
            calls.
        clip_norm: the largest norm of all gradients together. Larger ones are multiplied by
            `clip_norm / (norm + 1e-6)`, as in PyTorch. `opt.grad_norm` is the norm before.
        clip_value: each element is limited to the interval from `-clip_value` to `clip_value`.
        maximize: step along the gradient and not against it.
        weight_decay: this part of the parameter is added to its gradient. It may be a schedule.
        decoupled: take `lr * weight_decay` of the parameter from it instead, as in AdamW (Loshchilov & Hutter 2019,
            https://arxiv.org/abs/1711.05101).
        cautious: an element stays where it is if the formula moves it along its gradient and not against it (Liang et
            al. 2024, https://arxiv.org/abs/2411.16085). Decoupled decay is made all the same. With "rescaled", the k of
            the n elements of an array that move make longer steps, n / (k + 1) times as long, as in the paper.
        bounds: the pair `(low, high)`. Elements that the step has left below low are set to low, above high to high.
            None is no bound, as in `(0, None)`. Both numbers are rounded to the parameter's dtype.
        nonnegative: the same as `bounds=(0, None)`. With both, both hold.
        master: "float32" keeps a copy of each bfloat16 or float16 parameter in float32. Steps are made on the copy, and
            rounded to the parameter in the same pass. It begins as the parameter. What you write into the parameter
            later does not reach it. `opt.masters` has the copies.
        state_dtype: "bfloat16" or "float16" for a state of half the bytes, of parameters that are updated in float32;
            "8bit" for a quarter (after Dettmers et al. 2022, https://arxiv.org/abs/2110.02861, with codes of another
            kind), where a parameter has 4,096 elements or more. Assigned later, it rounds the state that there is.
        rounding: how parameters and state of 16 or 8 bits are rounded: "nearest"; "stochastic" for up or down at
            random, the nearer one the likelier, so that small steps are not lost; "kahan" to keep what a parameter of
            16 bits loses by it, in the parameter's dtype, and add it again in the next step (Kahan 1965). None is
            "stochastic" where the state has 8 bits, and "nearest" elsewhere. With "kahan", a state of 8 bits is rounded
            at random.
        seed: of what is rounded at random. The random numbers depend on it, on the step, the name and the element
            alone.
        ema: the part of an average of each parameter that stays from one step to the next. It begins as the parameter
            before the first step. See `averages` and `averaged`.
        zero_grads: set the gradients to zero afterwards, for those who add to them.
        skip_nonfinite: if an element of the gradients is inf or nan, make no step, and count it in `opt.skipped`.
        groups: other values for some names: `{"b*": {"weight_decay": 0.0}}`. The first glob pattern that matches a name
            holds for it. At the first update, each pattern has to match a name of `params`.
        frozen: a glob pattern of names, or several: these parameters stay as they are, and have no state, no decay and
            no count. They need no gradients, and those that there are are left alone. Each pattern has to match a name.
        sparse: what happens to rows that a gradient of `Rows` leaves out. "lazy" leaves them as they are, and each row
            counts its own steps. With "catch_up", they are updated as with a gradient of zero, when they have a
            gradient next, or when `opt.flush(params)` asks for it.
        capturable: keep the step count in a GPU's memory, so that CUDA graphs can capture an update.
        statistics: what to measure of each array in the same pass, some of `grad_norm`, `param_norm`, `update_norm`,
            `clipped`, `nan` and `inf`. See `opt.last_statistics`.

    An optimizer's own numbers and `weight_decay` may be schedules: callables of the step, 0 at the first, that return a
    float.
    """

    grad_scale: float | LossScale = option(GradScale, default=1.0, kw_only=True)
    accumulate: int = option(Count, default=1, kw_only=True)
    clip_norm: float | None = option(_limit, default=None, kw_only=True)
    clip_value: float | None = option(_limit, default=None, kw_only=True)
    maximize: bool = option(Switch, default=False, kw_only=True)
    weight_decay: Number = option(nonnegative_number, default=0.0, kw_only=True)
    decoupled: bool = option(Switch, default=False, kw_only=True)
    cautious: bool | str = option(Cautious, default=False, kw_only=True)
    bounds: Bounds = option(Bounds, default=None, kw_only=True)
    nonnegative: bool = option(Switch, default=False, kw_only=True)
    master: str | None = option(master, default=None, kw_only=True)
    state_dtype: str | None = option(state_dtype, default=None, kw_only=True)
    rounding: str | None = option(rounding, default=None, kw_only=True)
    seed: int = option(Seed, default=0, kw_only=True)
    ema: float | None = option(_ema, default=None, kw_only=True)
    zero_grads: bool = option(Switch, default=False, kw_only=True)
    skip_nonfinite: bool = option(Switch, default=False, kw_only=True)
    groups: Mapping[str, Mapping[str, Any]] | None = option(Groups, default=None, kw_only=True)
    frozen: Patterns = option(Patterns, default=(), kw_only=True)
    sparse: str = option(sparse, default="lazy", kw_only=True)
    capturable: bool = option(Switch, default=False, kw_only=True)
    statistics: tuple[str, ...] = option(Names, default=(), kw_only=True)
    _off: ClassVar[dict[str, Any]] = {}
    _for_others: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, field in Options._fields.items():
            if name not in OFF and not cls._fields.get(name, field).kw_only:
                raise TypeError(f"{cls.__name__}: {name} is an option of every optimizer, expected another name")
        cls._off = {name: value for name, value in OFF.items() if not cls._fields[name].kw_only}

    def plan(
        self, stages: Sequence[Any], matrix_stages: Sequence[Any], accumulates: bool, shadows: bool = False
    ) -> Plan:
        """What the options come to, for steps of these stages; those of matrices are none where these follow the rule.

        Raises:
            ValueError: they cannot go together.
        """
        values = self.hyperparameters()
        return Plan(values, self._fields, self._off, self._for_others, stages, matrix_stages, accumulates, shadows)

    def evaluation_plan(self, stage: Any) -> Plan:
        """The plan of a pass that computes evaluation parameters: with groups, but with no option."""
        options = (x for x in Options._fields.values() if x.name != "groups" and self._fields[x.name].kw_only)
        values = {**self.hyperparameters(), **{x.name: x.default for x in options}}
        return Plan(values, self._fields, OFF, {}, [stage], (), accumulates=False, ask=evaluation_numbers_of)

    def value_for(self, name: Any, field: str) -> Any:
        """The value of a field for a parameter: that of its group, or the optimizer's own."""
        groups = self.groups or {}
        group = first_match(groups, name)
        own: Mapping[str, Any] = {} if group is None else [*groups.values()][group]
        return own[field] if field in own else getattr(self, field)

    def values_from(self, saved: Any) -> dict[str, Any]:
        """The values of all fields from a state dict, checked.

        Raises:
            TypeError, ValueError: a value is missing or wrong.
        """
        return values_from_data(saved, self.hyperparameters(), self._fields)
