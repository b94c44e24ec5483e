"""What follows from all steps before: the number of NAdam, held against PyTorch's, and several numbers."""

import copy
import pickle
from collections import namedtuple
from itertools import islice

import numpy as np
import pytest

import fastoptim
from fastoptim import Adam, NAdam, Number, Optimizer, nonnegative, rule
from internals import carried_by
from support import assert_close, assert_same_bits, random

F4, F8 = np.float32, np.float64
SHAPES = {"W": (4, 3), "b": (3,), "late": (5,), "slow W": (3, 2), "slow b": (2,)}


OPTIONS = {"groups": {"slow*": {"momentum_decay": 0.3, "lr": 0.01}}}


def gradients(rng, step, dtype=F8):
    """With names that join late, that pause, and that never have a gradient together."""
    grads = {name: random(rng, shape, dtype) for name, shape in SHAPES.items()}
    if step < 7:
        grads["late"] = None
    if step % 3 == 1:
        grads["b"] = grads["slow W"] = None
    if 30 <= step < 34:
        grads["slow b"] = None
    return grads


def through_a_file(opt, params, folder, new=NAdam):
    fastoptim.save(folder / "file", params, opt)
    twin = new()
    fastoptim.load(folder / "file").restore({name: np.zeros_like(p) for name, p in params.items()}, twin)
    return twin


def through_a_dict(opt, params, folder, new=NAdam):
    twin = new()
    twin.load_state_dict(copy.deepcopy(opt.state_dict()))
    return twin


def through_pickle(opt, params, folder, new=NAdam):
    return pickle.loads(pickle.dumps(opt))


def through_a_copy(opt, params, folder, new=NAdam):
    return copy.deepcopy(opt)


def unchanged(opt, params, folder, new=NAdam):
    return opt


WAYS = [unchanged, through_pickle, through_a_dict, through_a_file, through_a_copy]


@pytest.mark.parametrize("way", WAYS)
def test_nadam_of_pytorch(way, rng, tmp_path):
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    params = {name: random(rng, shape, F4) for name, shape in SHAPES.items()}
    tensors = {name: torch.tensor(p, requires_grad=True) for name, p in params.items()}
    fast = [tensor for name, tensor in tensors.items() if not name.startswith("slow")]
    slow = [tensor for name, tensor in tensors.items() if name.startswith("slow")]
    peer = torch.optim.NAdam([{"params": fast}, {"params": slow, "momentum_decay": 0.3, "lr": 0.01}])
    opt = NAdam(**OPTIONS)
    for step in range(60):
        if step in (20, 45):
            opt = way(opt, params, tmp_path)
        opt.lr = peer.param_groups[0]["lr"] = 0.002 * (1 + step % 5)
        grads = gradients(rng, step, F4)
        for name, tensor in tensors.items():
            tensor.grad = None if grads[name] is None else torch.tensor(grads[name])
        peer.step()
        opt.update(params, grads)
    for name, tensor in tensors.items():
        assert_close(params[name], tensor.detach().numpy(), name)
        mine, theirs = opt.state_dict()["carry"][name], peer.state[tensor]["mu_product"].item()
        assert mine == pytest.approx(theirs, rel=1e-5), name  # PyTorch has it in float32
        assert opt.state_dict()["steps"][name] == peer.state[tensor]["step"].item()


@pytest.mark.parametrize("way", WAYS[1:])
def test_the_same_bits_as_never_having_stopped(way, tmp_path):
    rngs = [np.random.default_rng(5) for _ in range(2)]
    params, theirs = ({name: np.ones(shape) for name, shape in SHAPES.items()} for _ in range(2))
    opt, twin = NAdam(**OPTIONS), NAdam(**OPTIONS)
    for step in range(25):
        if step in (1, 5, 9, 16):
            twin = way(twin, theirs, tmp_path)
        opt.update(params, gradients(rngs[0], step))
        twin.update(theirs, gradients(rngs[1], step))
    for name, p in params.items():
        assert_same_bits(theirs[name], p, name)
    assert twin.state_dict()["carry"] == opt.state_dict()["carry"]


