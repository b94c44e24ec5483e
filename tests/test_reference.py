"""The reference itself, which every other test of the options believes, against PyTorch."""

import numpy as np
import pytest

from fastoptim import Adam, Momentum
from references import Reference
from support import assert_close, random

F8 = np.float64

TORCH = {
    "Adam": (Adam(0.1, 0.8, 0.9, 1e-8, False), {"weight_decay": 0.2, "maximize": True}, {"betas": (0.8, 0.9)}),
    "AdamW": (Adam(0.1, 0.8, 0.9, 1e-8, False), {"weight_decay": 0.2, "decoupled": True}, {"betas": (0.8, 0.9)}),
    "SGD": (Momentum(0.1, 0.8), {"weight_decay": 0.2, "maximize": True}, {"momentum": 0.8}),
}


@pytest.mark.parametrize("case", TORCH)
def test_the_reference_is_what_torch_does(case, rng):
    """Sums of gradients with some missing, their norm, clipping, decay, groups, averages."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    opt, options, arguments = TORCH[case]
    params = {name: random(rng, shape, F8) for name, shape in (("W", (7, 5)), ("b", (5,)), ("s", ()))}
    groups = {"W": {"lr": 0.3, "weight_decay": 0.1}}
    reference = Reference(opt, params, {**options, "groups": groups, "clip_norm": 0.5, "clip_value": 0.1, "ema": 0.9,
                                        "accumulate": 3, "grad_scale": 4})  # fmt: skip
    tensors = {name: torch.tensor(p, requires_grad=True) for name, p in params.items()}
    averages = {name: torch.tensor(p) for name, p in params.items()}
    arguments = {**arguments, "lr": 0.1, "weight_decay": 0.2, "maximize": options.get("maximize", False)}
    peer = getattr(torch.optim, case)(
        [{"params": [tensors["W"]], **groups["W"]}, {"params": [tensors["b"], tensors["s"]]}], **arguments
    )
    for step in range(4):
        peer.zero_grad()
        for call in range(3):
            grads = {name: random(rng, p.shape, F8) for name, p in params.items()}
            if step == 1 or call == 1:
                grads["b"] = None
            reference.update(grads)
            for name, g in grads.items():
                if g is not None:
                    sum_so_far = 0 if tensors[name].grad is None else tensors[name].grad
                    tensors[name].grad = sum_so_far + torch.tensor(g) / 4 / 3
        norm = torch.nn.utils.clip_grad_norm_(tensors.values(), 0.5)
        assert_close(np.asarray(reference.grad_norm), norm.item())
        torch.nn.utils.clip_grad_value_(tensors.values(), 0.1)
        peer.step()
        for name, tensor in tensors.items():
            if tensor.grad is not None:
                averages[name].lerp_(tensor.detach(), 0.1)
    assert reference.steps == {"W": 4, "b": 3, "s": 4}
    for name, tensor in tensors.items():
        assert_close(tensor.detach().numpy(), reference.params[name], name)
        assert_close(averages[name].numpy(), reference.ema[name], name)
