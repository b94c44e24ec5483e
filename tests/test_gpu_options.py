"""The options on a GPU, with the CPU's bits: as test_gpu, on a machine that has one or in numba's simulator."""

import copy
import pickle

import numpy as np
import pytest
import test_gpu
from test_evaluation import Combined
from test_gpu import SIMULATED, Lion, arrays, assert_alike, assert_same_state, flat_like, settles, to_gpu

import fastoptim
from fastoptim import SGD, Adam, Momentum, schedules
from fastoptim.kernels.measures import NAMES
from references import ALONE, EVERYTHING, GROUPS, OPTIONS, SEVERAL
from support import DTYPES, FEW, ON_GPU, SUMMED, assert_same_bits
from variants import accepted

# A GPU says nothing of numbers that overflow; the simulator computes with NumPy's, which do.
pytestmark = [*test_gpu.pytestmark, pytest.mark.filterwarnings("ignore:.*encountered in scalar:RuntimeWarning")]
SHAPES = {"W": (4, 5), "b": (7,), "s": (), "e": (0, 3)}
EVERYTHING = {**EVERYTHING, "accumulate": 2}  # as many steps in fewer calls: the simulator is slow
NOT_CAPTURED = ("skip_nonfinite", "accumulate", "groups", "lr")
CAPTURED = {name: value for name, value in EVERYTHING.items() if name not in NOT_CAPTURED}


@pytest.fixture(autouse=True)
def fewer_threads(monkeypatch):
    """The simulator has to make each of them, which is what its time goes into."""
    if SIMULATED:
        monkeypatch.setattr("fastoptim.kernels.cuda.elementwise.THREADS", 4)
        monkeypatch.setattr("fastoptim.kernels.cuda.reduce.THREADS", 4)


def gradients(call, dtypes=(np.float32,), missing=(), bad=False, shapes=SHAPES):
    grads = arrays(call + 1, dtypes, shapes) | dict.fromkeys(missing)
    if bad:
        grads["b"][3] = np.inf
    return grads


def sent(grads):
    return {name: None if g is None else to_gpu({name: g})[name] for name, g in grads.items()}


def host_copy(values):
    return {name: v if isinstance(v, np.ndarray) or not v.size else v.copy_to_host() for name, v in values.items()}


def assert_same_everything(one, other, on_gpu, on_cpu):
    """Of an optimizer on the GPU and one on the CPU."""
    assert_alike(on_gpu, on_cpu)
    assert_same_state(one, other)
    assert (one.iter, one.skipped, one.grad_norm) == (other.iter, other.skipped, other.grad_norm)
    assert one.last_statistics == other.last_statistics
    if other.averages is None:
        assert one.averages is None
    else:
        assert_alike(one.averages, other.averages)
    assert_same_saved(one, other)


def assert_same_saved(one, other):
    mine, theirs = one.state_dict(), other.state_dict()
    mine["hyperparameters"]["capturable"] = False
    flat = [
        {(group, name): value for group in ("ema", "gradients") for name, value in saved.pop(group).items()}
        | {(slot, name): value for slot, values in saved.pop("slots").items() for name, value in values.items()}
        for saved in (mine, theirs)
    ]
    assert mine == theirs
    assert flat[0].keys() == flat[1].keys()
    for key, value in flat[1].items():
        assert type(flat[0][key]) is np.ndarray
        assert_same_bits(flat[0][key], value, str(key))


def test_every_option_is_tested():
    assert set(ALONE) == set(OPTIONS)


CASES = [(Adam, option) for option in ALONE.values()] + [
    (cls, options) for cls in (FEW if SIMULATED else ON_GPU) if cls is not Adam for options in SEVERAL.values()
]
# one reduction behind another
CASES += [(cls, {"cautious": "rescaled"}) for cls in (SUMMED[:1] if SIMULATED else ON_GPU)]


