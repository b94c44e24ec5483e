"""Less bits on a GPU, with the CPU's bits: on a machine that has one, or in numba's simulator."""

import copy
import pickle

import numpy as np
import pytest
import test_gpu
from test_gpu import SIMULATED

import fastoptim
from fastoptim import LAMB, LARS, SGD, Adam, AdamW, Lion, Momentum, NAdam, RAdam, RMSprop, ScheduleFreeAdamW
from fastoptim.kernels.codes import CODED, FEWEST
from fastoptim.kernels.measures import NAMES
from rounding_in_numpy import BFLOAT16, FLOAT16
from support import assert_same_bits

pytestmark = test_gpu.pytestmark
if SIMULATED or test_gpu.INFO["devices"]:
    from fastoptim.arrays.gpu import GPU

F4, F8 = np.dtype(np.float32), np.dtype(np.float64)
SHAPES = {"W": (4, 5), "b": (7,), "s": (), "e": (0, 3)}
CODES = {"W": (63, 67), "b": (7,), "c": (FEWEST,)}  # one with a last block of less elements, one without codes


@pytest.fixture(autouse=True)
def fewer_threads(monkeypatch):
    """The simulator has to make each of them, which is what its time goes into."""
    if SIMULATED:
        monkeypatch.setattr("fastoptim.kernels.cuda.elementwise.THREADS", 4)
        monkeypatch.setattr("fastoptim.kernels.cuda.reduce.THREADS", 3)


def arrays(seed, dtypes, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=shape).astype(F4).astype(dtypes[i % len(dtypes)])
        for i, (name, shape) in enumerate(shapes.items())
    }


def sent(values):
    """The same on the GPU."""
    return {name: GPU.sent(value) for name, value in values.items()}


def flat_sent(values, like):
    flat = like.zeros_like()
    for name, value in values.items():
        GPU.write(flat[name], value)
    return flat


def assert_alike(on_gpu, on_cpu):
    assert list(on_gpu) == list(on_cpu)
    for name, value in on_cpu.items():
        assert_same_bits(GPU.read(on_gpu[name]), value, name)


def assert_same_saved(one, other):
    """All that lasts: state, scales, averages, masters, what is lost, sums."""
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for key, value in theirs.items():
        if key in ("slots", "scales"):
            found = {(slot, name): array for slot, own in mine[key].items() for name, array in own.items()}
            expected = {(slot, name): array for slot, own in value.items() for name, array in own.items()}
        elif key in ("ema", "master", "compensation", "gradients", "row_steps"):
            found, expected = mine[key], value
        else:
            assert mine[key] == value or key == "hyperparameters"
            continue
        assert found.keys() == expected.keys(), key
        for name, array in expected.items():
            assert_same_bits(found[name], array, f"{key} {name}")


def check(cls, params, grads, options, *, shapes=SHAPES, shadow=None, flat=False, calls=3):
    """Train on both sides, and compare everything."""
    host = arrays(0, params, shapes)
    on_gpu = fastoptim.flatten(host, device="cuda") if flat else sent(host)
    host = fastoptim.flatten(host) if flat else host
    copies = ({}, {}) if shadow is None else (arrays(9, shadow, shapes), sent(arrays(9, shadow, shapes)))
    one, other = cls(**options), cls(**options)
    for call in range(calls):
        own = arrays(call + 1, grads, shapes)
        theirs = flat_sent(own, on_gpu) if flat else sent(own)
        one.update(on_gpu, theirs, **({} if shadow is None else {"shadow": copies[1]}))
        other.update(host, own, **({} if shadow is None else {"shadow": copies[0]}))
    assert_alike(on_gpu, host)
    assert_alike(copies[1], copies[0])
    assert_same_saved(one, other)
    assert (one.iter, one.grad_norm) == (other.iter, other.grad_norm)
    assert one.last_statistics == other.last_statistics
    return one, other, on_gpu, host


HALVES = [BFLOAT16, FLOAT16]
STOCHASTIC = {"rounding": "stochastic", "seed": 7}


