"""Parameters, gradients and state of 16 bits, masters, shadows, and how they are rounded: bit by bit as in NumPy."""

import copy
import re

import numpy as np
import pytest
from orders import assert_any_order_gives_the_same, trained

import fastoptim
from fastoptim import LAMB, SGD, AdaGrad, Adam, LossScale, Prodigy
from rounding_in_numpy import BFLOAT16, FLOAT16, at_random, random_bits, to_nearest
from support import FEW, LAYOUTS, OPTIMIZERS, assert_same_bits, assert_state_same_bits, like, random, snapshot
from variants import accepted

F4, F8 = np.dtype(np.float32), np.dtype(np.float64)
HALVES = [BFLOAT16, FLOAT16]
MATRICES = [cls for cls in OPTIMIZERS if cls.matrices is not None]
SHAPES = {"W": (130, 129), "b": (7,), "s": ()}
OPTIONS = [
    {"clip_norm": 0.7, "ema": 0.9, "weight_decay": 0.1, "decoupled": True, "groups": {"b": {"lr": 0.3}}},
    {"cautious": "rescaled", "bounds": (-1.0, 1.5), "clip_value": 0.5, "statistics": ("update_norm", "nan")},
]


def arrays(rng, dtype, shapes=SHAPES):
    return {name: random(rng, shape, dtype) for name, shape in shapes.items()}


def wide(named, dtype=np.float32):
    """C-ordered copies in the dtype of computation."""
    return {name: x.astype(dtype, order="C") for name, x in named.items()}


def computed(dtype):
    return F8 if dtype == F8 else F4


def rounded_after_each_step(opt, plain, params, grads, dtype, state_dtype=None):
    """Make a step in low precision, and the same in full precision with rounding by NumPy behind it; compare."""
    full = wide(params, computed(dtype))
    opt.update(params, grads)
    plain.update(full, wide(grads, computed(dtype)))
    for name, p in params.items():
        assert_same_bits(p, to_nearest(full[name], dtype), name)
        for slot in plain.state if state_dtype is not None else ():
            expected = to_nearest(plain.state[slot][name], state_dtype)
            assert_same_bits(opt.state[slot][name], expected, f"{slot} {name}")
            plain.state[slot][name][...] = expected


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_every_optimizer_updates_bfloat16(cls, rng):
    """By float32 arithmetic that is rounded once."""
    params, opt, plain = arrays(rng, BFLOAT16), cls(), cls()
    for _ in range(3):
        rounded_after_each_step(opt, plain, params, arrays(rng, BFLOAT16), BFLOAT16)
    for name in params:
        assert_state_same_bits(opt, plain, name)


@pytest.mark.parametrize("grad", [*HALVES, F4, F8])
@pytest.mark.parametrize("param", [*HALVES, F4, F8])
def test_any_two_dtypes(param, grad, rng):
    params, opt, plain = arrays(rng, param), Adam(), Adam()
    for _ in range(3):
        rounded_after_each_step(opt, plain, params, arrays(rng, grad), param)


@pytest.mark.parametrize("dtype", HALVES)
def test_every_kind_of_number_is_rounded(dtype):
    """All upper halves of float32, and below them what lies at a tie, beside one, and at the ends; for float16, too."""
    upper = np.arange(2**16, dtype=np.uint32)[:, None] << np.uint32(16)
    lower = [0, 1, 0x0FFF, 0x1000, 0x1001, 0x3000, 0x7FFF, 0x8000, 0x8001, 0xFFFF]
    numbers = (upper | np.array(lower, np.uint32)).view(F4).ravel()
    params = {"w": np.zeros(numbers.size, dtype)}
    with np.errstate(invalid="ignore"):
        SGD(lr=1.0).update(params, {"w": -numbers})
        expected, found = to_nearest(numbers, dtype).astype(F4), params["w"].astype(F4)
    is_nan = np.isnan(numbers)
    assert np.isnan(found[is_nan]).all()
    assert (found[~is_nan] == expected[~is_nan]).all()


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", HALVES)
def test_options(dtype, options, rng):
    params, opt, plain = arrays(rng, dtype), Adam(**options), Adam(**options)
    for _ in range(4):
        rounded_after_each_step(opt, plain, params, arrays(rng, dtype), dtype)
        assert opt.grad_norm == plain.grad_norm
        assert opt.last_statistics == plain.last_statistics
    if opt.averages is not None:
        for name, average in opt.averages.items():
            assert_same_bits(average, plain.averages[name])
        with opt.averaged(params):
            assert_same_bits(params["W"], to_nearest(plain.averages["W"], dtype))