@pytest.mark.parametrize(("cls", "options"), CASES, ids=lambda value: " ".join(value) if type(value) is dict else None)
def test_alone_or_several(cls, options):
    host = arrays(0, shapes=SHAPES)
    on_gpu = to_gpu(host)
    one, other = (cls(lr=0.05, **accepted(cls, options)) for _ in range(2))
    for call, missing in enumerate((["s"], ["s", "W"], [])):
        grads = gradients(call, missing=missing, bad="skip_nonfinite" in options and call == 1)
        theirs = sent(grads)
        one.update(on_gpu, theirs)
        other.update(host, grads)
        for name, g in grads.items():
            if g is not None and g.size:
                assert_same_bits(theirs[name].copy_to_host(), g, name)
    assert_same_everything(one, other, on_gpu, host)


@pytest.mark.parametrize(
    ("cls", "dtypes", "flat"),
    [(Adam, DTYPES, True), (Adam, DTYPES, False), *((cls, DTYPES[:1], False) for cls in (*ON_GPU, Lion))],
)
def test_everything(cls, dtypes, flat):
    host = arrays(0, dtypes, SHAPES)
    on_gpu = fastoptim.flatten(host, device="cuda") if flat else to_gpu(host)
    one, other = (cls(**accepted(cls, EVERYTHING)) for _ in range(2))
    for call in range(3):
        grads = gradients(call, dtypes, bad=call == 1)
        theirs = flat_like(on_gpu, grads) if flat else sent(grads)
        one.update(on_gpu, theirs)
        other.update(host, grads)
    assert (one.iter, one.skipped) == (1, 1)
    assert_same_everything(one, other, on_gpu, host)


def test_switched_while_training():
    host = arrays(0, shapes=SHAPES)
    on_gpu = to_gpu(host)
    one, other = Adam(), Adam()
    for call, options in enumerate(
        (
            {"ema": 0.5, "clip_norm": 0.5},
            {"ema": None, "clip_norm": None, "weight_decay": schedules.linear(0.1, 0.5, steps=5)},
            {"decoupled": True, "ema": 0.75, "groups": GROUPS},
            {"groups": None, "zero_grads": True, "grad_scale": 4, "clip_value": 0.1, "maximize": True},
        )
    ):
        for name, value in options.items():
            setattr(one, name, value)
            setattr(other, name, value)
        one.update(on_gpu, to_gpu(gradients(call)))
        other.update(host, gradients(call))
    assert_same_everything(one, other, on_gpu, host)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_norm_of_many_blocks(dtype):
    shapes = {"a": (3,), "large": (5000 if SIMULATED else 10**7 + 3,), "W": (70, 11)}
    host, grads = arrays(0, (dtype,), shapes), arrays(1, (dtype,), shapes)
    one, two, other = (SGD(lr=1, clip_norm=0.01) for _ in range(3))
    separate, flat = to_gpu(host), fastoptim.flatten(host, device="cuda")
    other.update(host, grads)
    one.update(separate, to_gpu(grads))
    two.update(flat, flat_like(flat, grads))
    assert one.grad_norm == two.grad_norm == other.grad_norm
    assert_alike(separate, host)
    assert_alike(flat, host)


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 1e30), (np.float64, 1e200)])
def test_the_norm_does_not_overflow(dtype, size):
    host, grads = {"p": np.zeros(40, dtype)}, {"p": np.full(40, size, dtype)}
    on_gpu = to_gpu(host)
    one, other = SGD(lr=1, clip_norm=1), SGD(lr=1, clip_norm=1)
    one.update(on_gpu, to_gpu(grads))
    other.update(host, grads)
    assert_same_everything(one, other, on_gpu, host)
    assert one.grad_norm == pytest.approx(size * 40**0.5, rel=1e-6)