def alone(name, grads, **options):
    """What one name becomes with an optimizer of its own."""
    opt, p = NAdam(**options), np.ones(SHAPES[name])
    for g in grads:
        opt.update({name: p}, {name: g})
    return p, opt.state_dict()["carry"][name]


def test_each_name_has_its_own_carry(rng):
    """Names of two groups that make all their steps together, and one that joins late."""
    params, opt = {name: np.ones(shape) for name, shape in SHAPES.items()}, NAdam(**OPTIONS)
    steps = [gradients(rng, step) for step in range(12)]
    for grads in steps:
        opt.update(params, grads)
    for name, p in params.items():
        options = OPTIONS["groups"]["slow*"] if name.startswith("slow") else {}
        expected, carry = alone(name, [grads[name] for grads in steps], **options)
        assert opt.state_dict()["carry"][name] == carry, name
        assert_same_bits(p, expected, name)


@pytest.mark.parametrize("first", ["slow W", "W"])
def test_groups_that_always_go_together_carry_different_numbers(first, rng):
    names = [first, "W" if first == "slow W" else "slow W"]
    params, opt = {name: np.ones(SHAPES[name]) for name in names}, NAdam(**OPTIONS)
    steps = [{name: random(rng, SHAPES[name], F8) for name in names} for _ in range(5)]
    for grads in steps:
        opt.update(params, grads)
    for name, p in params.items():
        options = OPTIONS["groups"]["slow*"] if name.startswith("slow") else {}
        expected, carry = alone(name, [grads[name] for grads in steps], **options)
        assert opt.state_dict()["carry"][name] == carry, name
        assert_same_bits(p, expected, name)


def test_calls_that_make_no_step_carry_nothing_on(rng):
    params, opt = {"p": np.ones(3)}, NAdam(skip_nonfinite=True)
    opt.update(params, {"p": np.ones(3)})
    carry = opt.state_dict()["carry"]
    opt.update(params, {"p": np.full(3, np.nan)})
    opt.update(params, {"p": None})
    assert opt.state_dict()["carry"] == carry
    with pytest.raises(ValueError, match=r"grads\['p'\]"):
        opt.update(params, {"p": np.ones(4)})
    assert opt.state_dict()["carry"] == carry


def test_sums_carry_on_once_a_step(rng):
    params, opt = {"p": np.ones(3)}, NAdam(accumulate=3)
    for _ in range(7):
        opt.update(params, {"p": np.ones(3)})
    expected = NAdam()
    theirs = {"p": np.ones(3)}
    for _ in range(2):
        expected.update(theirs, {"p": np.ones(3)})
    assert opt.state_dict()["carry"] == expected.state_dict()["carry"]
    assert_close(params["p"], theirs["p"])


def test_wrong_numbers_carry_nothing_on():
    params, opt = {"p": np.ones(3, F4)}, NAdam()
    opt.update(params, {"p": np.ones(3, F4)})
    before = opt.state_dict()["carry"]
    opt.lr = 1e300
    with pytest.raises(ValueError, match="float32"):
        opt.update(params, {"p": np.ones(3, F4)})
    assert opt.state_dict()["carry"] == before
    assert opt.iter == 1


@pytest.mark.parametrize("wrong", [None, {}, {"p": "1"}, {"p": None}, {"q": 1.0}, {"p": 1.0, "q": 1.0}, [1.0]])
def test_a_wrong_carry_is_refused(wrong):
    params, opt = {"p": np.ones(3)}, NAdam()
    opt.update(params, {"p": np.ones(3)})
    saved = copy.deepcopy(opt.state_dict())
    with pytest.raises((TypeError, ValueError), match=r"state dict: carry(\['p'\])?: expected"):
        NAdam().load_state_dict({**saved, "carry": wrong})
    del saved["carry"]
    with pytest.raises(KeyError, match="carry"):
        opt.load_state_dict(saved)
    assert opt.state_dict()["carry"]["p"] != 1