def test_the_norm_adds_in_the_cpus_order():
    shapes = dict.fromkeys("dbcagfehji", (5,))
    host = arrays(0, [F4], shapes)
    on_gpu, one, other = sent(host), SGD(clip_norm=0.1), SGD(clip_norm=0.1)
    for call in range(8):  # sums in another order have the same bits now and then
        grads = arrays(call, [F4, BFLOAT16, FLOAT16], shapes)
        for i, (name, g) in enumerate(grads.items()):
            grads[name] = (g * 5.0 ** (i % 5)).astype(g.dtype)
        one.update(on_gpu, sent(grads))
        other.update(host, grads)
        assert one.grad_norm == other.grad_norm
    assert_alike(on_gpu, host)


@pytest.mark.parametrize(
    ("cls", "params", "grads", "options"),
    [
        (Adam, [BFLOAT16], [BFLOAT16], {"state_dtype": "bfloat16"}),
        (Adam, [FLOAT16], [FLOAT16], {"state_dtype": "float16", "ema": 0.75}),
        (Adam, [BFLOAT16, F4, FLOAT16, F8], [F4, FLOAT16, BFLOAT16, F8], {"clip_norm": 0.5, "skip_nonfinite": True}),
        (AdamW, [F4], HALVES, {"weight_decay": 0.1, "clip_value": 0.5, "zero_grads": True}),
        (Momentum, HALVES, [F4], {}),
        (SGD, [BFLOAT16], [BFLOAT16], {"maximize": True, "nonnegative": True}),
        (Lion, [BFLOAT16, F4], HALVES, {"cautious": True, "state_dtype": "bfloat16"}),
        (LAMB, HALVES, [BFLOAT16], {"state_dtype": "float16"}),
        (Adam, [BFLOAT16], [FLOAT16], {"cautious": "rescaled", "accumulate": 2}),
        (RMSprop, [BFLOAT16], [F4], {"statistics": NAMES}),
        (Adam, [FLOAT16], [FLOAT16], {"capturable": True, "clip_norm": 0.5}),
    ],
)
def test_sixteen_bits(cls, params, grads, options):
    check(cls, params, grads, options)


@pytest.mark.parametrize("dtype", HALVES)
def test_sixteen_bits_in_flat_buffers(dtype):
    check(Adam, [dtype], [dtype], {"clip_norm": 0.5, "ema": 0.5}, flat=True)
    check(Adam, [dtype, F4], [dtype, F4], {"state_dtype": "bfloat16", **STOCHASTIC}, flat=True)


@pytest.mark.parametrize(
    ("cls", "params", "grads", "options"),
    [
        (Adam, [BFLOAT16], [BFLOAT16], {"ema": 0.75, "clip_norm": 0.5}),
        (Adam, [BFLOAT16, F4], [FLOAT16, BFLOAT16], {"state_dtype": "bfloat16", "statistics": NAMES}),
        (LAMB, [FLOAT16], [FLOAT16], {"accumulate": 2}),
    ],
)
@pytest.mark.parametrize("way", [{"master": "float32"}, {"rounding": "kahan"}], ids=str)
def test_masters_and_what_is_lost(cls, params, grads, options, way):
    one, other, _, _ = check(cls, params, grads, {**options, **way})
    if "master" in way:
        assert_alike(one.masters, other.masters)


@pytest.mark.parametrize(
    ("cls", "params", "grads", "shadow", "options"),
    [
        (Adam, [F4], [BFLOAT16], [BFLOAT16], {"clip_norm": 0.5}),
        (AdamW, [F4, BFLOAT16], [F4], [FLOAT16], {"accumulate": 2, "ema": 0.5}),
        (LARS, [F4], HALVES, [F4], STOCHASTIC),
    ],
)
def test_shadows(cls, params, grads, shadow, options):
    check(cls, params, grads, options, shadow=shadow)


