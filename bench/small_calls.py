"""Ways of calling an optimizer on small arrays that real NumPy programs have, each beside NumPy doing the same."""

from collections.abc import Callable
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np

import fastoptim
from bench.calls import Calls, Way, plain_numpy, same_dict
from bench.plain import PlainStep
from bench.recipes import RECIPES
from bench.workloads import WORKLOADS, Arrays, Workload, mlp
from fastoptim import schedules
from fastoptim.cli.plain_numpy import PlainNumpy

SIX = Workload("six arrays", "17,500 parameters in 6 arrays", mlp(80, 128, 52, 8))
TINY = Workload("3 x 10", "one array of 3 x 10", [(3, 10)])
RL = WORKLOADS["rl_mlp"]
CALLS = 4  # that make one step
ALIVE = 100  # sets of parameters that stay in memory, so that new arrays have new addresses


def per_array(*, one_optimizer: bool) -> Calls:
    """A call for each array, as frameworks have it whose layers update themselves."""
    params, grads = SIX.data()
    one, turns = fastoptim.Adam(), cycle(grads)
    optimizers = {name: one if one_optimizer else fastoptim.Adam() for name in params}

    def step() -> None:
        arrays = next(turns)
        for name, opt in optimizers.items():
            opt.update({name: params[name]}, {name: arrays[name]})

    return Calls(step)


def two_halves() -> Calls:
    """One optimizer for two networks in turn, as an actor and a critic."""
    (params, grads), opt = SIX.data(), fastoptim.Adam()
    turns, names = cycle(grads), list(params)
    first, second = ({name: params[name] for name in part} for part in (names[:3], names[3:]))

    def step() -> None:
        arrays = next(turns)
        opt.update(first, arrays)
        opt.update(second, arrays)

    return Calls(step)


def new_parameters() -> Calls:
    """Arrays that the optimizer has not seen before in every step: `self.W = ...`."""
    (params, grads), opt = SIX.data(), fastoptim.Adam()
    turns, new, alive = cycle(grads), params, cycle(range(ALIVE))
    kept = [params] * ALIVE

    def prepare() -> None:
        nonlocal new
        new = {name: param.copy() for name, param in new.items()}
        kept[next(alive)] = new

    return Calls(lambda: opt.update(new, next(turns)), prepare)


def changed_gradients(change: Callable[[int, Arrays], Arrays]) -> Calls:
    """Every set of gradients is changed before anything is measured: `change(i, grads)`, `i` being its place."""
    (params, grads), opt = SIX.data(), fastoptim.Adam()
    turns = cycle([change(i, arrays) for i, arrays in enumerate(grads)])
    return Calls(lambda: opt.update(params, next(turns)))


def none_every_other(i: int, grads: Any) -> Any:
    return {**grads, "W2": None} if i % 2 else grads


def one_fortran(i: int, grads: Arrays) -> Arrays:
    return {**grads, "W2": np.asfortranarray(grads["W2"])}


def one_float64(i: int, grads: Arrays) -> Arrays:
    return {**grads, "W2": grads["W2"].astype(np.float64)}


def one_tiny_array() -> Calls:
    (params, grads), opt = TINY.data(), fastoptim.SGD()
    turns = cycle(grads)
    return Calls(lambda: opt.update(params, next(turns)))


def one_tiny_array_in_numpy() -> Calls:
    """As short as it can be written: there is hardly anything to compute."""
    params, grads = TINY.data()
    turns, lr = cycle(grads), 0.01

    def step() -> None:
        arrays = next(turns)
        for name in params:
            params[name] -= lr * arrays[name]

    return Calls(step)


# What one option costs a small network: by its name, the hyperparameters that switch it on.
COSTS: dict[str, dict[str, Any]] = {
    "lr a schedule": {"lr": schedules.cosine(1e-3, steps=1_000_000)},
    "clip_norm": {"clip_norm": 1.0},
    "clip_norm and schedule": {"clip_norm": 1.0, "lr": schedules.cosine(1e-3, steps=1_000_000)},
    "clip_value": {"clip_value": 1.0},
    "weight_decay": {"weight_decay": 0.01, "decoupled": True},
    "ema": {"ema": 0.999},
    "groups": {"weight_decay": 0.01, "groups": {"b*": {"weight_decay": 0.0}}},
}


def flat(**options: Any) -> Calls:
    opt, params = fastoptim.Adam(**options), fastoptim.flatten(RL.data().params)
    grads = params.zeros_like()
    grads.buffer[...] = 1
    return Calls(lambda: opt.update(params, grads))


def training_loop(*, plain: bool = False) -> Calls:
    """Everything that README's loop switches on."""
    (params, grads), opt = RL.data(), RECIPES["training loop"].make()
    update, turns = PlainStep(opt, params).update if plain else partial(opt.update, params), cycle(grads)
    return Calls(lambda: update(next(turns)))


def accumulated() -> Calls:
    """The call that steps, after those that only add."""
    (params, grads), opt = RL.data(), fastoptim.Adam(accumulate=CALLS)
    turns = cycle(grads)

    def prepare() -> None:
        for _ in range(CALLS - 1):
            opt.update(params, next(turns))

    return Calls(lambda: opt.update(params, next(turns)), prepare)


def accumulated_in_numpy() -> Calls:
    params, grads = RL.data()
    plain, turns = PlainNumpy(fastoptim.Adam(), params), cycle(grads)
    sums = {name: np.zeros_like(param) for name, param in params.items()}

    def add() -> None:
        for name, grad in next(turns).items():
            sums[name] += grad

    def prepare() -> None:
        for _ in range(CALLS - 1):
            add()

    def step() -> None:
        add()
        for total in sums.values():
            total /= CALLS
        plain.update(sums)
        for total in sums.values():
            total.fill(0)

    return Calls(step, prepare)


SMALL = {
    "the same dict": Way(lambda: same_dict(SIX), "NumPy, the same dict"),
    "an optimizer per array": Way(lambda: per_array(one_optimizer=False), "NumPy, the same dict"),
    "one optimizer, a call per array": Way(lambda: per_array(one_optimizer=True), "NumPy, the same dict"),
    "two halves in turn": Way(two_halves, "NumPy, the same dict"),
    "new parameters at every step": Way(new_parameters, "NumPy, the same dict"),
    "a None every other step": Way(lambda: changed_gradients(none_every_other), "NumPy, the same dict"),
    "one Fortran gradient of six": Way(lambda: changed_gradients(one_fortran), "NumPy, the same dict"),
    "one float64 gradient of six": Way(lambda: changed_gradients(one_float64), "NumPy, the same dict"),
    "NumPy, the same dict": Way(lambda: plain_numpy(SIX)),
    "3 x 10, SGD": Way(one_tiny_array, "NumPy, 3 x 10, SGD"),
    "NumPy, 3 x 10, SGD": Way(one_tiny_array_in_numpy),
    "RL MLP": Way(lambda: same_dict(RL), "NumPy, RL MLP"),
    "RL MLP, flat": Way(flat, "NumPy, RL MLP"),
    **{f"RL MLP, flat, {name}": Way(partial(flat, **options)) for name, options in COSTS.items()},
    "RL MLP, training loop": Way(training_loop, "NumPy, RL MLP, training loop"),
    "RL MLP, accumulate=4, the step": Way(accumulated, "NumPy, RL MLP, accumulated"),
    "NumPy, RL MLP": Way(lambda: plain_numpy(RL)),
    "NumPy, RL MLP, training loop": Way(lambda: training_loop(plain=True)),
    "NumPy, RL MLP, accumulated": Way(accumulated_in_numpy),
}