@pytest.mark.parametrize("flat", [False, True])
def test_statistics(flat):
    host = arrays(0, DTYPES, SHAPES)
    on_gpu = fastoptim.flatten(host, device="cuda") if flat else to_gpu(host)
    options = {"clip_value": 0.5, "clip_norm": 3.0, "skip_nonfinite": True, "zero_grads": True}
    one, other = (Adam(lr=0.05, statistics=NAMES, **options) for _ in range(2))
    for call in range(3):
        grads = gradients(call, DTYPES, bad=call == 2)
        theirs = flat_like(on_gpu, grads) if flat else sent(grads)
        one.update(on_gpu, theirs)
        other.update(host, grads)
        assert list(one.last_statistics) == list(host)
        assert one.last_statistics["b"].inf == (call == 2)
        assert_same_everything(one, other, on_gpu, host)


def test_a_skipped_first_call():
    on_gpu = to_gpu(arrays(0, shapes=SHAPES))
    opt = Adam(skip_nonfinite=True, zero_grads=True, ema=0.5)
    bad = to_gpu(gradients(0, bad=True))
    opt.update(on_gpu, bad)
    assert (opt.iter, opt.skipped) == (0, 1)
    assert not opt.averages
    assert_alike(on_gpu, arrays(0, shapes=SHAPES))
    assert not any(g.copy_to_host().any() for g in bad.values() if g.size)


@pytest.mark.parametrize("flat", [False, True])
def test_averaged(flat):
    host = arrays(0, DTYPES, SHAPES)
    on_gpu = fastoptim.flatten(host, device="cuda") if flat else to_gpu(host)
    one, other = Momentum(lr=0.1, ema=0.75), Momentum(lr=0.1, ema=0.75)
    for call in range(2):
        one.update(on_gpu, to_gpu(gradients(call, DTYPES)))
        other.update(host, gradients(call, DTYPES))
    with one.averaged(on_gpu), other.averaged(host):
        assert_alike(on_gpu, other.averages)
        assert_alike(on_gpu, host)
        with pytest.raises(RuntimeError, match="averaged"):
            one.update(on_gpu, to_gpu(gradients(1, DTYPES)))
    assert_same_everything(one, other, on_gpu, host)
    one.update(on_gpu, to_gpu(gradients(3, DTYPES)))
    other.update(host, gradients(3, DTYPES))
    assert_same_everything(one, other, on_gpu, host)

    def inside(params):
        with one.averaged(params):
            pass

    with pytest.raises(KeyError, match="late"):
        inside({**on_gpu, "late": on_gpu["b"]})
    one.ema = None
    with pytest.raises(RuntimeError, match="ema"):
        inside(on_gpu)
    assert_alike(on_gpu, host)


class Counted(Combined):
    """The same without a carry, so that its steps may be captured."""

    carry = None

    def evaluation_scalars(self, t):
        return self.part, self.lr, 0.0, float(t)


@pytest.mark.parametrize(
    ("cls", "flat", "options"),
    [
        (Combined, False, {"lr": schedules.linear(0.1, 0.5, steps=4), "groups": {"b": {"part": 0.25}}}),
        (Combined, True, {}),
        (Counted, False, {"capturable": True}),
    ],
)
def test_evaluation_parameters(cls, flat, options):
    host = arrays(0, DTYPES, SHAPES)
    on_gpu = fastoptim.flatten(host, device="cuda") if flat else to_gpu(host)
    one, other = cls(**options), cls(**{**options, "capturable": False})
    for call in range(3):
        for opt, params, grads in (
            (one, on_gpu, to_gpu(gradients(call, DTYPES))),
            (other, host, gradients(call, DTYPES)),
        ):
            opt.update(params, flat_like(params, gradients(call, DTYPES)) if flat and opt is one else grads)
        with one.averaged(on_gpu), other.averaged(host):
            assert_alike(on_gpu, host)
            with pytest.raises(RuntimeError, match="averaged"):
                one.update(on_gpu, to_gpu(gradients(1, DTYPES)))
        assert_same_everything(one, other, on_gpu, host)


WAYS = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda opt: pickle.loads(pickle.dumps(opt)),
    "there and back": lambda opt: copy.deepcopy(opt).to("cpu").to("cuda"),
    "state_dict": lambda opt: loaded(opt).to("cuda"),
}


