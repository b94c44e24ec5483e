"""The table of equivalents in the documentation: its rows, and PyTorch and the libraries that are used like it.

Where a library is not installed, its tests are skipped. Those of Optax and Keras stand in test_peers_jax.py.
"""

import numpy as np
import pytest

import fastoptim
from peers import MODULES, RATES, TABLE, TORCH_LIKE, Case, ours, problem, rows, stacked
from support import OPTIMIZERS, assert_same_bits
from variants import own_hyperparameters


@rows(*TORCH_LIKE)
def test_torch_like(row, key, monkeypatch):
    """These skip a parameter whose gradient is None."""
    torch = pytest.importorskip("torch", reason="compares with a library on PyTorch, which is not installed")
    case = Case(row, key)
    if case.in_full_precision:
        monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    tensors = {name: torch.tensor(p, requires_grad=True) for name, p in case.params.items()}
    peer = case.theirs(params=tensors.values())
    if hasattr(peer, "train"):  # schedule-free optimizers have a mode
        peer.train()
    path = []
    for lr, grads in zip(RATES[: len(case.steps)].tolist(), case.steps, strict=True):
        for group in peer.param_groups if case.changes else []:
            group["lr"] = lr
        for name, tensor in tensors.items():
            tensor.grad = None if grads.get(name) is None else torch.tensor(grads[name])
        peer.step()
        path.append({name: tensor.detach().numpy().copy() for name, tensor in tensors.items()})
    case.compare(stacked(path))


def test_every_optimizer_is_in_the_table():
    """With a row, or with the reason why it has none."""
    named = {row["ours"].partition("(")[0] for row in TABLE["row"]}
    assert named | set(TABLE["none"]) == {cls.__name__ for cls in OPTIMIZERS}
    assert not named & set(TABLE["none"])


def test_every_number_of_an_optimizer_is_varied_in_a_row():
    for cls in OPTIMIZERS:
        opts = [ours(row) for row in TABLE["row"] if row["ours"].startswith(f"{cls.__name__}(")]
        for name, default in own_hyperparameters(cls).items() if opts else []:
            varied = type(default) is not float or any(getattr(opt, name) != default for opt in opts)
            assert varied, f"no row of {cls.__name__} in docs/equivalents.toml has another {name} than {default}"


def test_rows_have_known_keys():
    keys = {"ours", "note", *MODULES, *TABLE["exceptions"]}
    for row in TABLE["row"]:
        assert set(row) <= keys
        assert set(row) & set(MODULES), row["ours"]
        for name in TABLE["exceptions"]:
            assert set(row.get(name, [])) <= set(row)


@pytest.mark.parametrize("peer", ["torch", "jax"])
def test_gradients_of_other_libraries(peer):
    library = pytest.importorskip(peer, reason=f"takes gradients of {peer}, which is not installed")
    convert = library.tensor if peer == "torch" else library.numpy.asarray
    (params, steps), (expected, _) = (problem(np.dtype(np.float32), nones=False) for _ in range(2))
    one, two = fastoptim.Adam(), fastoptim.Adam()
    for grads in steps[:30]:
        one.update(expected, grads)
        two.update(params, {k: convert(g) for k, g in grads.items()})
    for k in params:
        assert_same_bits(params[k], expected[k])


def test_a_tensor_that_numpy_may_not_read():
    torch = pytest.importorskip("torch", reason="needs a tensor of PyTorch, which is not installed")
    p = np.ones(3, np.float32)
    with pytest.raises(TypeError, match=r"grads\['p'\].*Tensor.*grad"):
        fastoptim.SGD().update({"p": p}, {"p": torch.ones(3, requires_grad=True)})
    assert (p == 1).all()
