"""Odd arrays: subclasses that do as they like, objects that hand out copies, names with glob characters."""

import copy

import numpy as np
import pytest

import fastoptim
from fastoptim import SGD, Adam
from internals import bound_step
from support import FEW, LAYOUTS, assert_same_bits, like, random, snapshot

F4, F8 = np.float32, np.float64


class Copying(np.ndarray):
    """Its views are copies."""

    def transpose(self, *axes):
        return np.array(super().transpose(*axes))

    def reshape(self, *shape, **kwargs):
        return np.array(super().reshape(*shape, **kwargs))

    def __getitem__(self, index):
        return np.array(super().__getitem__(index))

    def ravel(self, *args):
        return np.array(super().ravel(*args))


class Ignoring(np.ndarray):
    """Writing into it does nothing, and it computes nonsense."""

    def __setitem__(self, index, value):
        pass

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        return np.float32(77)

    def __array_function__(self, function, types, args, kwargs):
        raise RuntimeError("not with me")


class Quiet(np.ndarray):
    pass


SUBCLASSES = [Copying, Ignoring, Quiet, np.recarray, np.memmap]


def as_subclass(cls, array):
    """A view of the array's memory as the subclass."""
    return np.ndarray.view(array, cls) if cls is not np.recarray else array.view(np.recarray)


OPTIONS = [{}, {"clip_norm": 0.5, "ema": 0.5}, {"zero_grads": True}, {"accumulate": 2, "zero_grads": True},
           {"skip_nonfinite": True, "zero_grads": True, "clip_norm": 0.5}]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*memmap")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("cls", SUBCLASSES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_subclasses_are_updated_as_their_memory(cls, layout, options, rng):
    start = {"W": random(rng, (5, 4), F4), "T": random(rng, (2, 3, 4), F4)}
    bases = {name: LAYOUTS[layout](p) for name, p in start.items()}
    params = {name: as_subclass(cls, p) for name, p in bases.items()}
    opt, twin = Adam(lr=0.1, **options), Adam(lr=0.1, **options)
    for call in range(4):
        plain = like(rng, start)
        if options.get("skip_nonfinite") and call == 1:
            plain["W"][0, 0] = np.inf
        own = {name: LAYOUTS[layout](g) for name, g in plain.items()}
        opt.update(params, {name: as_subclass(cls, g) for name, g in own.items()})
        twin.update(start, plain)
        for name, p in bases.items():
            assert_same_bits(p, start[name], f"{call} {name}")
            assert not (options.get("zero_grads") and own[name].any())
    for slot in opt.slots:
        assert type(opt.state[slot]["W"]) is np.ndarray


class HandsOut:
    """An array of some library, which NumPy reads through its protocol."""

    def __init__(self, array, shares):
        self.array, self.shares = array, shares

    def __array__(self, dtype=None, copy=None):
        return self.array if self.shares else self.array.copy()


class Cached(HandsOut):
    def __array__(self, dtype=None, copy=None):
        return self.array.astype(F8)


class Interface:
    def __init__(self, array):
        self.array = array

    @property
    def __array_interface__(self):
        return self.array.__array_interface__


@pytest.mark.parametrize("options", [{"zero_grads": True}, {"zero_grads": True, "accumulate": 2}], ids=str)
@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("make", [lambda g: HandsOut(g, False), lambda g: Cached(g, False), lambda g: g.tolist()])
def test_a_gradient_that_is_handed_out_as_a_copy_is_not_zeroed_silently(make, steps, options, rng):
    params, opt = {"W": random(rng, (5, 4), F4), "b": random(rng, (4,), F4)}, Adam(**options)
    for _ in range(steps):
        opt.update(params, like(rng, params))
    grads = like(rng, params)
    given = grads | {"W": make(grads["W"])}
    before = snapshot(opt, params, grads)
    with pytest.raises((ValueError, TypeError), match=r"grads\['W'\]"):
        opt.update(params, given)
    assert snapshot(opt, params, grads) == before
    opt.update(params, grads)
    assert not grads["W"].any()


def test_a_gradient_that_is_handed_out_as_a_copy_may_be_read(rng):
    for options in {}, {"accumulate": 2}, {"clip_norm": 0.5}:
        params, opt, twin = {"W": random(rng, (5, 4), F4)}, Adam(**options), Adam(**options)
        theirs = copy.deepcopy(params)
        for _ in range(4):
            grads = like(rng, params)
            opt.update(params, {"W": HandsOut(grads["W"], False)})
            twin.update(theirs, grads)
        assert_same_bits(params["W"], theirs["W"])


def test_gradients_that_are_shared_are_zeroed(rng):
    for make in lambda g: HandsOut(g, True), Interface, memoryview:
        for dtype in F4, F8:
            params, opt = {"W": random(rng, (5, 4), F4)}, Adam(zero_grads=True)
            for _ in range(3):
                g = random(rng, (5, 4), dtype)
                opt.update(params, {"W": make(g)})
                assert not g.any()
            assert opt.iter == 3


@pytest.mark.parametrize("name", ["layer[0].W", "a[b]", "[", "x]", "w[!1]", "deep[0][1]"])
def test_a_name_with_a_glob_character(name, rng):
    params = {name: random(rng, (3,), F4), "other": random(rng, (3,), F4)}
    opt, escaped = SGD(groups={name: {"lr": 1.0}}), name.replace("[", "[[]")
    before = snapshot(opt, params)
    if "[" in name and name != "[":
        with pytest.raises(ValueError, match=r"In a pattern \[ begins a set of characters") as caught:
            opt.update(params, like(rng, params))
        assert repr(escaped) in str(caught.value)
        assert snapshot(opt, params) == before
    opt.groups = {escaped: {"lr": 1.0}}
    opt.lr, p = 0.0, params[name].copy()
    grads = like(rng, params)
    opt.update(params, grads)
    assert_same_bits(params[name], p - grads[name])