def loaded(opt):
    fresh = type(opt)()
    fresh.load_state_dict(opt.state_dict())
    return fresh


@pytest.mark.parametrize("way", WAYS)
def test_going_on_from_a_copy(way):
    """Amid a sum, and with a name that has no state yet."""
    host = arrays(0, shapes=SHAPES)
    on_gpu = to_gpu(host)
    one, other = Adam(**EVERYTHING), Adam(**EVERYTHING)
    for call in range(4):
        grads = gradients(call, missing=["s"] if call < 2 else [])
        one.update(on_gpu, sent(grads))
        other.update(host, grads)
        if call in (0, 2):
            one = WAYS[way](one)
    assert_same_everything(one, other, on_gpu, host)


def test_from_one_side_to_the_other():
    host, expected = arrays(0, shapes=SHAPES), arrays(0, shapes=SHAPES)
    one, other = Adam(**EVERYTHING), Adam(**EVERYTHING)
    for call in range(3):
        one.update(host, gradients(call))
        other.update(expected, gradients(call))
    on_gpu = to_gpu(host)
    one.to("cuda")
    for call in range(3, 6):
        one.update(on_gpu, to_gpu(gradients(call)))
        other.update(expected, gradients(call))
    assert_same_everything(one, other, on_gpu, expected)
    host = {**host_copy(on_gpu), "e": host["e"]}
    one.to("cpu")
    for call in range(6, 8):
        one.update(host, gradients(call))
        other.update(expected, gradients(call))
    for name, p in expected.items():
        assert_same_bits(host[name], p, name)
        assert_same_bits(one.averages[name], other.averages[name], name)
    assert_same_saved(one, other)


def unchanged(opt, params, grads):
    saved = opt.state_dict()
    arrays_in = [*saved.pop("ema").items(), *saved.pop("gradients").items()]
    arrays_in += [item for values in saved.pop("slots").values() for item in values.items()]
    given = [*host_copy(params).items(), *host_copy({k: g for k, g in grads.items() if g is not None}).items()]
    return saved, [(name, np.asarray(a).tobytes()) for name, a in arrays_in + given if a.size]