def test_layouts_and_one_dict_of_all_dtypes(rng):
    """Each array by itself gives what it gives among the others."""
    dtypes, makers = [*HALVES, F4, F8], list(LAYOUTS.values())
    params = {f"{i} {j}": makers[j](random(rng, (13, 9), dtypes[i])) for i in range(4) for j in range(len(makers))}
    grads = {name: makers[-j % len(makers)](random(rng, (13, 9), dtypes[-j % 4])) for j, name in enumerate(params)}
    alone = {name: (np.array(p, order="C"), np.array(grads[name], order="C")) for name, p in params.items()}
    opt = Adam(weight_decay=0.1)
    for _ in range(2):
        opt.update(params, grads)
    for name, (p, g) in alone.items():
        own = Adam(weight_decay=0.1)
        for _ in range(2):
            own.update({name: p}, {name: g})
        assert_same_bits(np.ascontiguousarray(params[name]), p, name)


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.5}, {"state_dtype": "bfloat16"}, {"ema": 0.9}])
def test_flat(options, rng):
    params, grads = arrays(rng, BFLOAT16), arrays(rng, BFLOAT16)
    flat, opt, other = fastoptim.flatten(params), Adam(**options), Adam(**options)
    flat_grads = flat.zeros_like()
    for name, g in grads.items():
        flat_grads[name][...] = g
    for _ in range(3):
        opt.update(params, grads)
        other.update(flat, flat_grads)
    for name, p in params.items():
        assert_same_bits(flat[name], p)
        assert_state_same_bits(opt, other, name)


@pytest.mark.parametrize("dtype", HALVES)
def test_accumulated_gradients_are_float32(dtype, rng):
    """So that many small ones are not lost."""
    params = {"w": np.zeros(5, dtype)}
    opt, plain = SGD(lr=1.0, accumulate=3, zero_grads=True), SGD(lr=1.0, accumulate=3)
    full = wide(params)
    for _ in range(3):
        grads = {"w": random(rng, (5,), dtype)}
        plain.update(full, wide(grads))
        opt.update(params, grads)
        assert not grads["w"].any()
    assert_same_bits(params["w"], to_nearest(full["w"], dtype))


@pytest.mark.parametrize("options", [{}, *OPTIONS, {"accumulate": 2}])
@pytest.mark.parametrize("cls", [*FEW, LAMB, *MATRICES])
def test_masters_are_the_parameters_of_full_precision(cls, options, rng):
    params, options = arrays(rng, BFLOAT16), accepted(cls, options)
    full, opt, plain = wide(params), cls(lr=0.01, master="float32", **options), cls(lr=0.01, **options)
    for _ in range(4):
        grads = arrays(rng, BFLOAT16)
        opt.update(params, grads)
        plain.update(full, wide(grads))
    for name, p in params.items():
        assert_same_bits(opt.masters[name], full[name], name)
        assert_same_bits(p, to_nearest(full[name], BFLOAT16), name)


def test_masters_are_for_parameters_of_16_bits_alone(rng):
    params = {"half": random(rng, (9,), BFLOAT16), "single": random(rng, (9,), F4), "double": random(rng, (9,), F8)}
    opt = Adam(master="float32")
    assert len(opt.masters) == 0
    opt.update(params, params)
    assert list(opt.masters) == ["half"]
    assert opt.memory(params).masters == 9 * 4
    opt.master = None
    assert opt.masters is None
    with pytest.raises(TypeError, match="expected a dtype of 16 bits"):
        Prodigy(master="float32").update(params, params)
    with pytest.raises(TypeError, match="expected a dtype of 16 bits"):
        Prodigy(rounding="kahan").update(params, params)


