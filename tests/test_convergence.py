"""Training in low precision comes to the loss of float32, on the demo's digits; rounding to the nearest does not."""

import numpy as np
import pytest

import fastoptim
from rounding_in_numpy import BFLOAT16

SINGLE = np.dtype(np.float32)
EPOCHS = 10


def final_loss(dtype, **options):
    """The mean loss over the training images, after some epochs of Adam on parameters of a dtype."""
    training = pytest.importorskip(
        "fastoptim.cli.training", reason="the digits are in scikit-learn", exc_type=ImportError
    )
    data, rng = training.digits(0), np.random.default_rng(0)
    network = training.Network(training.SIZES, rng)
    params = {name: p.astype(dtype) for name, p in network.params.items()}
    opt = fastoptim.Adam(**options)
    for _ in range(EPOCHS):
        order = rng.permutation(len(data.train))
        for start in range(0, len(order), training.BATCH):
            batch = order[start : start + training.BATCH]
            network.loss(data.train[batch], data.train_labels[batch])
            opt.update(params, {name: grad.astype(dtype) for name, grad in network.grads.items()})
            for name, p in network.params.items():
                p[...] = params[name]
    return network.loss(data.train, data.train_labels)


@pytest.fixture(scope="module")
def of_float32():
    return final_loss(SINGLE)


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        (BFLOAT16, {"rounding": "stochastic"}),
        (BFLOAT16, {"master": "float32"}),
        (SINGLE, {"state_dtype": "8bit"}),
        (SINGLE, {"state_dtype": "bfloat16", "rounding": "stochastic"}),
    ],
)
def test_the_loss_is_that_of_float32(dtype, options, of_float32):
    assert abs(final_loss(dtype, **options) / of_float32 - 1) < 0.01


def test_rounding_to_the_nearest_does_not_come_so_far(of_float32):
    assert final_loss(BFLOAT16) > 1.1 * of_float32
