"""The schedule-free optimizers: parameters and those to evaluate with against `schedulefree`, and after a crash."""

import numpy as np
import pytest

import fastoptim
from fastoptim import ScheduleFreeAdamW, ScheduleFreeSGD, schedules
from support import assert_close, assert_same_bits, like, python, random

F4, F8 = np.float32, np.float64
SHAPES = {"W": (7, 5), "late": (4,), "c": (2, 3)}
STEPS, LATE = 200, 40
NUMBERS = {"weight_decay": 0.1, "warmup_steps": 30, "r": 0.5, "weight_lr_power": 1.5}
CASES = [
    (ScheduleFreeSGD, {}),
    (ScheduleFreeSGD, {"momentum": 0.8, **NUMBERS}),
    (ScheduleFreeAdamW, {}),
    (ScheduleFreeAdamW, {"beta1": 0.85, "beta2": 0.95, "eps": 0.01, **NUMBERS}),
]


def rate(step):
    return 0.0 if step == 0 else 0.02 if step < 90 else 0.2 if step < 120 else 0.005


def peers_of(cls, tensors, options):
    """One for each name. With several names in one of theirs, all share their weights; here each has its own."""
    library = pytest.importorskip("schedulefree", reason="compares with schedulefree, which is not installed")
    names, own = {"beta1", "beta2"} & options.keys(), dict(options)
    if names:
        own["betas"] = own.pop("beta1"), own.pop("beta2")
    theirs = {ScheduleFreeSGD: library.SGDScheduleFree, ScheduleFreeAdamW: library.AdamWScheduleFree}[cls]
    return {name: theirs([tensor], lr=0.02, **own) for name, tensor in tensors.items()}


@pytest.mark.parametrize(("cls", "options"), CASES)
def test_parameters_and_evaluation_parameters_of_schedulefree(cls, options, rng):
    """With a rate that changes, a name that joins late, and gradients of None."""
    torch = pytest.importorskip("torch", reason="compares with schedulefree, which needs PyTorch")
    params = {name: random(rng, shape, F8) for name, shape in SHAPES.items()}
    tensors = {name: torch.tensor(p, requires_grad=True) for name, p in params.items()}
    peers, opt = peers_of(cls, tensors, options), cls(lr=rate, **options)
    for peer in peers.values():
        peer.train()
    for step in range(STEPS):
        grads = like(rng, params) | ({"late": None} if step < LATE else {}) | ({"c": None} if step % 3 == 1 else {})
        for name, g in grads.items():
            if g is not None:
                peers[name].param_groups[0]["lr"] = rate(step)
                tensors[name].grad = torch.tensor(g)
                peers[name].step()
        opt.update(params, grads)
        own = {name: p.copy() for name, p in params.items()}
        for name, tensor in tensors.items():
            assert_close(params[name], tensor.detach().numpy(), f"{name} after step {step}")
        with opt.averaged(params):
            for name, tensor in tensors.items():
                peers[name].eval()
                assert_close(params[name], tensor.detach().numpy(), f"evaluation parameter {name} after step {step}")
                peers[name].train()
        for name, p in params.items():
            assert_same_bits(p, own[name], name)


def evaluated(opt, params):
    with opt.averaged(params):
        return {name: p.copy() for name, p in params.items()}


@pytest.mark.parametrize(("cls", "name"), [(ScheduleFreeSGD, "momentum"), (ScheduleFreeAdamW, "beta1")])
def test_another_momentum_leaves_the_average_as_it_is(cls, name, rng):
    """The average follows from the momentum of the last step; the next step goes over to the new one."""
    params = {"p": random(rng, (5,), F8)}
    opt, x, z, weights = cls(lr=0.1, **{name: 0.9}), None, None, 0.0
    for step, momentum in enumerate([0.9, 0.9, 0.5, 0.95, 0.7]):
        setattr(opt, name, momentum)
        if step:
            assert_close(evaluated(opt, params)["p"], x)
        else:
            x = z = params["p"].copy()
        opt.update(params, like(rng, params))
        z, weights = opt.state["z"]["p"].copy(), weights + 1
        x = x + (z - x) / weights  # all steps have one weight
        assert_close(params["p"], (1 - momentum) * z + momentum * x)
        assert_close(evaluated(opt, params)["p"], x)