@pytest.mark.parametrize("cls", MATRICES)
def test_functions_of_matrices_take_their_state_as_it_is(cls, rng):
    params, grads, opt = arrays(rng, BFLOAT16), arrays(rng, F4), cls(state_dtype="float16")
    before = snapshot(opt, params, grads)
    with pytest.raises(TypeError, match=f"state_dtype: expected None, as {cls.__name__} updates matrices"):
        opt.update(params, grads)
    assert snapshot(opt, params, grads) == before


@pytest.mark.parametrize("cls", MATRICES)
def test_what_matrices_lose_is_added_to_them(cls, rng):
    """The steps are too small for bfloat16. With the rests, they are nearly those of float32."""
    params = {"W": random(rng, (40, 30), BFLOAT16), "b": random(rng, (7,), BFLOAT16)}
    full, first, nearest = wide(params), wide(params), {name: p.copy() for name, p in params.items()}
    opt, plain, rounded = cls(lr=1e-5, rounding="kahan"), cls(lr=1e-5), cls(lr=1e-5)
    grads = arrays(rng, BFLOAT16, {"W": (40, 30), "b": (7,)})
    for _ in range(60):
        for each, own in (opt, params), (plain, full), (rounded, nearest):
            each.update(own, grads)
    rests = opt.state_dict()["compensation"]
    gap = full["W"] - first["W"]
    own = params["W"].astype(F4) + rests["W"].astype(F4) - first["W"]
    assert np.linalg.norm(own - gap) < 0.1 * np.linalg.norm(gap)
    assert np.linalg.norm(nearest["W"].astype(F4) - first["W"] - gap) > 0.3 * np.linalg.norm(gap)


def test_a_shadow_where_no_name_takes_part(rng):
    params, shadow, opt = arrays(rng, F4), arrays(rng, BFLOAT16), Adam()
    before = snapshot(opt, shadow)
    for _ in range(2):
        opt.update(params, dict.fromkeys(params), shadow=shadow)
    assert snapshot(opt, shadow) == before


@pytest.mark.parametrize("options", [{}, *OPTIONS, {"accumulate": 2}, {"frozen": "s"}])
@pytest.mark.parametrize("cls", [*FEW, LAMB, *MATRICES])
def test_a_shadow_is_the_rounded_parameter(cls, options, rng):
    params, options = arrays(rng, F4), accepted(cls, options)
    full, opt, plain = wide(params), cls(lr=0.01, **options), cls(lr=0.01, **options)
    shadow = {name: p.astype(BFLOAT16) for name, p in params.items()}
    for step in range(6):
        grads = arrays(rng, BFLOAT16)
        if step == 3:
            shadow = {name: x.copy("F") for name, x in shadow.items()}  # other arrays
        opt.update(params, grads, shadow=shadow if step != 4 else None)
        plain.update(full, wide(grads))
        for name, p in params.items():
            assert_same_bits(p, full[name], name)
            if step != 4:
                assert_same_bits(shadow[name].copy(), to_nearest(full[name], BFLOAT16), name)


SHADOWS = {
    "shadow has no 'W'": lambda p, g: {},
    "shadow['W'] and grads['W'] share memory": lambda p, g: g,
    "shadow['W'] and params['W'] share memory": lambda p, g: p,
    "expected shape (4, 3)": lambda p, g: {"W": np.ones((3, 4), BFLOAT16)},
    "expected float32 or less bits": lambda p, g: {"W": np.ones((4, 3))},
    "expected a numpy.ndarray, got list": lambda p, g: {"W": [1.0]},
    "expected a mapping": lambda p, g: 3,
    "a multiple of 2": lambda p, g: {"W": LAYOUTS["unaligned"](np.zeros((4, 3), BFLOAT16))},
    "read-only": lambda p, g: {"W": np.broadcast_to(np.zeros((), BFLOAT16), (4, 3))},
}