@pytest.mark.parametrize(
    ("cls", "params", "grads", "options"),
    [
        (Adam, [BFLOAT16], [BFLOAT16], {"state_dtype": "bfloat16"}),
        (NAdam, [FLOAT16], [BFLOAT16], {"state_dtype": "float16", "zero_grads": True}),
        (RAdam, [BFLOAT16, F4], [F4, BFLOAT16], {"ema": 0.75, "clip_norm": 0.5}),
        (LAMB, [BFLOAT16], [BFLOAT16], {"state_dtype": "bfloat16"}),
        (Adam, [BFLOAT16], [BFLOAT16], {"cautious": "rescaled"}),
        (Adam, [FLOAT16], [F4], {"statistics": NAMES}),
        (Momentum, HALVES, HALVES, {"accumulate": 2}),
    ],
)
def test_random_rounding(cls, params, grads, options):
    check(cls, params, grads, {**options, **STOCHASTIC})


def test_random_numbers_of_a_second_chunk():
    check(SGD, [BFLOAT16], [F4], STOCHASTIC, shapes={"b": (3,), "long": (65_536 + 70,)}, calls=1)


NEAREST = {"state_dtype": "8bit", "rounding": "nearest"}
AT_RANDOM = {"state_dtype": "8bit", "seed": 3}


@pytest.mark.parametrize(
    ("cls", "params", "grads", "options"),
    [
        (Adam, [F4], [F4], NEAREST),
        (Adam, [F4], [F4], {**AT_RANDOM, "clip_norm": 0.5, "zero_grads": True}),
        (Adam, [BFLOAT16], [FLOAT16], {**AT_RANDOM, "ema": 0.5}),
        (AdamW, [BFLOAT16], [BFLOAT16], {**AT_RANDOM, "master": "float32", "weight_decay": 0.1}),
        (Lion, [F4, F8, BFLOAT16], [F4, F8, F4], {**AT_RANDOM, "cautious": True}),
        (ScheduleFreeAdamW, [F4], [F4], AT_RANDOM),
        (LAMB, [F4], [BFLOAT16], NEAREST),
        (LAMB, [BFLOAT16], [BFLOAT16], {**AT_RANDOM, "statistics": NAMES}),
        (Adam, [F4], [F4], {**AT_RANDOM, "cautious": "rescaled"}),
        (Adam, [F4], [F4], {**NEAREST, "capturable": True}),
    ],
)
def test_eight_bits(cls, params, grads, options):
    check(cls, params, grads, options, shapes=CODES, calls=2)


@pytest.mark.parametrize("options", [NEAREST, AT_RANDOM], ids=str)
def test_eight_bits_in_flat_buffers(options):
    """The parameters begin where no vector does."""
    check(Adam, [F4], [F4], options, shapes={"b": (3,), **CODES}, flat=True, calls=2)


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e-30, 0])
def test_a_block_of_codes_that_is_not_finite_or_is_zero(value):
    host, grads = arrays(0, [F4], CODES), arrays(1, [F4], CODES)
    grads["W"].reshape(-1)[CODED : 2 * CODED] = value
    on_gpu, one, other = sent(host), Adam(**AT_RANDOM), Adam(**AT_RANDOM)
    with np.errstate(all="ignore"):
        one.update(on_gpu, sent(grads))
        other.update(host, grads)
    for name, p in host.items():
        found = GPU.read(on_gpu[name])
        assert (np.isnan(found) == np.isnan(p)).all()
        assert_same_bits(np.nan_to_num(found), np.nan_to_num(p), name)
    mine, theirs = one.state_dict(), other.state_dict()
    for slot in "mv":
        assert_same_bits(mine["slots"][slot]["W"], theirs["slots"][slot]["W"])
        np.testing.assert_array_equal(mine["scales"][slot]["W"], theirs["scales"][slot]["W"])


def loaded(opt):
    fresh = type(opt)()
    fresh.load_state_dict(opt.state_dict())
    return fresh.to("cuda")


WAYS = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda opt: pickle.loads(pickle.dumps(opt)),
    "there and back": lambda opt: copy.deepcopy(opt).to("cpu").to("cuda"),
    "state_dict": loaded,
}
EVERYWHERE = [
    ({"state_dtype": "bfloat16", "master": "float32"}, [BFLOAT16]),
    ({"rounding": "kahan", "ema": 0.5}, [FLOAT16]),
    (AT_RANDOM, [F4]),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("options", "params"), EVERYWHERE)
