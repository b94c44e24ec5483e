"""What `update` promises beside the formula: in place, whose arrays it takes, state, hyperparameters."""

import copy
import inspect
import pickle
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
import pytest

import fastoptim
from internals import bound_step
from references import Reference
from support import DTYPES, LAYOUTS, OPTIMIZERS, assert_close, assert_same_bits, like, random
from variants import VARIANTS, own_hyperparameters, wrong_values


def network(rng, dtype=np.float32):
    return {"W1": random(rng, (30, 20), dtype), "b1": random(rng, (20,), dtype), "scale": random(rng, (), dtype)}


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_every_other_reference_to_an_array_sees_the_step(cls, rng):
    params = network(rng)
    layer = params["W1"]
    row, before = layer[3], layer.copy()
    opt = cls()
    for _ in range(3):
        opt.update(params, like(rng, params))
    assert params["W1"] is layer
    assert (layer != before).any()
    assert_same_bits(row, layer[3])


def test_gradients_are_left_alone(rng):
    params = network(rng)
    grads = like(rng, params)
    kept = copy.deepcopy(grads)
    fastoptim.Adam().update(params, grads)
    for name in grads:
        assert_same_bits(grads[name], kept[name])


def test_mixed_dtypes_and_gradients_of_other_dtypes(rng):
    params = {
        "a": random(rng, (50,), np.float32),
        "b": random(rng, (5, 9), np.float64),
        "c": random(rng, (4,), np.float32),
    }
    opt = fastoptim.Adam(lr=0.1)
    reference = Reference(opt, params)
    for dtype in (np.float16, np.float32, np.float64):
        grads = {name: random(rng, p.shape, dtype) for name, p in params.items()}
        reference.update(grads)
        opt.update(params, grads)
        # a gradient is rounded to the parameter's dtype first: float64 gradients of float32 parameters differ by that
    for name, p in params.items():
        assert_close(p, reference.params[name])


def test_large_numbers_of_another_dtype_become_inf_without_a_word(rng):
    p = np.zeros(3, np.float32)
    fastoptim.SGD().update({"p": p}, {"p": np.array([1e300, 1, -1e300])})
    assert_same_bits(p, np.array([-np.inf, -0.01, np.inf], np.float32))


@pytest.mark.parametrize("size", [5, 100_000])
def test_a_gradient_may_be_its_parameter_itself(size, rng):
    for layout in ("C", "F", "strided", "reversed"):
        p = LAYOUTS[layout](random(rng, (size, 2), np.float32))
        expected = p - np.float32(0.1) * p
        fastoptim.SGD(lr=0.1).update({"p": p}, {"p": p})
        assert_same_bits(p, expected)


class Lazy(Mapping):
    """A mapping that is no dict and makes its gradients when asked."""

    def __init__(self, arrays):
        self.arrays = arrays

    def __getitem__(self, name):
        return self.arrays[name].copy()

    def __iter__(self):
        return iter(self.arrays)

    def __len__(self):
        return len(self.arrays)


def test_any_mapping_and_names_that_params_lacks(rng):
    params, grads = network(rng), {}
    expected = copy.deepcopy(params)
    grads = {"unused": "not even an array", **like(rng, params)}
    fastoptim.Adam().update(expected, grads)
    for mapping in (OrderedDict(reversed(grads.items())), Lazy(like(rng, params) | {k: grads[k] for k in params})):
        mine = copy.deepcopy(params)
        fastoptim.Adam().update(OrderedDict(reversed(mine.items())), mapping)
        for name in params:
            assert_same_bits(mine[name], expected[name])


def test_gradients_made_new_each_time_and_kept_ones_give_the_same(rng):
    params = network(rng)
    kept = like(rng, params)
    other = copy.deepcopy(params)
    a, b = fastoptim.Adam(), fastoptim.Adam()
    for _ in range(10):
        a.update(params, kept)
        b.update(other, {name: g.copy() for name, g in kept.items()})
        for g in kept.values():
            g += 0.25
    for name in params:
        assert_same_bits(params[name], other[name])


@pytest.mark.parametrize("what", ["memoryview", "array.array", "numpy scalar"])
def test_gradients_that_numpy_reads(what):
    import array

    p = np.ones(3, np.float32) if what != "numpy scalar" else np.ones((), np.float32)
    grad = {
        "memoryview": memoryview(np.full(3, 2, np.float32)),
        "array.array": array.array("f", [2, 2, 2]),
        "numpy scalar": np.float32(2),
    }[what]
    for _ in range(2):
        fastoptim.SGD(lr=0.25).update({"p": p}, {"p": grad})
    assert (p == 0).all()


def test_a_memory_map_is_an_array(tmp_path):
    p = np.memmap(tmp_path / "p", np.float32, "w+", shape=(5,))
    fastoptim.SGD(lr=1).update({"p": p}, {"p": np.ones(5, np.float32)})
    p.flush()
    assert (np.fromfile(tmp_path / "p", np.float32) == -1).all()


def test_arrays_that_were_pickled_take_the_fast_way(rng):
    params = pickle.loads(pickle.dumps(network(rng)))  # their dtype objects are not numpy's own
    opt = fastoptim.Adam()
    opt.update(params, like(rng, params))
    bound = bound_step(opt)
    assert bound is not None
    opt.update(params, like(rng, params))
    assert bound_step(opt) is bound


