"""Gradients of some rows on a GPU, with the CPU's bits: on a machine that has one, or in numba's simulator."""

import numpy as np
import pytest
import test_gpu
from test_gpu import SIMULATED
from test_gpu_low_precision import assert_alike, assert_same_saved, sent
from test_gpu_low_precision import fewer_threads as fewer_threads

from fastoptim import SGD, Adam, AdamW, Momentum, RMSprop, Rows, ScheduleFreeAdamW, schedules
from rounding_in_numpy import BFLOAT16, FLOAT16
from support import ON_GPU, SUMMED

pytestmark = test_gpu.pytestmark
if SIMULATED or test_gpu.INFO["devices"]:
    from fastoptim.arrays.gpu import GPU

F4, F8 = np.dtype(np.float32), np.dtype(np.float64)
COUNT, SHAPE = 11, (11, 3, 2)
ELEMENTWISE = [cls for cls in ON_GPU if cls not in SUMMED]


def new_params(rng, dtype=F4):
    return {"E": rng.standard_normal(SHAPE).astype(dtype), "b": rng.standard_normal(5).astype(F4)}


def new_rows(rng, dtype=F4, count=9, shape=SHAPE):
    return Rows(rng.integers(0, shape[0], count), rng.standard_normal((count, *shape[1:])).astype(dtype))


def on_both(gradient):
    """A gradient on the host, and the same on the GPU."""
    if isinstance(gradient, Rows):
        return gradient, Rows(gradient.indices, GPU.sent(gradient.values))
    return gradient, GPU.sent(gradient)


def check(cls, options, rng, *, params=F4, values=F4, calls=3, shadow=False):
    host = new_params(rng, params)
    there, one, other = sent(host), cls(**options), cls(**options)
    shadows = [({name: np.zeros(x.shape, BFLOAT16) for name, x in host.items()}) for _ in range(2 * shadow)]
    theirs = [sent(own) for own in shadows]
    for call in range(calls):
        dense, own = on_both(rng.standard_normal(5).astype(F4)), on_both(new_rows(rng, values))
        extra = [{"shadow": each[call % 2]} if shadow else {} for each in (shadows, theirs)]
        other.update(host, {"E": own[0], "b": dense[0]}, **extra[0])
        one.update(there, {"E": own[1], "b": dense[1]}, **extra[1])
        assert one.grad_norm == other.grad_norm
        assert_alike({"": own[1].values}, {"": own[0].values})  # where they are set to zero
    assert_alike(there, host)
    for mine, expected in zip(theirs, shadows, strict=True):
        assert_alike(mine, expected)
    assert_same_saved(one, other)
    return one, other, there, host


@pytest.mark.parametrize("cls", ELEMENTWISE)
def test_the_bits_of_the_cpu(cls, rng):
    check(cls, {"lr": 0.05}, rng)


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (AdamW, {"weight_decay": 0.1, "clip_value": 0.5, "zero_grads": True, "maximize": True}),
        (Adam, {"ema": 0.75, "grad_scale": 4.0, "bounds": (-1.0, 1.0), "cautious": True}),
        (Adam, {"clip_norm": 0.5, "zero_grads": True}),
        (Momentum, {"lr": schedules.cosine(0.1, 10), "clip_norm": 0.1, "skip_nonfinite": True}),
        (RMSprop, {"groups": {"E": {"lr": 0.3}}, "state_dtype": "bfloat16"}),
        (SGD, {"lr": 0.1, "frozen": "b"}),
    ],
)
def test_with_options(cls, options, rng):
    check(cls, options, rng)


@pytest.mark.parametrize(
    ("params", "values", "options"),
    [
        (F8, F8, {}),
        (F4, BFLOAT16, {"clip_norm": 0.5}),
        (F4, FLOAT16, {}),
        (BFLOAT16, BFLOAT16, {"state_dtype": "bfloat16"}),
        (BFLOAT16, F4, {"master": "float32"}),
        (FLOAT16, FLOAT16, {"rounding": "kahan"}),
    ],
)
def test_other_dtypes(params, values, options, rng):
    check(Adam, options, rng, params=params, values=values)


def test_shadows_in_turn(rng):
    check(Adam, {}, rng, shadow=True, calls=4)


@pytest.mark.parametrize("shape", [(40, 3), (40, 1), (7, 90)])
def test_blocks_of_fewer_threads_for_small_rows(shape, rng, monkeypatch):
    monkeypatch.setattr("fastoptim.kernels.cuda.elementwise.TEAM", 1)  # the least that a block may have
    host = {"E": rng.standard_normal(shape).astype(F4)}
    there, one, other = sent(host), Adam(), Adam()
    for _ in range(3):
        own = on_both(new_rows(rng, shape=shape))
        other.update(host, {"E": own[0]})
        one.update(there, {"E": own[1]})
    assert_alike(there, host)


def test_dense_gradients_in_between(rng):
    one, other, there, host = check(Adam, {}, rng)
    for gradient in [rng.standard_normal(SHAPE).astype(F4), new_rows(rng), new_rows(rng, count=0)]:
        own = on_both(gradient)
        other.update(host, {"E": own[0], "b": None})
        one.update(there, {"E": own[1], "b": None})
    assert_alike(there, host)
    assert_same_saved(one, other)


def test_more_rows_than_there_was_memory_for(rng):
    shape = 300, 1
    host = {"E": rng.standard_normal(shape).astype(F4)}
    there, one, other = sent(host), Adam(clip_norm=1.0), Adam(clip_norm=1.0)
    for count in 3, 200, 80, 290:
        own = on_both(new_rows(rng, count=count, shape=shape))
        other.update(host, {"E": own[0]})
        one.update(there, {"E": own[1]})
        assert one.grad_norm == other.grad_norm
    assert_alike(there, host)