@pytest.mark.parametrize("text", SHADOWS)
def test_what_is_no_shadow(text, rng):
    params, grads, opt = {"W": random(rng, (4, 3), F4)}, {"W": random(rng, (4, 3), BFLOAT16)}, Adam()
    opt.update(params, grads, shadow={"W": np.zeros((4, 3), BFLOAT16)})
    before = snapshot(opt, params, grads)
    with pytest.raises((KeyError, TypeError, ValueError), match=re.escape(text)):
        opt.update(params, grads, shadow=SHADOWS[text](params, grads))
    assert snapshot(opt, params, grads) == before
    with pytest.raises(ValueError, match="shadow: expected None"):
        Adam(master="float32").update(params, grads, shadow={"W": np.zeros((4, 3), BFLOAT16)})
    with pytest.raises(ValueError, match="shadow: expected None, or another rounding"):
        Adam(rounding="kahan").update(params, grads, shadow={"W": np.zeros((4, 3), BFLOAT16)})


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("cls", [Adam, AdaGrad])
def test_state_of_16_bits(cls, dtype, rng):
    params, word = arrays(rng, F4), dtype.name
    opt, plain = cls(lr=0.01, state_dtype=word, ema=0.9), cls(lr=0.01, ema=0.9)
    for _ in range(4):
        rounded_after_each_step(opt, plain, params, arrays(rng, F4), F4, dtype)
        assert opt.averages["W"].dtype == F4
    assert opt.memory(params).state == sum(views[name].nbytes for views in opt.state.values() for name in views)


def test_state_that_is_rounded_later(rng):
    params, grads, opt = arrays(rng, F4), arrays(rng, F4), Adam()
    opt.update(params, grads)
    before = {name: m.copy() for name, m in opt.state["m"].items()}
    opt.state_dtype = "bfloat16"
    for name, m in opt.state["m"].items():
        assert_same_bits(m, to_nearest(before[name], BFLOAT16))
    opt.update(params, grads)
    opt.state_dtype = None
    assert opt.state["v"]["W"].dtype == F4
    opt.update(params, grads)
    assert opt.iter == 3


def stochastic_steps(opt, plain, params, steps, rng):
    """Compare steps of an optimizer that rounds at random with the same in NumPy."""
    dtype, numbers = params["W"].dtype, {"m": 1, "v": 2}
    for _ in range(steps):
        full, grads, t = wide(params), like(rng, params), opt.iter + 1
        opt.update(params, grads)
        plain.update(full, wide(grads))
        for name, p in params.items():
            bits = random_bits(opt.seed, t, name, p.size, 0)
            assert_same_bits(np.ravel(p), at_random(full[name], dtype, bits), name)
            for slot, number in numbers.items() if opt.state_dtype else ():
                own, bits = plain.state[slot][name], random_bits(opt.seed, t, name, p.size, number)
                own[...] = at_random(own, dtype, bits).reshape(own.shape)
                assert_same_bits(
                    np.ascontiguousarray(opt.state[slot][name]).astype(F4), np.ascontiguousarray(own), slot
                )


@pytest.mark.parametrize("options", [{}, *OPTIONS, {"state_dtype": ""}])
@pytest.mark.parametrize("dtype", HALVES)
def test_rounded_at_random(dtype, options, rng):
    params = arrays(rng, dtype, {**SHAPES, "W": (300, 500)})  # of more chunks than one
    given = {**options, "state_dtype": dtype.name} if "state_dtype" in options else options
    opt = Adam(lr=0.01, rounding="stochastic", seed=7, **given)
    plain = Adam(lr=0.01, **{name: value for name, value in options.items() if name != "state_dtype"})
    stochastic_steps(opt, plain, params, 3, rng)


def test_no_order_of_work_changes_random_rounding(rng, threads):
    first = {"W": random(rng, (300, 500), BFLOAT16), "b": random(rng, (7,), BFLOAT16)}
    grads = [{name: random(rng, p.shape, BFLOAT16) for name, p in first.items()} for _ in range(4)]

    def make(seed=3):
        return Adam(lr=0.1, rounding="stochastic", state_dtype="bfloat16", seed=seed)

    expected = assert_any_order_gives_the_same(make, first, grads, threads)
    other, _ = trained(make(seed=4), {name: p.copy() for name, p in first.items()}, grads)
    assert other["W"] != expected["W"]