def test_going_on_from_a_copy(options, params, way):
    host = arrays(0, params, CODES)
    on_gpu, one, other = sent(host), Adam(**options), Adam(**options)
    for call in range(2):
        grads = arrays(call + 1, [BFLOAT16], CODES)
        one.update(on_gpu, sent(grads))
        other.update(host, grads)
        one = WAYS[way](one) if call == 0 else one
    assert_alike(on_gpu, host)
    assert_same_saved(one, other)


def test_a_checkpoint(tmp_path):
    host = arrays(0, [F4, BFLOAT16], CODES)
    on_gpu, one, other = sent(host), Adam(**AT_RANDOM), Adam(**AT_RANDOM)
    for opt, params, grads in (one, on_gpu, sent(arrays(1, [F4], CODES))), (other, host, arrays(1, [F4], CODES)):
        opt.update(params, grads)
    fastoptim.save(tmp_path / "here", on_gpu, one)
    fastoptim.save(tmp_path / "there", host, other)
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()
    again, back = Adam(), fastoptim.flatten(arrays(5, [F4, BFLOAT16], CODES), device="cuda")
    fastoptim.load(tmp_path / "here").restore(back, again)
    assert_alike(back, host)
    again.to("cuda").update(back, flat_sent(arrays(2, [F4, BFLOAT16], CODES), back))
    other.update(host, arrays(2, [F4, BFLOAT16], CODES))
    assert_alike(back, host)


@pytest.mark.parametrize("word", ["bfloat16", "float16", "8bit", None])
def test_another_state_dtype_on_the_way(word):
    host = arrays(0, [F4], CODES)
    on_gpu, one, other = sent(host), Adam(state_dtype="bfloat16"), Adam(state_dtype="bfloat16")
    for call in range(2):
        one.update(on_gpu, sent(arrays(call + 1, [F4], CODES)))
        other.update(host, arrays(call + 1, [F4], CODES))
        one.state_dtype = other.state_dtype = word
    assert_alike(on_gpu, host)
    assert_same_saved(one, other)


def test_state_is_read_as_float32():
    host = arrays(0, [BFLOAT16], CODES)
    on_gpu, one, other = sent(host), Adam(**AT_RANDOM), Adam(**AT_RANDOM)
    one.update(on_gpu, sent(arrays(1, [F4], CODES)))
    other.update(host, arrays(1, [F4], CODES))
    for slot, own in other.state.items():
        assert_alike(one.state[slot], own)
        assert one.state[slot]["W"].dtype == F4


@pytest.mark.parametrize("params", [[F4], [BFLOAT16, F4]])
def test_averages_take_the_parameters_place(params):
    host = arrays(0, params)
    on_gpu, one, other = sent(host), Momentum(ema=0.75), Momentum(ema=0.75)
    for call in range(2):
        one.update(on_gpu, sent(arrays(call + 1, params)))
        other.update(host, arrays(call + 1, params))
    with one.averaged(on_gpu), other.averaged(host):
        assert_alike(on_gpu, host)
    assert_alike(on_gpu, host)


def test_other_shadows_from_call_to_call():
    host, on_gpu = arrays(0, [F4]), sent(arrays(0, [F4]))
    one, other = Adam(), Adam()
    for call in range(3):
        mine, theirs = sent(arrays(8, [BFLOAT16])), arrays(8, [BFLOAT16])
        one.update(on_gpu, sent(arrays(call, [F4])), shadow=mine)
        other.update(host, arrays(call, [F4]), shadow=theirs)
        assert_alike(mine, theirs)


def test_a_shadow_that_becomes_a_gradient_is_refused():
    room = GPU.sent(np.zeros(64, F4))
    params, shadow, opt = sent({"w": np.ones(16, F4)}), {"w": room[:16]}, Adam()
    opt.update(params, {"w": room[32:48]}, shadow=shadow)
    with pytest.raises(ValueError, match=r"shadow\['w'\] and grads\['w'\] share memory"):
        opt.update(params, {"w": room[8:24]}, shadow=shadow)
    assert opt.iter == 1