class Returns(NAdam):
    _number: object = None

    def next_carry(self, t):
        return self._number


@pytest.mark.parametrize("wrong", ["1", None, [1.0], np.ones(2), 1j])
def test_what_next_carry_returns_is_looked_at(wrong):
    """Or a checkpoint could not be loaded."""
    params, opt = {"p": np.ones(3)}, Returns()
    opt._number = 0.5
    opt.update(params, {"p": np.ones(3)})
    before, opt._number = params["p"].copy(), wrong
    with pytest.raises((TypeError, ValueError), match=r"Returns\.next_carry\(2\): expected a number"):
        opt.update(params, {"p": np.ones(3)})
    assert_same_bits(params["p"], before)
    assert opt.state_dict()["carry"] == {"p": 0.5}


@pytest.mark.parametrize("number", [0.5, np.float32(0.5), F8(0.5), np.array(0.5)])
def test_a_carry_is_saved_as_a_float(number, tmp_path):
    params, opt = {"p": np.ones(3)}, Returns()
    opt._number = number
    for _ in range(2):
        opt.update(params, {"p": np.ones(3)})
    assert type(opt.state_dict()["carry"]["p"]) is float
    fastoptim.save(tmp_path / "file", params, opt)
    twin = Returns()
    fastoptim.load(tmp_path / "file").restore(params, twin)
    assert twin.state_dict()["carry"] == {"p": 0.5}


Pair = namedtuple("Pair", "total largest")


@rule
def weighted(p, g, m, lr, part):
    return p - lr * g, m + part * (p - m)


class Weighted(Optimizer):
    """A mean of the parameters before each step, whose weights are learning rates: their sum and the largest."""

    rule, slots = weighted, ("m",)
    carry = Pair(0.0, 0.0)
    lr: Number = nonnegative(0.1)

    def next_carry(self, t):
        return self.carry.total + self.lr, max(self.carry.largest, self.lr)

    def scalars(self, t):
        part = (self.carry.total - self.carry_before.total) / self.carry.total
        return self.lr * self.carry.largest, part


class Unnamed(Weighted):
    """The same with a tuple that has no names."""

    carry = (0.0, 0.0)

    def next_carry(self, t):
        return [self.carry[0] + self.lr, max(self.carry[1], self.lr)]

    def scalars(self, t):
        return self.lr * self.carry[1], (self.carry[0] - self.carry_before[0]) / self.carry[0]


def rate(step):
    return (0.1, 0.3, 0.05, 0.2)[step % 4]


def half_the_rate(step):
    return 0.5 * rate(step)


GROUPS = {"groups": {"slow*": {"lr": half_the_rate}}}


def by_hand(grads, factor):
    """What a name becomes, and what it carries on: with the rate of each of its own steps."""
    p, m, total, largest = 1.0, 0.0, 0.0, 0.0
    for g, step in grads:
        lr = factor * rate(step)
        total, largest = total + lr, max(largest, lr)
        m = m + lr / total * (p - m)
        p = p - lr * largest * g
    return p, m, (total, largest)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("cls", [Weighted, Unnamed])
def test_several_numbers_of_each_name(cls, way, rng, tmp_path):
    """With names that join late and pause, in two groups, and with stops between."""
    params = {name: np.ones(shape) for name, shape in SHAPES.items()}
    opt, made = cls(lr=rate, **GROUPS), {name: [] for name in SHAPES}
    for call in range(12):
        if call in (3, 8):
            opt = way(opt, params, tmp_path, lambda: cls(lr=rate, **GROUPS))
        grads = gradients(rng, call)
        for name, g in grads.items():
            if g is not None:
                made[name].append((g, opt.iter))
        opt.update(params, grads)
    for name, p in params.items():
        expected, m, carry = by_hand(made[name], 0.5 if name.startswith("slow") else 1)
        assert_close(p, expected, name)
        assert_close(opt.state["m"][name], m, name)
        saved = opt.state_dict()["carry"][name]
        assert type(saved) is list
        assert saved == pytest.approx(carry, rel=1e-14)
        [held] = {cohort.carry for cohort in carried_by(opt) if name in cohort.names}
        assert type(held) is type(cls.carry)