@pytest.mark.parametrize(("cls", "name"), [(ScheduleFreeSGD, "momentum"), (ScheduleFreeAdamW, "beta1")])
def test_without_a_momentum_there_would_be_no_average(cls, name):
    for wrong in 0, 1:
        with pytest.raises(ValueError, match=rf"{name}: expected a number in \(0, 1\).*got {wrong}"):
            cls(**{name: wrong})
    params, opt = {"p": np.ones(3)}, cls(**{name: schedules.linear(0.5, 0, steps=2)})
    for _ in range(2):
        opt.update(params, {"p": np.ones(3)})
    with pytest.raises(ValueError, match=rf"{name}: expected its schedule to return a number in \(0, 1\) at step 2"):
        opt.update(params, {"p": np.ones(3)})
    assert opt.iter == 2


@pytest.mark.parametrize("cls", [ScheduleFreeSGD, ScheduleFreeAdamW])
def test_rates_of_zero_move_nothing(cls, rng):
    params, opt = {"p": random(rng, (5,), F4)}, cls(lr=0)
    before = params["p"].copy()
    for _ in range(3):
        opt.update(params, like(rng, params))
        assert_same_bits(params["p"], before)
        assert_same_bits(evaluated(opt, params)["p"], before)
    opt.lr = 0.1
    opt.update(params, {"p": np.ones(5, F4)})
    assert_close(evaluated(opt, params)["p"], opt.state["z"]["p"], "the first step that has a weight is the average")


@pytest.mark.parametrize("cls", [ScheduleFreeSGD, ScheduleFreeAdamW])
def test_decoupled_changes_nothing(cls, rng):
    """The decay is a part of the formula, which is at y."""
    start, grads = {"p": random(rng, (5,), F4)}, [{"p": random(rng, (5,), F4)} for _ in range(3)]
    found = []
    for options in {}, {"decoupled": True}:
        params, opt = {"p": start["p"].copy()}, cls(lr=0.1, weight_decay=0.2, **options)
        for g in grads:
            opt.update(params, g)
        found.append(params["p"])
    assert_same_bits(*found)
    assert (found[0] != start["p"]).all()


# Trains up to a step and saves after each. A process that is to die does so in the middle of an evaluation.
RUN = """
import os
import sys
from pathlib import Path
import numpy as np
import fastoptim

kind, path, steps, dies_at = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
rng = np.random.default_rng(0)
params = {"W": rng.standard_normal((6, 4)).astype(np.float32), "b": np.zeros(4), "late": np.ones(3, np.float32)}
opt = fastoptim.get(
    kind, lr=fastoptim.schedules.cosine(0.5, steps=12), warmup_steps=4, weight_decay=0.1, groups={"b": {"lr": 0.01}}
)
if path.exists():
    for p in params.values():
        p[...] = np.nan
    with fastoptim.load(path) as checkpoint:
        checkpoint.restore(params, opt)
while opt.iter < steps:
    rng = np.random.default_rng(opt.iter)
    grads = {name: rng.standard_normal(p.shape).astype(p.dtype) for name, p in params.items()}
    if opt.iter < 3:
        grads["late"] = None
    if opt.iter == 5:
        grads["b"] = None
    opt.update(params, grads)
    fastoptim.save(path, params, opt)
    with opt.averaged(params):
        if opt.iter == dies_at:
            os._exit(0)
with opt.averaged(params):
    print("\\n".join(f"{name} {p.tobytes().hex()}" for name, p in params.items()))
print("\\n".join(f"{name} {p.tobytes().hex()}" for name, p in params.items()))
"""


@pytest.mark.parametrize("kind", ["ScheduleFreeSGD", "ScheduleFreeAdamW"])
def test_the_same_evaluation_parameters_after_a_crash(kind, tmp_path):
    straight = python(RUN, kind, tmp_path / "straight", 10, 0)
    for dies_at in 2, 7:
        assert python(RUN, kind, tmp_path / "run", 10, dies_at) == ""
    resumed = python(RUN, kind, tmp_path / "run", 10, 0)
    assert resumed == straight
    lines = straight.splitlines()
    assert len(lines) == 6
    assert lines[:3] != lines[3:]
    with fastoptim.load(tmp_path / "run") as checkpoint:
        assert [f"{name} {p.tobytes().hex()}" for name, p in checkpoint.params.items()] == lines[3:]
