"""What may be assigned to an optimizer, and what a class of one's own may declare."""

import copy
import pickle

import numpy as np
import pytest

import fastoptim
from fastoptim import SGD, Adam, FlatDict, Momentum, Optimizer, flatten, fraction, nonnegative, rule, switch
from references import OPTIONS
from support import assert_same_bits

F4 = np.float32


def test_an_unknown_attribute_is_refused_and_says_what_there_is():
    opt = Adam()
    before = repr(opt)
    for name in "learning_rate", "LR", "step", "weightdecay", "betas":
        with pytest.raises(AttributeError, match=f"Adam has no attribute '{name}'") as caught:
            setattr(opt, name, 0.5)
        for word in ("lr", "beta1", "beta2", "eps", "eps_hat", *OPTIONS):
            assert word in str(caught.value)
        with pytest.raises(AttributeError, match=f"'{name}'"):
            getattr(opt, name)
        assert not hasattr(opt, name)
    assert repr(opt) == before


def test_the_nearest_name_is_proposed():
    for wrong, right in ("weightdecay", "weight_decay"), ("clipnorm", "clip_norm"), ("beta_1", "beta1"):
        with pytest.raises(AttributeError, match=f"'{wrong}': did you mean {right}"):
            setattr(Adam(), wrong, 0.5)


@pytest.mark.parametrize("name", ["iter", "skipped", "state", "averages", "grad_norm"])
def test_what_is_read_cannot_be_assigned(name):
    opt = SGD()
    with pytest.raises(AttributeError):
        setattr(opt, name, 3)
    assert opt.iter == 0


def test_attributes_of_ones_own():
    class Own(SGD):
        runs: int
        note = "none"

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.runs = 0
            self._hidden = []

        @property
        def doubled(self):
            return 2 * self.lr

        @doubled.setter
        def doubled(self, value):
            self.lr = value / 2

    class Heir(Own):
        pass

    for cls in Own, Heir:
        opt = cls(lr=0.25)
        opt.runs += 1
        opt.note, opt._anything = "mine", 3
        opt.doubled = 1
        assert (opt.runs, opt.note, opt._hidden, opt._anything, opt.lr, opt.doubled) == (1, "mine", [], 3, 0.5, 1)
        with pytest.raises(AttributeError, match="no attribute 'run'"):
            opt.run = 3
        twin = copy.deepcopy(opt)
        assert (twin.runs, twin.note, twin.lr) == (1, "mine", 0.5)


def test_a_hyperparameter_cannot_be_deleted():
    opt = Adam()
    for name in "lr", "clip_norm":
        with pytest.raises(AttributeError, match=f"{name} is a hyperparameter"):
            delattr(opt, name)
    opt._own = 1
    del opt._own
    assert opt.lr == 0.001


class Forgot(Adam):
    def __init__(self, lr=0.1):
        self.lr = lr


class ForgotOptions(Adam):
    def __init__(self):
        self.clip_norm = 1.0


class ForgotAll(Adam):
    def __init__(self, *args):
        pass


CALLS = {
    "update": lambda opt: opt.update({"p": np.ones(3, F4)}, {"p": np.ones(3, F4)}),
    "state_dict": lambda opt: opt.state_dict(),
    "load_state_dict": lambda opt: opt.load_state_dict(Adam().state_dict() | {"optimizer": type(opt).__name__}),
    "iter": lambda opt: opt.iter,
    "skipped": lambda opt: opt.skipped,
    "state": lambda opt: opt.state,
    "averages": lambda opt: opt.averages,
    "grad_norm": lambda opt: opt.grad_norm,
    "an option": lambda opt: opt.weight_decay,
    "assigned": lambda opt: setattr(opt, "weight_decay", 0.5),
    "repr": repr,
    "hyperparameters": lambda opt: opt.hyperparameters(),
    "to": lambda opt: opt.to("cpu"),
    "averaged": lambda opt: opt.averaged({}).__enter__(),
}


@pytest.mark.parametrize("cls", [Forgot, ForgotAll])
@pytest.mark.parametrize("call", CALLS)
def test_an_init_that_forgets_super(cls, call):
    opt = cls()
    with pytest.raises(TypeError, match=rf"{cls.__name__}\.__init__ .*has to call super\(\)\.__init__\(\)") as caught:
        CALLS[call](opt)
    assert f"test_attributes.py, line {cls.__init__.__code__.co_firstlineno}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_init_that_forgets_super_and_sets_an_option():
    with pytest.raises(TypeError, match=r"ForgotOptions\.__init__ .*has to call super\(\)\.__init__\(\)"):
        ForgotOptions()


@rule
def plain(p, g, lr):
    return p - lr * g


RESERVED = [
    "iter", "state", "skipped", "update", "averages", "averaged", "grad_norm", "to", "state_dict", "load_state_dict",
    "hyperparameters", "scalars", "rule", "slots", "stages", "kernels", "carry", "next_carry",
]  # fmt: skip