BAD = {
    "schedule": ({"lr": lambda step: -1.0}, lambda p, g: None, ValueError, "lr.*got -1"),
    "pattern": ({"groups": {"w": {"lr": 0.1}}}, lambda p, g: None, ValueError, "groups.*'w'"),
    "one gradient twice": ({"zero_grads": True}, lambda p, g: g.update(b2=g["b"]), ValueError, r"grads\['b2?'\]"),
    "a gradient is its parameter": ({"zero_grads": True}, lambda p, g: g.update(b=p["b"]), ValueError, r"grads\['b'\]"),
    "missing": ({"zero_grads": True}, lambda p, g: g.pop("b"), KeyError, "'b'"),
    "on the host": ({"ema": 0.5}, lambda p, g: g.update(b=np.ones(7, np.float32)), TypeError, r"grads\['b'\]"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused_and_nothing_changed(case):
    options, change, error, words = BAD[case]
    shapes = {**SHAPES, "b2": (7,)}
    on_gpu, grads = to_gpu(arrays(0, shapes=shapes)), to_gpu(arrays(1, shapes=shapes))
    opt = Adam(accumulate=2, clip_norm=1, ema=0.5)
    for _ in range(3):
        opt.update(on_gpu, grads)
    change(on_gpu, grads)
    before = unchanged(opt, on_gpu, grads)
    kept = {name: opt.state_dict()["hyperparameters"][name] for name in options}
    for name, value in options.items():
        setattr(opt, name, value)
    with pytest.raises(error, match=words):
        opt.update(on_gpu, grads)
    for name, value in kept.items():
        setattr(opt, name, value)
    assert unchanged(opt, on_gpu, grads) == before


@pytest.mark.parametrize(
    ("cls", "dtypes", "flat"),
    [
        (Adam, DTYPES, True),
        *((cls, DTYPES[:1], False) for cls in ([*FEW, *SUMMED] if SIMULATED else ON_GPU) if settles(cls)),
    ],
)
def test_capturable_with_the_options_it_may_have(cls, dtypes, flat):
    host = arrays(0, dtypes, SHAPES)
    on_gpu = fastoptim.flatten(host, device="cuda") if flat else to_gpu(host)
    options = accepted(cls, CAPTURED)
    one, other = cls(lr=0.05, capturable=True, **options), cls(lr=0.05, **options)
    for call in range(3):
        if call == 2:
            for opt in one, other:
                opt.clip_norm, opt.weight_decay = 2.0, 0.1
        grads = gradients(call, dtypes)
        one.update(on_gpu, flat_like(on_gpu, grads) if flat else to_gpu(grads))
        other.update(host, grads)
    assert_same_everything(one, other, on_gpu, host)


@pytest.mark.parametrize(
    "options",
    [{name: EVERYTHING[name]} for name in NOT_CAPTURED]
    + [{"beta1": lambda step: 0.5}, {"weight_decay": schedules.constant(0.1)}],
    ids=lambda options: next(iter(options)),
)
def test_capturable_with_others(options):
    on_gpu = to_gpu(arrays(0, shapes=SHAPES))
    opt = Adam(capturable=True, **options)
    with pytest.raises(ValueError, match="capturable"):
        opt.update(on_gpu, to_gpu(gradients(0)))
    assert opt.iter == 0
    assert not opt.state["m"]
    assert_alike(on_gpu, arrays(0, shapes=SHAPES))


@pytest.mark.parametrize("capturable", [False, True])
def test_frozen_in_a_flat_buffer(capturable):
    """Neither the parameter nor its gradient changes. A captured count is one for all names, which stay the same."""
    host = arrays(0, shapes=SHAPES)
    flat = fastoptim.flatten(host, device="cuda")
    options = {"frozen": "b", "zero_grads": True, "clip_norm": 0.5}
    one, other = Adam(capturable=capturable, **options), Adam(**options)
    for call in range(2):
        grads = gradients(call)
        theirs = flat_like(flat, grads)
        one.update(flat, theirs)
        other.update(host, grads)
        assert_alike(theirs, grads)
    assert_same_everything(one, other, flat, host)
    for frozen in ("b", "W"), ():
        one.frozen = other.frozen = frozen
        if capturable:
            with pytest.raises(ValueError, match="capturable: expected all parameters to take part in every step"):
                one.update(flat, flat_like(flat, gradients(3)))
        else:
            one.update(flat, flat_like(flat, gradients(3)))
            other.update(host, gradients(3))
    if not capturable:
        assert_same_everything(one, other, flat, host)


@pytest.mark.parametrize("options", [{}, {"zero_grads": True}, {"accumulate": 2}], ids=str)
def test_warmup_and_memory(options):
    host = arrays(0, (np.float32,), SHAPES)
    params, opt = to_gpu(host), Adam(**options)
    opt.warmup(params)
    assert opt.memory(params).state == 2 * sum(p.nbytes for p in host.values())
    assert opt.iter == 0
    assert not opt.state["m"]
    assert_alike(params, host)


def test_warmup_of_other_arrays_leaves_captured_steps_their_numbers():
    host = arrays(0, (np.float32,), SHAPES)
    one, other = Adam(lr=0.1, beta2=0.9, capturable=True), Adam(lr=0.1, beta2=0.9)
    on_gpu, on_cpu = fastoptim.flatten(host, device="cuda"), fastoptim.flatten(host)
    for call in range(3):
        grads = gradients(call)
        if call == 1:
            one.lr = other.lr = 0.5
            one.beta2 = other.beta2 = 0.999
            one.warmup({"W": on_gpu["W"]} | {name: on_gpu[name] for name in "bse"})
        one.update(on_gpu, flat_like(on_gpu, grads))
        other.update(on_cpu, grads)
    assert_alike(on_gpu, on_cpu)