def test_going_on_elsewhere(rng):
    one, other, there, host = check(ScheduleFreeAdamW, {}, rng)
    back = {name: GPU.read(array) for name, array in there.items()}
    one.to("cpu")
    for _ in range(2):
        gradient = new_rows(rng)
        for opt, params in (one, back), (other, host):
            opt.update(params, {"E": gradient, "b": np.ones(5, F4)})
    there = sent(back)
    one.to("cuda")
    own = on_both(new_rows(rng))
    other.update(host, {"E": own[0], "b": None})
    one.update(there, {"E": own[1], "b": None})
    assert_alike(there, host)
    assert_same_saved(one, other)


def test_the_same_array_for_another_parameter(rng):
    """The first step knows that E may have `Rows`, and that F may not."""
    host = {name: rng.standard_normal((6, 2)).astype(F4) for name in "EF"}
    there, one, other = sent(host), Adam(), Adam()
    gradients = [on_both(new_rows(rng, shape=(6, 2))), on_both(new_rows(rng, BFLOAT16, count=2, shape=(6, 2)))]
    dense = on_both(rng.standard_normal((6, 2)).astype(F4))
    for e, f in (gradients[0], dense), (gradients[1], gradients[1]), (gradients[0], dense):
        other.update(host, {"E": e[0], "F": f[0]})
        one.update(there, {"E": e[1], "F": f[1]})
    assert_alike(there, host)
    assert_same_saved(one, other)


def test_without_memory_nothing_changes(rng, monkeypatch):
    host = {"E": rng.standard_normal((400, 2)).astype(F4)}
    there, one, other = sent(host), Adam(), Adam()
    few, many = on_both(new_rows(rng, shape=(400, 2))), on_both(new_rows(rng, count=300, shape=(400, 2)))
    other.update(host, {"E": few[0]})
    one.update(there, {"E": few[1]})

    def no_memory(*args, **options):
        raise MemoryError

    for where in "fastoptim.step.gpu_rows.cuda.device_array", "fastoptim.kernels.cuda.upload.cuda.pinned_array":
        with monkeypatch.context() as patch:
            patch.setattr(where, no_memory)
            with pytest.raises(MemoryError):
                one.update(there, {"E": many[1]})
        assert_alike(there, host)
        assert_same_saved(one, other)
    for gradient in many, few:
        other.update(host, {"E": gradient[0]})
        one.update(there, {"E": gradient[1]})
    assert_alike(there, host)


def test_indices_from_the_gpu(rng):
    gradient = new_rows(rng)
    there = Rows(GPU.sent(gradient.indices), GPU.sent(gradient.values))
    assert there.indices.tolist() == gradient.indices.tolist()
    np.testing.assert_array_equal(there.to_dense(COUNT), gradient.to_dense(COUNT))
    assert repr(there) == repr(gradient)


def test_what_is_not_finite_is_skipped(rng):
    one, _, there, _ = check(Adam, {"skip_nonfinite": True, "zero_grads": True}, rng)
    before, saved = {name: GPU.read(x) for name, x in there.items()}, one.state_dict()
    own = on_both(Rows(np.array([1, 1]), np.full((2, *SHAPE[1:]), np.inf, F4)))[1]
    one.update(there, {"E": own, "b": None})
    assert_alike(there, before)
    assert one.skipped == 1
    assert one.state_dict()["row_steps"]["E"].tolist() == saved["row_steps"]["E"].tolist()
    assert not GPU.read(own.values).any()


def refused(opt, params, gradient, error, words):
    before, saved = {name: GPU.read(x) for name, x in params.items()}, opt.state_dict()
    with pytest.raises(error, match=words):
        opt.update(params, {"E": gradient, "b": None})
    assert_alike(params, before)
    assert str(opt.state_dict()) == str(saved)


@pytest.mark.parametrize("is_known", [False, True])
def test_refused_and_nothing_changed(is_known, rng):
    host = new_params(rng)
    there, opt, good = sent(host), Adam(), new_rows(rng)
    if is_known:
        opt.update(there, {"E": on_both(good)[1], "b": None})
    refused(opt, there, Rows([2, COUNT], GPU.sent(good.values[:2])), IndexError, r"grads\['E'\].*\[0, 11\), got 11")
    refused(opt, there, Rows([2, -1], GPU.sent(good.values[:2])), IndexError, "got -1")
    refused(opt, there, Rows([2], GPU.sent(np.zeros((1, 2), F4))), ValueError, r"expected the shape \(k, ")
    refused(opt, there, good, TypeError, "expected an array on the GPU")
    refused(opt, there, Rows([2], GPU.sent(np.zeros((1, *SHAPE[1:]), F8))), TypeError, "float64 only beside")
    if is_known:
        refused(opt, there, GPU.sent(np.zeros((COUNT, 2), F4)), ValueError, "shape")
    opt.update(there, {"E": on_both(good)[1], "b": None})


def test_values_on_the_gpu_for_a_parameter_on_the_cpu(rng):
    with pytest.raises(TypeError, match="expected an array of NumPy, as its parameter is"):
        Adam().update(new_params(rng), {"E": on_both(new_rows(rng))[1], "b": None})


@pytest.mark.parametrize(
    ("opt", "words"),
    [
        (SGD(sparse="catch_up"), "catch_up' is for the CPU"),
        (Adam(capturable=True), "captured graph"),
        (Adam(rounding="stochastic"), "random rounding"),
    ],
)
def test_what_cannot_go_together(opt, words, rng):
    params = sent({"E": rng.standard_normal(SHAPE).astype(F4)})
    with pytest.raises(TypeError, match=words):
        opt.update(params, {"E": on_both(new_rows(rng))[1]})