def test_next_carry_is_asked_with_the_carry_before():
    seen = []

    class Asked(Unnamed):
        def next_carry(self, t):
            seen.append((t, self.carry, self.carry_before))
            return super().next_carry(t)

    opt = Asked(lr=0.25)
    for _ in range(2):
        opt.update({"p": np.ones(2)}, {"p": np.ones(2)})
    assert seen == [(1, (0.0, 0.0), (0.0, 0.0)), (2, (0.25, 0.25), (0.25, 0.25))]
    assert opt.carry == opt.carry_before == (0.0, 0.0)  # outside of a step they are what a class has
    numbers = Asked(lr=0.25).successive_scalars()
    assert [next(numbers) for _ in range(3)] == [(0.0625, 1.0), (0.0625, 0.5), (0.0625, 0.25 / 0.75)]


@pytest.mark.parametrize("wrong", [0.5, None, (), (0.5,), (0.5, 1.0, 2.0), (0.5, "1"), (0.5, None), "12", {0: 1, 1: 2}])
def test_a_wrong_tuple_is_refused(wrong):
    class Wrong(Weighted):
        _returned: object = None

        def next_carry(self, t):
            return self._returned

    params, opt = {"p": np.ones(3)}, Wrong()
    opt._returned = 0.5, np.float32(0.25)
    opt.update(params, {"p": np.ones(3)})
    saved, before = copy.deepcopy(opt.state_dict()), params["p"].copy()
    assert saved["carry"] == {"p": [0.5, 0.25]}
    opt._returned = wrong
    expected = r"expected a tuple of 2 numbers \(total, largest\), got "
    with pytest.raises(TypeError, match=rf"Wrong\.next_carry\(2\): {expected}"):
        opt.update(params, {"p": np.ones(3)})
    assert_same_bits(params["p"], before)
    assert opt.state_dict()["carry"] == {"p": [0.5, 0.25]}
    with pytest.raises(TypeError, match=rf"state dict: carry\['p'\]: {expected}"):
        opt.load_state_dict({**saved, "carry": {"p": wrong}})
    assert opt.state_dict()["carry"] == {"p": [0.5, 0.25]}


@pytest.mark.parametrize("wrong", ["1", [1.0, 2.0], (), ((1.0,),), ("1", 2.0), 1j])
def test_a_class_declares_a_number_or_a_tuple_of_numbers(wrong):
    with pytest.raises(TypeError, match=r"Wrong\.carry: expected a number or a tuple of numbers, got "):

        class Wrong(Weighted):
            carry = wrong


def test_the_numbers_of_successive_steps():
    """For kernels that are called by hand: they are those of `update`, also when one is assigned on the way."""
    p, state, g = np.ones(3, F4), np.zeros((2, 3), F4), np.full(3, 0.5, F4)
    params, opt, twin = {"p": np.ones(3, F4)}, NAdam(), NAdam()
    numbers = twin.successive_scalars()
    for step in range(4):
        opt.lr = twin.lr = 0.01 * (1 + step)
        opt.update(params, {"p": g})
        NAdam.kernels.cpu(p, g, state, next(numbers))
    assert_same_bits(p, params["p"])
    assert twin.carry == 1.0  # it was not used up
    twin.update({"p": p}, {"p": g})
    assert twin.state_dict()["carry"]["p"] == twin.mu(1)
    assert list(islice(Adam().successive_scalars(), 3)) == [Adam().scalars(t) for t in (1, 2, 3)]
