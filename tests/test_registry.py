"""Optimizers by name."""

import gc

import pytest

import fastoptim
from support import OPTIMIZERS, python


@pytest.fixture
def mine():
    """A class of the user's, for the time of a test."""

    class Sign(fastoptim.Optimizer):
        @fastoptim.rule
        def rule(p, g, lr):  # noqa: N805  # a rule has no self
            return p - lr * g

        lr: fastoptim.Number = fastoptim.nonnegative(0.1)

        def scalars(self, t):
            return (self.lr,)

    yield Sign
    del Sign
    gc.collect()  # a class refers to itself


def test_every_optimizer_is_there():
    """In a process that has no others."""
    program = "import fastoptim; print(*(f'{key}={cls.__name__}' for key, cls in fastoptim.optimizers().items()))"
    expected = {f"{cls.__name__}={cls.__name__}" for cls in OPTIMIZERS}
    assert set(python(program).split()) == expected


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_in_upper_or_lower_case(cls):
    mine = type(f"{cls.__name__}ForTheTest", (cls,), {})
    for name in mine.__name__, mine.__name__.lower(), mine.__name__.upper():
        opt = fastoptim.get(name, lr=0.25, clip_norm=2.0)
        assert type(opt) is mine
        assert (opt.lr, opt.clip_norm) == (0.25, 2.0)


def test_classes_of_ones_own(mine):
    assert fastoptim.optimizers()["Sign"] is mine
    assert type(fastoptim.get("sign")) is mine

    class Sub(mine):
        pass

    class Sign(Sub):
        lr = 0.5

    class _Hidden(mine):
        pass

    assert fastoptim.get("sign").lr == 0.5  # the one that was defined last
    higher = type("Sign", (fastoptim.SGD,), {"lr": 0.25})
    assert fastoptim.get("sign").lr == 0.25  # also where it is nearer to the base
    assert "_Hidden" not in fastoptim.optimizers()
    assert "Optimizer" not in fastoptim.optimizers()
    assert not {"Algorithm", "Accumulation"} & fastoptim.optimizers().keys()
    del Sub, Sign, _Hidden, higher


def test_a_class_that_was_refused_is_not_there():
    with pytest.raises(TypeError) as error:
        type("Refused", (fastoptim.SGD,), {"iter": fastoptim.nonnegative(0.1)})
    assert "Refused" not in fastoptim.optimizers()
    with pytest.raises(TypeError, match="did you mean lr"):  # a hint looks at all classes
        fastoptim.SGD(learning_rate=0.1)
    del error


def test_a_wrong_name_lists_the_nearest_first():
    with pytest.raises(ValueError, match="there is no optimizer 'rmsprob'; expected one of RMSprop, "):
        fastoptim.get("rmsprob")
    with pytest.raises(ValueError, match=r"expected one of .*Adam") as caught:
        fastoptim.get("adm")
    for cls in OPTIMIZERS:
        assert cls.__name__ in str(caught.value)
    with pytest.raises(TypeError, match="expected a str, such as 'adam', got type"):
        fastoptim.get(fastoptim.Adam)
    with pytest.raises(TypeError, match="Lion has no argument 'eps_hat': see Adam"):
        fastoptim.Lion(eps_hat=True)