def test_state_is_made_on_first_use_with_the_parameters_shapes(rng):
    opt = fastoptim.Adam()
    assert {slot: dict(views) for slot, views in opt.state.items()} == {"m": {}, "v": {}}
    params = network(rng)
    opt.update(params, like(rng, params))
    for slot in ("m", "v"):
        assert list(opt.state[slot]) == list(params)
        for name, p in params.items():
            assert opt.state[slot][name].shape == p.shape
            assert opt.state[slot][name].dtype == p.dtype
    with pytest.raises(TypeError):
        opt.state["m"]["W1"] = params["W1"]


def test_writing_into_the_state_counts(rng):
    opt = fastoptim.Momentum(lr=0, momentum=0.5)
    p = np.zeros(4, np.float32)
    opt.update({"p": p}, {"p": p.copy()})
    opt.state["v"]["p"][...] = 8
    opt.update({"p": p}, {"p": p.copy()})
    assert (p == 4).all()


def test_a_parameter_that_appears_later_starts_with_zero_state(rng):
    params = network(rng)
    opt = fastoptim.Momentum()
    opt.update(params, like(rng, params))
    early = opt.state["v"]["W1"]
    params["late"] = np.zeros(3, np.float32)
    grads = like(rng, params)
    opt.update(params, grads)
    assert_same_bits(opt.state["v"]["late"], np.float32(-0.01) * grads["late"])
    assert opt.state["v"]["W1"] is early or np.shares_memory(opt.state["v"]["W1"], early)
    del params["W1"]  # and one may go and come back
    opt.update(params, grads)
    kept = early.copy()
    assert_same_bits(opt.state["v"]["W1"], kept)


def test_other_arrays_of_the_same_shapes_go_on_with_the_state(rng):
    params = network(rng)
    grads = like(rng, params)
    one, two = fastoptim.Adam(), fastoptim.Adam()
    other = copy.deepcopy(params)
    for layout in ("C", "F", "strided", "C"):
        params = {name: LAYOUTS[layout](p) for name, p in params.items()}
        one.update(params, grads)
        two.update(other, grads)
    for name in other:
        assert_same_bits(params[name], other[name])


def test_no_parameters_at_all():
    opt = fastoptim.Adam()
    for _ in range(2):
        opt.update({}, {})
    assert opt.iter == 0  # steps are those of names


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_hyperparameters_hold_from_the_next_step(cls, rng):
    params, opt = {"p": random(rng, (5,), np.float32)}, cls()
    reference, grads = Reference(opt, params), like(rng, params)
    choosing = {name for key in cls.variants for name in key}  # with another rule, another state would begin
    for assigned in {}, VARIANTS[cls.__name__][0], {"lr": 0}:
        for name in assigned.keys() - choosing:
            setattr(opt, name, assigned[name])
        reference.update(grads)
        opt.update(params, grads)
        assert_close(params["p"], reference.params["p"])


def test_positional_order_and_defaults():
    expected = {
        "SGD": {"lr": 0.01, "momentum": 0.0, "dampening": 0.0, "nesterov": False},
        "Momentum": {"lr": 0.01, "momentum": 0.9},
        "Nesterov": {"lr": 0.01, "momentum": 0.9},
        "AdaGrad": {"lr": 0.01, "eps": 1e-7, "eps_in_root": False},
        "RMSprop": {"lr": 0.01, "decay_rate": 0.99, "eps": 1e-7, "eps_in_root": False, "centered": False,
                    "momentum": 0.0},
        "Adam": {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-7, "eps_hat": True, "eps_in_root": False,
                 "amsgrad": False},
    }  # fmt: skip
    for name, defaults in expected.items():
        positional = own_hyperparameters(getattr(fastoptim, name))
        assert positional == defaults
        assert list(positional) == list(defaults)
    opt = fastoptim.Adam(0.5, 0.25, 0.125, 1, False)
    numbers = "lr=0.5, beta1=0.25, beta2=0.125, eps=1.0"
    assert repr(opt) == f"Adam({numbers}, eps_hat=False, eps_in_root=False, amsgrad=False)"


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_wrong_hyperparameters_are_refused_by_name(cls):
    for name in inspect.signature(cls).parameters:
        for value in wrong_values(cls, name):
            with pytest.raises(ValueError, match=f"{name}: expected .*got"):
                cls(**{name: value})
            opt = cls()
            kept = getattr(opt, name)
            with pytest.raises(ValueError, match=f"{name}: expected .*got"):
                setattr(opt, name, value)
            assert getattr(opt, name) == kept


def test_wrong_arguments_name_the_class():
    with pytest.raises(TypeError, match="Adam has no argument 'learning_rate'"):
        fastoptim.Adam(learning_rate=0.1)
    with pytest.raises(TypeError, match="Momentum"):
        fastoptim.Momentum(0.1, 0.9, 0.5)


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda opt: pickle.loads(pickle.dumps(opt))])
@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_a_copied_or_pickled_optimizer_goes_on_alike(cls, how, rng):
    params = network(rng)
    params["F"] = np.asfortranarray(random(rng, (4, 5), np.float64))
    opt = cls()
    grads = [like(rng, params) for _ in range(4)]
    for g in grads[:2]:
        opt.update(params, g)
    twin, theirs = how(opt), copy.deepcopy(params)
    for g in grads[2:]:
        opt.update(params, g)
        twin.update(theirs, g)
    assert twin.iter == 4
    for name in params:
        assert_same_bits(theirs[name], params[name])


@pytest.mark.parametrize("dtype", DTYPES)
def test_integers_are_exact_learning_rates(dtype):
    p = np.zeros(2, dtype)
    fastoptim.SGD(lr=np.int64(2)).update({"p": p}, {"p": np.ones(2, dtype)})
    assert (p == -2).all()
