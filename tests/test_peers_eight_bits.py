"""State of 8 bits beside that of bitsandbytes and torchao, with the settings that these publish, on the CPU.

Both have blocks of 256 elements and leave arrays of less than 4,096 as float32. Their codes are looked up in a table
and rounded to the nearest. Where a library is not installed, its tests are skipped.
"""

import sys
import warnings
from functools import partial

import numpy as np
import pytest

import fastoptim
from rounding_in_numpy import BFLOAT16
from support import ROOT, assert_close

sys.path.insert(0, str(ROOT / "examples"))
import language_model

LR, STEPS, BATCH = 2e-3, 150, 256
WHY = "compares with a library on PyTorch, which is not installed"


def bitsandbytes():
    pytest.importorskip("torch", reason=WHY)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("bitsandbytes", reason=WHY).optim.Adam8bit


def torchao(name="Adam8bit"):
    """Its steps are compiled by a compiler of C++ unless PyTorch is told otherwise."""
    pytest.importorskip("torch", reason=WHY).compiler.set_stance("force_eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(pytest.importorskip("torchao.optim", reason=WHY, exc_type=ImportError), name)


PEERS = {"bitsandbytes": bitsandbytes, "torchao": torchao}


class Theirs:
    """An optimizer of PyTorch's kind behind `update`, on arrays of NumPy."""

    def __init__(self, make, params, **options):
        torch = sys.modules["torch"]
        self.tensors = {
            name: torch.from_dlpack(p)
            if p.dtype != BFLOAT16
            else torch.from_numpy(p.view(np.uint16)).view(torch.bfloat16)
            for name, p in params.items()
        }
        for tensor in self.tensors.values():
            tensor.requires_grad_()
        self.optimizer = make(self.tensors.values(), lr=LR, **options)

    def update(self, params, grads):
        torch = sys.modules["torch"]
        for name, tensor in self.tensors.items():
            tensor.grad = torch.from_numpy(np.ascontiguousarray(grads[name], np.float32)).to(tensor.dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.optimizer.step()

    def nbytes(self, name):
        """Of a parameter's state, without the tables of codes."""
        torch, found = sys.modules["torch"], 0
        for key, value in self.optimizer.state[self.tensors[name]].items():
            if key == "step" or key.startswith("qmap"):
                continue
            parts = [value.codes, value.scale] if hasattr(value, "codes") else [value]
            found += sum(part.nbytes for part in parts if isinstance(part, torch.Tensor))
        return found


@pytest.fixture(scope="module")
def text():
    rng = np.random.default_rng(0)
    symbols, first = language_model.made_up(10_000, rng), language_model.first_params(256, rng)
    contexts = np.stack([symbols[i : len(symbols) - 3 + i] for i in range(3)], axis=1)
    return contexts, symbols[3:], first


def trained(make, text, dtype=np.float32):
    """The loss at the end."""
    contexts, following, first = text
    params, batches = language_model.cast(first, dtype), np.random.default_rng(1)
    opt = make(params)
    for _ in range(STEPS):
        batch = batches.integers(len(following), size=BATCH)
        wide = language_model.cast(params, np.float32)
        opt.update(
            params, language_model.cast(language_model.gradients(wide, contexts[batch], following[batch])[1], dtype)
        )
    return language_model.gradients(language_model.cast(params, np.float32), contexts, following)[0]


def ours(**options):
    return lambda params: fastoptim.Adam(LR, **options)


@pytest.fixture(scope="module")
def in_float32(text):
    return trained(ours(), text)


@pytest.mark.parametrize("peer", PEERS)
def test_the_loss_of_both_is_that_of_float32(peer, text, in_float32):
    losses = {
        "theirs": trained(partial(Theirs, PEERS[peer]()), text),
        "to the nearest": trained(ours(state_dtype="8bit", rounding="nearest"), text),
        "at random": trained(ours(state_dtype="8bit"), text),
    }
    start = language_model.gradients(text[2], *text[:2])[0]
    assert in_float32 < 0.9 * start
    for name, loss in losses.items():
        assert abs(loss / in_float32 - 1) < 0.01, (name, losses, in_float32)


@pytest.mark.parametrize("peer", PEERS)
def test_the_same_arrays_have_codes_and_the_state_is_as_large(peer):
    rng, sizes = np.random.default_rng(0), {"small": 4095, "least": 4096, "large": 256 * 100}
    params = {name: rng.standard_normal(size).astype(np.float32) for name, size in sizes.items()}
    theirs, opt = (
        Theirs(PEERS[peer](), {name: p.copy() for name, p in params.items()}),
        ours(state_dtype="8bit")(params),
    )
    grads = {name: rng.standard_normal(size).astype(np.float32) for name, size in sizes.items()}
    theirs.update(params, grads)
    opt.update(params, grads)
    saved = opt.state_dict()
    for name, size in sizes.items():
        arrays = [own[name] for group in ("slots", "scales") for own in saved[group].values() if name in own]
        assert sum(array.nbytes for array in arrays) == theirs.nbytes(name), name
        assert theirs.nbytes(name) == (2 * size * 4 if size < 4096 else 2 * (size + size // 256 * 4))


@pytest.mark.parametrize("peer", PEERS)
def test_the_first_step_is_that_of_float32(peer):
    """No state was rounded yet."""
    rng = np.random.default_rng(0)
    host, grads = ({"p": rng.standard_normal(8192).astype(np.float32)} for _ in range(2))
    grads["p"] += np.copysign(np.float32(0.01), grads["p"])  # theirs differ a little where a gradient is next to zero
    every = [{"p": host["p"].copy()} for _ in range(3)]
    fastoptim.Adam(LR).update(every[0], grads)
    ours(state_dtype="8bit")(every[1]).update(every[1], grads)
    Theirs(PEERS[peer](), every[2]).update(every[2], grads)
    assert (every[0]["p"] == every[1]["p"]).all()
    assert_close(every[2]["p"], every[0]["p"])


def test_bfloat16_at_random(text, in_float32):
    """As `bf16_stochastic_round` of torchao. Rounded to the nearest, small steps are lost."""
    make = partial(Theirs, torchao("AdamW8bit"), weight_decay=0.0, bf16_stochastic_round=True)
    theirs, own = (
        trained(make, text, BFLOAT16),
        trained(ours(state_dtype="8bit", rounding="stochastic"), text, BFLOAT16),
    )
    assert abs(theirs / in_float32 - 1) < 0.01
    assert abs(own / in_float32 - 1) < 0.01
