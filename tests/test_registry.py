"""Optimizers by name."""

import gc

import pytest

import fastoptim
from support import OPTIMIZERS


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
    assert list(fastoptim.optimizers().values())[: len(OPTIMIZERS)] == sorted(OPTIMIZERS, key=lambda x: x.__module__)
    for cls in OPTIMIZERS:
        assert fastoptim.optimizers()[cls.__name__] is cls


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_in_upper_or_lower_case(cls):
    for name in cls.__name__, cls.__name__.lower(), cls.__name__.upper():
        opt = fastoptim.get(name, lr=0.25, clip_norm=2.0)
        assert type(opt) is cls
        assert (opt.lr, opt.clip_norm) == (0.25, 2.0)


def test_classes_of_ones_own(mine):
    assert fastoptim.optimizers()["Sign"] is mine
    assert type(fastoptim.get("sign")) is mine

    class Sign(mine):
        lr = 0.5

    class _Hidden(mine):
        pass

    assert fastoptim.get("sign").lr == 0.5  # the one that was defined last
    assert "_Hidden" not in fastoptim.optimizers()
    assert "Optimizer" not in fastoptim.optimizers()
    assert not {"Algorithm", "Adding"} & fastoptim.optimizers().keys()
    del Sign, _Hidden


def test_a_wrong_name_lists_the_nearest_first():
    with pytest.raises(ValueError, match="there is no optimizer 'rmsprob'; expected one of RMSprop, "):
        fastoptim.get("rmsprob")
    with pytest.raises(ValueError, match="expected one of Adam, ") as caught:
        fastoptim.get("adm")
    for cls in OPTIMIZERS:
        assert cls.__name__ in str(caught.value)
    with pytest.raises(TypeError, match="expected a str, as 'adam', got type"):
        fastoptim.get(fastoptim.Adam)
    with pytest.raises(TypeError, match="SGD has no argument 'momentum', see Momentum or Nesterov"):
        fastoptim.get("sgd", momentum=0.9)