@pytest.mark.parametrize(
    "options", [{"master": "float32"}, {"rounding": "kahan"}, {"ema": 0.5, "accumulate": 2}], ids=str
)
@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5)])
def test_an_optimizer_of_arrays_in_another_order_moves(options, shape):
    """What lasts lies in C order then, as parameters on a GPU do."""
    host = {"W": np.asfortranarray(arrays(0, [BFLOAT16], {"W": shape})["W"])}
    one, other = Adam(lr=0.1, **options), Adam(lr=0.1, **options)
    expected = copy.deepcopy(host)
    for opt, params in (one, host), (other, expected):
        for call in range(3):
            opt.update(params, arrays(call, [BFLOAT16], {"W": shape}))
    one.to("cuda")
    assert_same_saved(one, other)
    on_gpu = sent({name: np.ascontiguousarray(p) for name, p in host.items()})
    for call in range(3):
        one.update(on_gpu, sent(arrays(call, [BFLOAT16], {"W": shape})))
        other.update(expected, arrays(call, [BFLOAT16], {"W": shape}))
    assert_same_bits(GPU.read(on_gpu["W"]), np.ascontiguousarray(expected["W"]))


def test_masters_begin_where_vectors_do():
    """However odd the arrays before them are."""
    params = sent(arrays(0, [BFLOAT16], {"b": (10,), "W": (8, 8)}))
    opt = Adam(master="float32", ema=0.5)
    opt.update(params, params)
    for kept in opt.masters, opt.averages:
        assert not any(GPU.address(array) % 16 for array in kept.values())


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda p, g, s: g.update(b=GPU.sent(np.zeros(7))), TypeError, r"grads\['b'\]: expected float32 or less bits"),
        (lambda p, g, s: s.update(b=np.zeros(7, F4)), TypeError, r"shadow\['b'\]: expected an array on the GPU"),
        (lambda p, g, s: s.update(b=GPU.sent(np.zeros(7))), TypeError, r"shadow\['b'\]: expected float32 or less"),
        (lambda p, g, s: s.update(b=GPU.sent(np.zeros(8, F4))), ValueError, r"shadow\['b'\]: expected shape \(7,\)"),
        (lambda p, g, s: s.update(b=p["b"]), ValueError, r"shadow\['b'\] and params\['b'\] share memory"),
        (lambda p, g, s: s.pop("b"), KeyError, "shadow has no 'b'"),
    ],
)
@pytest.mark.parametrize("trained", [False, True])
def test_refused_and_nothing_changed(change, error, words, trained):
    params, grads, shadow = sent(arrays(0, [F4])), sent(arrays(1, [BFLOAT16])), sent(arrays(2, [BFLOAT16]))
    opt = Adam()
    if trained:
        opt.update(params, grads, shadow=shadow)
    before = {name: GPU.read(p).copy() for name, p in params.items()}
    change(params, grads, shadow)
    with pytest.raises(error, match=words):
        opt.update(params, grads, shadow=shadow)
    assert opt.iter == trained
    assert_alike(params, before)


def test_a_shadow_on_the_gpu_of_parameters_on_the_cpu_is_refused():
    with pytest.raises(TypeError, match=r"shadow\['W'\]: expected an array on the CPU"):
        Adam().update(arrays(0, [F4]), arrays(1, [F4]), shadow=sent(arrays(0, [BFLOAT16])))


def test_random_numbers_cannot_be_captured():
    for options in STOCHASTIC, AT_RANDOM:
        opt, params = Adam(capturable=True, **options), sent(arrays(0, [BFLOAT16]))
        with pytest.raises(ValueError, match=r"capturable: expected .* found random rounding"):
            opt.update(params, sent(arrays(1, [BFLOAT16])))


def test_public_kernels_take_float32_and_float64():
    p = GPU.sent(np.zeros(5, FLOAT16))
    with pytest.raises(TypeError, match="p: expected dtype float32 or float64, got float16"):
        SGD.kernels.cuda[1, 32](p, p, GPU.sent(np.zeros((0, 5), FLOAT16)), (0.1,))