@pytest.mark.parametrize("value", [1.001, -0.3331, 3e-6, 200.3, -7.7e-5])
@pytest.mark.parametrize("dtype", HALVES)
def test_random_rounding_is_right_on_average(value, dtype):
    """The mean of 10 million draws is within four times its standard error of the number."""
    size, exact = 10_000_000, float(np.float32(value))
    params = {"w": np.zeros(size, dtype)}
    SGD(lr=1.0, rounding="stochastic").update(params, {"w": np.full(size, -value, F4)})
    below, above = np.unique(params["w"].astype(F8))
    part = (exact - below) / (above - below)
    error = (above - below) * np.sqrt(part * (1 - part) / size)
    assert abs(params["w"].astype(F8).mean() - exact) < 4 * error


def test_bits_are_independent_of_each_other():
    """Of neighbours, of steps, of names and of operands."""
    n = 200_000
    draws = [random_bits(0, 1, "w", n, 0), random_bits(0, 2, "w", n, 0), random_bits(1, 1, "w", n, 0)]
    draws += [random_bits(0, 1, "v", n, 0), *(random_bits(0, 1, "w", n, number) for number in (1, 2, 3))]
    draws += [np.roll(draws[0], 1)]
    numbers = np.array([(bits >> np.uint32(16)) / 2.0**16 for bits in draws])
    assert np.abs(np.corrcoef(numbers) - np.eye(len(draws))).max() < 5 / np.sqrt(n)
    assert np.abs(numbers.mean(axis=1) - 0.5).max() < 5 * np.sqrt(1 / 12 / n)


def test_small_steps_are_lost_by_rounding_to_the_nearest_alone():
    """100 steps of 2e-4 from 1, where bfloat16 has a number every 0.0078."""
    ends = {}
    ways = {"nearest": {}, "master": {"master": "float32"}}
    ways |= {word: {"rounding": word} for word in ("stochastic", "kahan")}
    for name, options in ways.items():
        params, opt = {"w": np.ones(4096, BFLOAT16)}, SGD(lr=2e-4, **options)
        for _ in range(100):
            opt.update(params, {"w": np.ones(4096, BFLOAT16)})
        ends[name] = float(params["w"].astype(F8).mean())
    assert ends["nearest"] == 1.0
    for name in "stochastic", "kahan", "master":
        assert abs(ends[name] - 0.98) < 0.003, name


@pytest.mark.parametrize("cls", [Adam, LAMB])
@pytest.mark.parametrize("dtype", HALVES)
def test_what_is_lost_is_kept(dtype, cls, rng):
    """The parameter and its rest together are the number that the next step begins with."""
    params = arrays(rng, dtype)
    opt, plain = cls(lr=1e-3, rounding="kahan", clip_norm=1.0), cls(lr=1e-3, clip_norm=1.0)
    assert opt.memory(params).masters == sum(p.nbytes for p in params.values())
    rests = {name: np.zeros(p.shape, dtype) for name, p in params.items()}
    for step in range(20):
        grads = arrays(rng, dtype)
        full = {name: np.array(p.astype(F4) + rests[name].astype(F4)) for name, p in params.items()}
        opt.update(params, grads)
        plain.update(full, wide(grads))
        for name, p in params.items():
            assert_same_bits(p, to_nearest(full[name], dtype), name)
            rests[name] = np.array(to_nearest(full[name] - p.astype(F4), dtype))
        if step == 10:
            saved = copy.deepcopy(opt.state_dict())
            opt = cls()
            opt.load_state_dict(saved)
    for name, rest in rests.items():
        assert_same_bits(opt.state_dict()["compensation"][name], rest, name)