def test_a_pattern_for_a_name_that_comes_later(rng):
    """The error says what to do, and that does it."""
    params, late = {"W": random(rng, (3,), F4)}, random(rng, (2,), F4)
    opt = SGD(lr=0.5, groups={"late": {"lr": 1.0}})
    before = snapshot(opt, params)
    with pytest.raises(ValueError, match=r"groups\['late'\].*'W'.*with a gradient of None") as caught:
        opt.update(params, like(rng, params))
    assert "\n" not in str(caught.value)
    assert snapshot(opt, params) == before
    kept = late.copy()
    opt.update({**params, "late": late}, like(rng, params) | {"late": None})
    opt.update(params, like(rng, params))
    opt.update({**params, "late": late}, like(rng, params) | {"late": np.ones(2, F4)})
    assert_same_bits(late, kept - F4(1))


WRONG = [np.zeros(3), np.zeros((2, 2)), np.array([0.1]), np.array([[1]]), np.zeros(0), np.array(["a"]), [0.1], {"a": 1}]


@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value).replace("\n", ""))
@pytest.mark.parametrize(
    "key", ["lr", "eps_hat", "clip_norm", "accumulate", "ema", "groups", "decoupled", "grad_scale"]
)
def test_a_state_dict_whose_hyperparameter_is_an_array(key, value, rng):
    opt, params = Adam(ema=0.5), {"p": random(rng, (3,), F4)}
    opt.update(params, like(rng, params))
    saved = copy.deepcopy(opt.state_dict())
    saved["hyperparameters"][key] = value
    before = snapshot(opt, params)
    with pytest.raises((TypeError, ValueError), match=r"state dict|hyperparameters|schedule|groups") as caught:
        opt.load_state_dict(saved)
    assert "ambiguous" not in str(caught.value)
    assert "scalar" not in str(caught.value)
    assert key in str(caught.value) or isinstance(value, dict)
    assert snapshot(opt, params) == before


@pytest.mark.parametrize("value", [np.zeros(3), np.array([0.1]), np.zeros((0, 2))], ids=repr)
def test_a_hyperparameter_that_is_an_array(value):
    for name in "lr", "eps", "weight_decay", "clip_norm", "ema", "grad_scale", "accumulate", "eps_hat", "zero_grads":
        opt = Adam()
        with pytest.raises(ValueError, match=f"{name}: expected"):
            setattr(opt, name, value)
        with pytest.raises(ValueError, match=rf"groups\['p'\]|{name}"):
            opt.groups = {"p": {name: value}}
    assert Adam(lr=np.array(0.5)).lr == 0.5  # a number all the same
    assert type(Adam(lr=np.float32(0.5)).lr) is float


@pytest.mark.parametrize("key", ["iter", "skipped", "steps", "micro_steps"])
def test_a_state_dict_whose_count_is_an_array(key, rng):
    opt, params = Adam(), {"p": random(rng, (3,), F4)}
    opt.update(params, like(rng, params))
    for value in np.zeros(3), np.array([1]), 1.0, "1", None:
        saved = copy.deepcopy(opt.state_dict())
        saved[key] = value if key in ("iter", "skipped") else {"p": value}
        before = snapshot(opt, params)
        with pytest.raises((TypeError, ValueError), match=f"state dict: {key}"):
            opt.load_state_dict(saved)
        assert snapshot(opt, params) == before


@pytest.mark.parametrize("cls", FEW)
def test_the_norm_does_not_depend_on_the_order_of_names(cls, rng):
    """Neither on that of a dict, nor on when a name came, nor on dtypes, nor on what was saved."""
    shapes = {"b": (3000,), "a": (50, 60), "c": (2999,), 10: (1000,), 9: (1001,), ("t", 1): (7,)}
    dtypes = {name: F8 if i % 3 == 1 else F4 for i, name in enumerate(shapes)}
    start = {name: random(rng, shape, dtypes[name]) for name, shape in shapes.items()}
    for _ in range(25):
        grads = {
            name: random(rng, shape, dtypes[name]) * dtypes[name](rng.integers(1, 100))
            for name, shape in shapes.items()
        }
        norms = set()
        for _ in range(4):
            names = [list(shapes)[i] for i in rng.permutation(len(shapes))]
            params = {name: start[name].copy() for name in names}
            opt = cls(clip_norm=1.0)
            for name in names[: rng.integers(0, 5)]:  # some came before
                opt.update({name: params[name]}, {name: np.zeros(shapes[name], dtypes[name])})
            if rng.integers(2):
                twin = cls()
                twin.load_state_dict(opt.state_dict())
                opt = twin
            opt.update(params, grads)
            norms.add(opt.grad_norm)
        flat = fastoptim.flatten({name: start[name] for name in names})
        opt = cls(clip_norm=1.0)
        given = flat.zeros_like()
        for name, g in grads.items():
            given[name][...] = g
        opt.update(flat, given)
        norms.add(opt.grad_norm)
        assert len(norms) == 1
    assert bound_step(opt) is not None