@pytest.mark.parametrize("kind", [nonnegative, fraction, switch])
@pytest.mark.parametrize("name", RESERVED)
def test_a_hyperparameter_may_not_be_called_as_what_an_optimizer_has(name, kind):
    body = {"rule": plain, "lr": nonnegative(0.1), "scalars": lambda self, t: (self.lr,)}
    with pytest.raises(TypeError, match=rf"Own: {name} is an attribute of every optimizer|Own.*{name}"):
        type("Own", (Optimizer,), {**body, name: kind(0)})
    with pytest.raises(TypeError, match=name):
        type("Own", (SGD,), {name: kind(0)})


def test_public_names_are_all_that_there_is_to_see():
    assert sorted(dir(fastoptim)) == sorted({*fastoptim.__all__, "__version__"})
    assert "Number" in fastoptim.__all__
    for name in fastoptim.__all__:
        assert getattr(fastoptim, name) is not None
    with pytest.raises(AttributeError, match="sheduls"):
        fastoptim.sheduls  # noqa: B018
    assert not hasattr(fastoptim, "np")


def test_a_number_of_ones_own():
    class Own(SGD):
        temperature: fastoptim.Number = fastoptim.Number(1.0, "a number in [0.5, 2)", low=0.5, high=2.0)

    assert Own(temperature=1.5).temperature == 1.5
    for wrong in 0.25, 2, None, "1", lambda step: 1.0:
        with pytest.raises(ValueError, match=r"temperature: expected a number in \[0\.5, 2\), got"):
            Own(temperature=wrong)


@pytest.mark.parametrize("wrong", [{}, {"W": np.ones(3, F4)}, [1], None, 3])
def test_a_flat_dict_is_made_by_flatten(wrong):
    with pytest.raises(TypeError, match="flatten"):
        FlatDict(wrong)
    with pytest.raises(TypeError):
        FlatDict()


def test_a_flat_dict_is_copied_and_pickled():
    flat = flatten({"W": np.ones((2, 3), F4), "b": np.zeros(2)})
    flat["W"][...] = 3
    for twin in copy.copy(flat), copy.deepcopy(flat), pickle.loads(pickle.dumps(flat)), flat.copy():
        assert_same_bits(twin["W"], flat["W"])
        assert not np.shares_memory(twin["W"], flat["W"])


def test_a_switch_may_choose_the_rule():
    @rule
    def up(p, g, lr):
        return p + lr * g

    @rule
    def down(p, g, lr):
        return p - lr * g

    class Step(Optimizer):
        rule = down
        lr: fastoptim.Number = nonnegative(1.0)
        variants = {("upwards",): up}
        upwards: bool = switch(False)

        def scalars(self, t):
            return (self.lr,)

    class Other(Step):
        rule = down

    class On(Step):
        upwards = True

    p, opt = {"p": np.zeros(2)}, Step()
    for upwards, expected in (False, -1), (True, 0), (True, 1), (False, 0):
        opt.upwards = upwards
        opt.update(p, {"p": np.ones(2)})
        assert (p["p"] == expected).all()
        assert opt.rule is (up if upwards else down)
        assert (opt.kernels is Step.kernels) == (not upwards)
    assert Step.rule is down
    opt.upwards = True
    opt.kernels.cpu(p["p"], np.ones(2), np.zeros((0, 2)), opt.scalars(1))
    assert (p["p"] == 1).all()
    again = pickle.loads(pickle.dumps(Adam(eps_in_root=True)))
    assert again.rule is Adam(eps_in_root=True).rule is not Adam.rule
    with pytest.raises(ValueError, match=r"groups\['p'\]: expected one of lr, .*, got 'upwards'"):
        Step(groups={"p": {"upwards": True}})
    assert On().rule is up
    for wrong in "init", "assignment":
        with pytest.raises(ValueError, match="upwards: expected False, as the class has a rule of its own, got True"):
            Other(upwards=True) if wrong == "init" else setattr(Other(), "upwards", True)


def test_switches_that_choose_a_rule_and_cannot():
    @rule
    def up(p, g, lr):
        return p + lr * g

    with pytest.raises(TypeError, match="Wrong with other: its slots are"):

        class Wrong(Momentum):
            variants = {("other",): up}
            other: bool = switch(False)

    with pytest.raises(TypeError, match=r"Unknown.variants: expected names of hyperparameters, found 'other'"):

        class Unknown(SGD):
            variants = {("other",): up}

    with pytest.raises(ValueError, match="eps_in_root: expected False, as the class has a rule of its own"):

        class On(Adam):
            eps_in_root = True

            @rule
            def rule(p, g, m, v, a, b, c, d):  # noqa: N805  # a rule has no self
                return p, m, v


def test_a_rule_that_is_a_static_method():
    class Static(Optimizer):
        @staticmethod
        @rule
        def rule(p, g):
            return p - g

        def scalars(self, t):
            return ()

    p = {"p": np.ones(2)}
    Static().update(p, p)
    assert (p["p"] == 0).all()