def test_rounding_beside_other_options(rng):
    with pytest.raises(ValueError, match="rounding: expected another one than 'kahan' beside `master`"):
        Adam(master="float32", rounding="kahan").update({}, {})
    for wrong in ({"rounding": "up"}, {"seed": -1}, {"seed": 1.5}, {"state_dtype": "float64"}, {"master": "bfloat16"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Adam(**wrong)


@pytest.mark.parametrize("options", [{"master": "float32"}, {"rounding": "kahan"}, {"state_dtype": "float16"}, {}])
def test_checkpoints(options, rng, tmp_path):
    """All dtypes as they are, and training goes on with the same bits."""
    pytest.importorskip("safetensors", reason="checkpoints need the safetensors package")
    params, opt = arrays(rng, BFLOAT16), Adam(lr=0.1, **options)
    grads = [arrays(rng, BFLOAT16) for _ in range(4)]
    for step in grads[:2]:
        opt.update(params, step)
    fastoptim.save(tmp_path / "file", params, opt)
    there, other = {name: np.zeros_like(p) for name, p in params.items()}, Adam()
    with fastoptim.load(tmp_path / "file") as saved:
        assert saved.params["W"].dtype == BFLOAT16
        saved.restore(there, other)
    for step in grads[2:]:
        opt.update(params, step)
        other.update(there, step)
    for name, p in params.items():
        assert_same_bits(there[name], p)
        assert_state_same_bits(opt, other, name)


def test_loss_scale_follows_the_gradients(rng, tmp_path):
    scale = LossScale(8.0, growth=2.0, interval=3)
    opt, plain = Adam(grad_scale=scale, skip_nonfinite=True), Adam()
    params, full, values = {"w": np.ones(3, F4)}, {"w": np.ones(3, F4)}, []
    for step in range(9):
        gradient = random(rng, (3,), F4)
        is_wrong = step in (4, 5)
        opt.update(params, {"w": gradient * np.float32(scale.value) if not is_wrong else np.full(3, np.inf, F4)})
        if not is_wrong:
            plain.update(full, {"w": gradient})
        values.append(scale.value)
        assert_same_bits(params["w"], full["w"])
    assert values == [8, 8, 16, 16, 8, 4, 4, 4, 8]
    assert (opt.skipped, opt.iter) == (2, 7)
    other = Adam()
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert vars(other.grad_scale) == vars(scale)
    assert other.grad_scale is not scale
    held = LossScale()
    other = Adam(grad_scale=held, skip_nonfinite=True)
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert other.grad_scale is held
    assert vars(held) == vars(scale)


def test_loss_scale_with_accumulated_gradients(rng):
    scale = LossScale(4.0, interval=100)
    opt, params = SGD(lr=1.0, grad_scale=scale, skip_nonfinite=True, accumulate=2), {"w": np.zeros(2, F4)}
    opt.update(params, {"w": np.full(2, 4.0, F4)})
    opt.update(params, {"w": np.full(2, np.nan, F4)})
    assert scale.value == 2.0
    opt.update(params, {"w": np.full(2, 6.0, F4)})
    assert params["w"].tolist() == [-2.0, -2.0]  # the mean of 4 / 4 and 6 / 2


@pytest.mark.parametrize("arguments", [(0,), (1e31,), (1, 1), (1, 2, 0), ("x",), (1, float("inf"))])
def test_wrong_loss_scales(arguments):
    with pytest.raises(ValueError, match="LossScale: "):
        LossScale(*arguments)


def test_loss_scale_needs_skip_nonfinite():
    with pytest.raises(ValueError, match="expected skip_nonfinite=True beside a LossScale"):
        Adam(grad_scale=LossScale()).update({}, {})


def test_tensors_of_torch(rng):
    torch = pytest.importorskip("torch", reason="shares memory with torch, which is not installed")
    tensor = torch.ones((3, 4), dtype=torch.bfloat16)
    params = {"W": fastoptim.from_dlpack(tensor)}
    assert params["W"].dtype == BFLOAT16
    Adam(lr=0.5).update(params, {"W": torch.ones((3, 4), dtype=torch.bfloat16)})
    assert tensor.tolist() == [[0.5] * 4] * 3
    single = torch.ones(2)
    fastoptim.from_dlpack(single)[...] = 3
    assert single.tolist() == [3.0, 3.0]
