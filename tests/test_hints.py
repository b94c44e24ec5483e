"""Errors that say what was probably meant."""

import numpy as np
import pytest

import fastoptim
from fastoptim import SGD, AdaGrad, Adam, RMSprop
from fastoptim.settings.hints import CALLED_HERE
from support import OPTIMIZERS


@pytest.mark.parametrize(
    ("cls", "wrong", "hint"),
    [
        (SGD, "momentum", "see Momentum or Nesterov"),
        (SGD, "nesterov", "see Nesterov"),
        (SGD, "learning_rate", "but 'lr'"),
        (SGD, "alpha", "but 'lr'"),
        (RMSprop, "alpha", "but 'lr' or 'decay_rate'"),
        (RMSprop, "rho", "but 'decay_rate'"),
        (Adam, "betas", "but 'beta1' and 'beta2'"),
        (Adam, "epsilon", "but 'eps'"),
        (AdaGrad, "max_grad_norm", "but 'clip_norm'"),
        (AdaGrad, "weight_decya", "but 'weight_decay'"),
    ],
)
def test_names_of_other_libraries(cls, wrong, hint):
    with pytest.raises(TypeError, match=rf"{cls.__name__} has no argument '{wrong}', {hint}\. Its hyperparameters are"):
        cls(**{wrong: 0.5})
    with pytest.raises(AttributeError, match=rf"{cls.__name__} has no attribute '{wrong}', {hint}\. Its hyper"):
        setattr(cls(), wrong, 0.5)


def test_a_name_that_is_like_nothing():
    with pytest.raises(TypeError, match=r"SGD has no argument 'qqq'\. Its hyperparameters are lr; its options grad_"):
        SGD(qqq=1)
    with pytest.raises(TypeError, match="too many positional arguments"):
        SGD(0.1, 0.9)


def test_what_others_call_a_name_leads_to_one_that_exists():
    names = {name for cls in OPTIMIZERS for name in cls().hyperparameters()}
    for wrong, ours in CALLED_HERE.items():
        assert names.issuperset(ours), wrong
        assert wrong not in names


@pytest.mark.parametrize(
    ("param", "grad", "error", "words"),
    [
        (
            0.0,
            0.0,
            TypeError,
            r"params\['b'\]: expected a numpy.ndarray, got float; a number cannot be updated in place",
        ),
        (np.float32(0), 0.0, TypeError, r"params\['b'\]: .*got float32; a number cannot .* np\.array\(number\) can"),
        ([0.0], [0.0], TypeError, r"params\['b'\]: expected a numpy.ndarray, got list$"),
        (np.arange(3), np.ones(3), TypeError, r"params\['b'\]: .*int64'\); \.astype\(np\.float32\) converts it"),
        (np.ones(3), np.arange(3), TypeError, r"grads\['b'\]: .*int64'\); \.astype\(np\.float32\) converts it"),
        (np.ones(3), np.ones(3, complex), TypeError, r"grads\['b'\]: .*complex128'\)$"),
        (np.ones((3, 1)), np.ones(3), ValueError, r"\(3, 1\), got \(3,\); \.reshape\(\(3, 1\)\) makes it fit"),
        (np.ones(()), np.ones((1, 1)), ValueError, r"\(\), got \(1, 1\); \.reshape\(\(\)\) makes it fit"),
        (np.ones((2, 3)), np.ones((3, 2)), ValueError, r"\(2, 3\), got \(3, 2\)$"),
    ],
)
def test_arrays(param, grad, error, words):
    opt = fastoptim.Adam()
    with pytest.raises(error, match=words):
        opt.update({"b": param}, {"b": grad})
    assert opt.iter == 0
