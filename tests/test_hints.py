"""Errors that say what was probably meant."""

import re

import numpy as np
import pytest

import fastoptim
from fastoptim import SGD, Adafactor, AdaGrad, Adam, Adan, Lion, Prodigy, RMSprop, Rprop
from fastoptim.settings.hints import CALLED_HERE
from support import OPTIMIZERS


@pytest.mark.parametrize(
    ("cls", "wrong", "hint"),
    [
        (SGD, "beta1", "see Adam or AdaMax or AdamW"),
        (SGD, "momentum_decay", "see NAdam"),
        (SGD, "learning_rate", "did you mean lr"),
        (SGD, "alpha", "did you mean lr"),
        (RMSprop, "alpha", "did you mean lr or decay_rate"),
        (RMSprop, "rho", "did you mean decay_rate"),
        (Adam, "betas", "did you mean beta1 and beta2(?! and)"),
        (Adan, "betas", "did you mean beta1 and beta2 and beta3"),
        (Adafactor, "eps", "did you mean eps1 and eps2"),
        (Adafactor, "decay_rate", "did you mean beta2_decay"),
        (Prodigy, "estim_lr0", "did you mean d0"),
        (Rprop, "etas", "did you mean eta_minus and eta_plus"),
        (Adam, "epsilon", "did you mean eps"),
        (AdaGrad, "max_grad_norm", "did you mean clip_norm"),
        (AdaGrad, "requires_grad", "did you mean frozen"),
        (AdaGrad, "constraint", "did you mean bounds or nonnegative"),
        (AdaGrad, "weight_decya", "did you mean weight_decay"),
    ],
)
def test_names_of_other_libraries(cls, wrong, hint):
    with pytest.raises(TypeError, match=rf"{cls.__name__} has no argument '{wrong}': {hint}.*\. Its hyper"):
        cls(**{wrong: 0.5})
    with pytest.raises(AttributeError, match=rf"{cls.__name__} has no attribute '{wrong}': {hint}.*\. Its hyper"):
        setattr(cls(), wrong, 0.5)


@pytest.mark.parametrize(
    ("cls", "wrong", "hint"),
    [
        (Adam, "step", r"call opt\.update\(params, grads\)"),
        (Adam, "iterations", r"use opt\.iter"),
        (Adam, "v", r"use opt\.state\['v'\]"),
        (Prodigy, "d", r"use opt\.state\['d'\]"),
        (Adafactor, "row", r"use opt\.state\['row'\]"),
    ],
)
def test_attributes_of_other_libraries(cls, wrong, hint):
    with pytest.raises(AttributeError, match=f"{cls.__name__} has no attribute '{wrong}': {hint}"):
        getattr(cls(), wrong)


@pytest.mark.parametrize("params", [[np.ones(3)], {"W": np.ones(3)}, iter([np.ones(3)])])
def test_parameters_given_to_the_constructor(params):
    with pytest.raises(TypeError, match=r"Adam: expected hyperparameters; parameters go to update\(params, grads\)"):
        Adam(params, lr=0.1)


def test_a_state_dict_of_pytorch():
    with pytest.raises(ValueError, match="it is PyTorch's"):
        Adam().load_state_dict({"state": {}, "param_groups": []})


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_parameters_of_other_libraries(library):
    peer = pytest.importorskip(library, reason=f"gives an array of {library}, which is not installed")
    array = peer.ones(3) if library == "torch" else peer.numpy.ones(3)
    way = r"\.detach\(\)\.numpy\(\) gives one" if library == "torch" else r"np\.array\(x\) makes a copy"
    with pytest.raises(TypeError, match=rf"params\['a'\]: expected a numpy.ndarray, got \w+; {way}"):
        SGD().update({"a": array}, {"a": np.ones(3, np.float32)})
    with pytest.raises(TypeError, match="got dict; nested mappings are not supported"):
        SGD().update({"a": {"w": np.ones(3)}}, {"a": {"w": np.ones(3)}})


def test_a_hyperparameter_that_is_not_declared_as_one():
    class Plain(SGD):
        rate: float = 0.5

    with pytest.raises(TypeError, match=r"Plain.rate is a plain attribute.*: rate: Number = nonnegative\(0.5\)"):
        Plain(rate=1.0)


def test_a_name_that_is_like_nothing():
    with pytest.raises(TypeError, match=r"Lion has no argument 'qqq'\. Its hyperparameters are lr, .*; its options g"):
        Lion(qqq=1)
    with pytest.raises(TypeError, match="too many positional arguments"):
        Lion(0.1, 0.9, 0.99, 1.0)


def test_what_others_call_a_name_leads_to_one_that_exists():
    names = {name for cls in OPTIMIZERS for name in cls().hyperparameters()}
    for wrong, ours in CALLED_HERE.items():
        assert names.issuperset(re.split(" and | or ", ours)), wrong
        assert not all(wrong in cls().hyperparameters() for cls in OPTIMIZERS), wrong  # some lack it


@pytest.mark.parametrize(
    ("param", "grad", "error", "words"),
    [
        (
            0.0,
            0.0,
            TypeError,
            r"params\['b'\]: expected a numpy.ndarray, got float; numbers are immutable: pass np",
        ),
        (np.float32(0), 0.0, TypeError, r"params\['b'\]: .*got float32; numbers are immutable: pass np\.array\(x\)"),
        ([0.0], [0.0], TypeError, r"params\['b'\]: expected a numpy.ndarray, got list$"),
        (np.arange(3), np.ones(3), TypeError, r"params\['b'\]: .*int64'\); \.astype\(np\.float32\) converts it"),
        (np.ones(()), 1.0, TypeError, r"grads\['b'\]: expected an array, got float; pass np\.asarray\(x\)"),
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
