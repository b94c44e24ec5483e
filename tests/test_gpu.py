"""Arrays on a GPU: `pytest -m gpu` on a machine that has one; test_gpu_simulated runs them in numba's simulator."""

import copy
import os
import pickle

import numba
import numpy as np
import pytest

import fastoptim
from fastoptim import Optimizer, fraction, nonnegative, rule
from support import DTYPES, ON_GPU, OPTIMIZERS, SUMMED, assert_same_bits, random

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
INFO = fastoptim.cuda_info()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not (SIMULATED or INFO["devices"]), reason=f"no GPU here: {INFO['problem']}"),
]
hardware = pytest.mark.skipif(SIMULATED, reason="the simulator has no hardware to ask")
if SIMULATED or INFO["devices"]:
    from numba import cuda

SHAPES = {"W": (13, 5), "b": (7,), "s": (), "e": (0, 3), "V": (3, 4, 5)}
LARGE = 300 if SIMULATED else 10**6 + 3
STEPS = 4 if SIMULATED else 20


@rule
def lion(p, g, m, lr, one_minus_beta1, one_minus_beta2):
    c = m + one_minus_beta1 * (g - m)
    return p - (lr if c > 0 else -lr if c < 0 else c), m + one_minus_beta2 * (g - m)


class Lion(Optimizer):
    rule, slots = lion, ("m",)
    lr: float = nonnegative(1e-4)
    beta1: float = fraction(0.9)
    beta2: float = fraction(0.99)

    def scalars(self, t):
        return self.lr, 1 - self.beta1, 1 - self.beta2


def arrays(seed, dtypes=(np.float32,), shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return {name: random(rng, shape, dtypes[i % len(dtypes)]) for i, (name, shape) in enumerate(shapes.items())}


def to_gpu(values):
    return {name: cuda.to_device(value) for name, value in values.items()}


def assert_alike(on_gpu, on_cpu):
    assert list(on_gpu) == list(on_cpu)
    for name, value in on_cpu.items():
        assert_same_bits(on_gpu[name].copy_to_host() if value.size else value, value, name)


def assert_same_state(one, other):
    assert one.state.keys() == other.state.keys()
    for slot, values in other.state.items():
        assert_alike(one.state[slot], values)


# What sums over arrays takes the simulator long. tests/test_cuda_reductions.py has it in both dtypes.
CASES = [(cls, x) for cls in [*ON_GPU, Lion] for x in DTYPES if not (SIMULATED and cls in SUMMED and x is np.float64)]


@pytest.mark.parametrize(("cls", "dtype"), CASES)
def test_the_same_bits_as_on_the_cpu(cls, dtype):
    shapes = {**SHAPES, "large": (LARGE,)}
    host = arrays(0, (dtype,), shapes)
    separate, flat = to_gpu(host), fastoptim.flatten(host, device="cuda")
    one, two, expected = cls(lr=0.05), cls(lr=0.05), cls(lr=0.05)
    for step in range(STEPS):
        grads = arrays(step + 1, (dtype,), shapes)
        expected.update(host, grads)
        one.update(separate, to_gpu(grads))
        two.update(flat, fastoptim.flatten(grads, device="cuda") if step % 2 else flat_like(flat, grads))
    assert_alike(separate, host)
    assert_alike(flat, host)
    assert_same_state(one, expected)
    assert_same_state(two, expected)
    assert one.iter == two.iter == STEPS


@pytest.mark.parametrize("cls", [cls for cls in OPTIMIZERS if cls not in ON_GPU])
def test_a_function_of_matrices_is_refused(cls):
    on_gpu, opt = to_gpu(arrays(0)), cls()
    with pytest.raises(TypeError, match=rf"{cls.__name__} updates matrices on the CPU: expected arrays of NumPy"):
        opt.update(on_gpu, to_gpu(arrays(1)))
    assert opt.iter == 0
    assert_alike(on_gpu, arrays(0))


def flat_like(flat, grads):
    gradients = flat.zeros_like()
    for name, grad in grads.items():
        if grad.size:
            gradients[name].copy_to_device(grad)
    return gradients


def test_mixed_dtypes_and_gradients_kept_or_new():
    host = arrays(0, DTYPES)
    on_gpu, kept = to_gpu(host), to_gpu(arrays(1, DTYPES))
    a, b = fastoptim.Adam(), fastoptim.Adam()
    for step in range(4):
        grads = arrays(step + 1, DTYPES)
        if step % 2:
            for name, grad in grads.items():
                if grad.size:
                    kept[name].copy_to_device(grad)
        a.update(host, grads)
        b.update(on_gpu, kept if step % 2 else to_gpu(grads))
    assert_alike(on_gpu, host)


def test_the_arrays_themselves_are_updated():
    on_gpu = to_gpu(arrays(0))
    held = dict(on_gpu)
    fastoptim.SGD().update(on_gpu, to_gpu(arrays(1)))
    for name in held:
        assert on_gpu[name] is held[name]


def test_flatten_on_the_gpu():
    host = arrays(0, DTYPES)
    flat = fastoptim.flatten(host, device="cuda")
    assert_alike(flat, host)
    assert_alike(flat.copy(), host)
    for name, value in flat.to_host().items():
        assert_same_bits(value, host[name])
    assert all((b.copy_to_host() == 0).all() for b in flat.zeros_like().arrays)
    assert_alike(pickle.loads(pickle.dumps(flat)), host)
    with pytest.raises(ValueError, match=r"device: expected 'cpu' or 'cuda', got 'gpu'"):
        fastoptim.flatten(host, device="gpu")


@pytest.mark.parametrize("flat", [False, True])
def test_state_moves_and_training_goes_on(flat):
    host = fastoptim.flatten(arrays(0)) if flat else arrays(0)
    expected = copy.deepcopy(host)
    one, two = fastoptim.Adam(), fastoptim.Adam()
    one.update(expected, arrays(1))
    two.update(host, arrays(1))
    assert two.to("cuda") is two
    on_gpu = fastoptim.flatten(host, device="cuda") if flat else to_gpu(host)
    for step in 2, 3:
        one.update(expected, arrays(step))
        two.update(on_gpu, fastoptim.flatten(arrays(step), device="cuda") if flat else to_gpu(arrays(step)))
    assert_alike(on_gpu, expected)
    two.to("cpu")
    back = {name: value.copy_to_host() if value.size else host[name] for name, value in on_gpu.items()}
    one.update(expected, arrays(4))
    two.update(back, arrays(4))
    for name in back:
        assert_same_bits(back[name], expected[name])
    assert two.iter == 4
    with pytest.raises(ValueError, match="device"):
        two.to("tpu")


def test_a_parameter_that_appears_later():
    host, on_gpu = arrays(0), to_gpu(arrays(0))
    a, b = fastoptim.Momentum(), fastoptim.Momentum()
    for name in (*SHAPES, None):
        a.update({k: v for k, v in host.items() if k != name}, arrays(1))
        b.update({k: v for k, v in on_gpu.items() if k != name}, to_gpu(arrays(1)))
    assert_alike(on_gpu, host)


def bad_calls():
    on_gpu, grads = to_gpu(arrays(0)), to_gpu(arrays(1))
    host = arrays(0)
    wide = cuda.to_device(np.zeros((5, 26), np.float32))
    return {
        "host parameter": ({**on_gpu, "b": host["b"]}, grads, TypeError, r"params\['b'\].*one GPU.*ndarray"),
        "host gradient": (on_gpu, {**grads, "b": host["b"]}, TypeError, r"grads\['b'\].*one GPU.*ndarray"),
        "strided": ({**on_gpu, "W": wide[:, ::2].T}, grads, TypeError, r"params\['W'\].*C-contiguous.*strides"),
        "shape": (on_gpu, {**grads, "b": grads["W"]}, ValueError, r"grads\['b'\].*\(7,\).*\(13, 5\)"),
        "dtype": (on_gpu, {**grads, "b": cuda.to_device(np.zeros(7))}, TypeError, r"grads\['b'\].*float32.*float64"),
        "integer": ({**on_gpu, "b": cuda.to_device(np.zeros(7, int))}, grads, TypeError, r"params\['b'\].*int64"),
        "missing": (on_gpu, {"W": grads["W"]}, KeyError, "grads has no 'b'"),
        "twice": ({**on_gpu, "c": on_gpu["b"]}, {**grads, "c": grads["b"]}, ValueError, "'b'.*'c'.*share memory"),
        "another's": ({**on_gpu, "c": grads["b"]}, {**grads, "c": on_gpu["b"]}, ValueError, "share memory"),
    }


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("case", ["host parameter", "host gradient", "strided", "shape", "dtype", "integer", "missing",
                                  "twice", "another's"])  # fmt: skip
def test_refused_and_nothing_changed(case, trained):
    params, grads, error, words = bad_calls()[case]
    opt = fastoptim.Adam()
    good = to_gpu(arrays(0))
    if trained:
        opt.update(good, to_gpu(arrays(1)))
    before = [v.copy_to_host() for v in params.values() if not isinstance(v, np.ndarray) and v.size]
    steps, names = opt.iter, list(opt.state["m"])
    with pytest.raises(error, match=words):
        opt.update(params, grads)
    after = [v.copy_to_host() for v in params.values() if not isinstance(v, np.ndarray) and v.size]
    for one, other in zip(before, after, strict=True):
        assert_same_bits(one, other)
    assert (opt.iter, list(opt.state["m"])) == (steps, names)
    opt.update(good, to_gpu(arrays(1)))


def test_state_on_the_other_side_is_an_error():
    opt = fastoptim.Adam()
    opt.update(arrays(0), arrays(1))
    with pytest.raises(ValueError, match=r"opt\.to\('cuda'\)"):
        opt.update(to_gpu(arrays(0)), to_gpu(arrays(1)))
    with pytest.raises(ValueError, match="stream: expected None"):
        opt.update(arrays(0), arrays(1), stream=0)
    assert opt.iter == 1


def test_copies_of_an_optimizer_go_on_alike():
    host, on_gpu = arrays(0), to_gpu(arrays(0))
    a, b = fastoptim.Adam(), fastoptim.Adam()
    a.update(host, arrays(1))
    b.update(on_gpu, to_gpu(arrays(1)))
    for make in copy.deepcopy, lambda opt: pickle.loads(pickle.dumps(opt)):
        a, b = make(a), make(b)
        a.update(host, arrays(2))
        b.update(on_gpu, to_gpu(arrays(2)))
    assert_alike(on_gpu, host)


def settles(cls):
    """Whether an optimizer's numbers become constant at some step, and follow from the step alone."""
    opt = cls()
    return opt.carry is None and opt.scalars(2**20) == opt.scalars(2**24)


@pytest.mark.parametrize("cls", [*ON_GPU, Lion])
def test_capturable_gives_the_same_bits_or_is_refused(cls):
    if not settles(cls):
        with pytest.raises(ValueError, match="capturable: "):
            cls(capturable=True).update(to_gpu(arrays(0, DTYPES)), to_gpu(arrays(0, DTYPES)))
        return
    host, on_gpu = arrays(0, DTYPES), to_gpu(arrays(0, DTYPES))
    flat = fastoptim.flatten(host, device="cuda")
    a, b, c = cls(lr=0.05), cls(lr=0.05, capturable=True), cls(lr=0.05, capturable=True)
    for step in range(5):
        if step == 3:
            a.lr = b.lr = c.lr = 0.01
        a.update(host, arrays(step, DTYPES))
        b.update(on_gpu, to_gpu(arrays(step, DTYPES)))
        c.update(flat, flat_like(flat, arrays(step, DTYPES)))
    assert_alike(on_gpu, host)
    assert_alike(flat, host)
    assert b.iter == c.iter == 5
    d = copy.deepcopy(b)
    assert d.iter == 5
    a.update(host, arrays(9, DTYPES))
    d.update(on_gpu, to_gpu(arrays(9, DTYPES)))
    assert_alike(on_gpu, host)


def test_capturable_beyond_the_last_row(monkeypatch):
    from fastoptim.step.counter import StepCounter

    monkeypatch.setattr(StepCounter, "SHORTEST", 1)  # or there would be many to go through
    host, on_gpu = arrays(0), to_gpu(arrays(0))
    a, b = fastoptim.Adam(beta1=0.1, beta2=0.2), fastoptim.Adam(beta1=0.1, beta2=0.2, capturable=True)
    for step in range(40):
        a.update(host, arrays(step))
        b.update(on_gpu, to_gpu(arrays(step)))
    assert len(next(iter(b._stepper.counts.on_gpu._tables.values()))) < 40
    assert_alike(on_gpu, host)


def test_numbers_that_never_settle_cannot_be_captured():
    class Falling(fastoptim.SGD):
        def scalars(self, t):
            return (self.lr / t,)

    with pytest.raises(ValueError, match=r"capturable: .*still change"):
        Falling(capturable=True).update(to_gpu(arrays(0)), to_gpu(arrays(1)))


class NeedsGradient:
    """As a tensor of torch that requires one answers."""

    @property
    def __cuda_array_interface__(self):
        raise RuntimeError("use detach()")

    @property
    def __array_interface__(self):
        raise RuntimeError("use detach()")


def test_a_tensor_that_requires_a_gradient_is_refused_by_name():
    on_gpu = to_gpu(arrays(0))
    with pytest.raises(TypeError, match=r"params\['b'\]: use detach"):
        fastoptim.SGD().update({**on_gpu, "b": NeedsGradient()}, on_gpu)


def test_a_table_is_written_for_each_new_stream(monkeypatch):
    from fastoptim.step import gpu

    written, write = [], gpu.write_words
    monkeypatch.setattr(gpu, "write_words", lambda *args: (written.append(args[3]), write(*args)))
    on_gpu, grads = to_gpu(arrays(0)), to_gpu(arrays(1))
    opt = fastoptim.SGD()
    for _ in range(3):
        opt.update(on_gpu, grads)
    assert written == [0]
    opt.update(on_gpu, to_gpu(arrays(1)))
    assert written == [0, 0]
    if SIMULATED:  # where a stream is but a number
        opt.update(on_gpu, grads, stream=7)
        opt.update(on_gpu, grads, stream=7)
        assert written == [0, 0, 7]


@hardware
def test_two_streams_at_once():
    streams = [cuda.stream(), cuda.stream()]
    host, on_gpu = [arrays(0), arrays(1)], [to_gpu(arrays(0)), to_gpu(arrays(1))]
    ours, theirs = [fastoptim.Adam(), fastoptim.Adam()], [fastoptim.Adam(), fastoptim.Adam()]
    grads = [(arrays(s), to_gpu(arrays(s))) for s in range(10)]
    for on_cpu, g in grads:
        for i in range(2):
            theirs[i].update(host[i], on_cpu)
            ours[i].update(on_gpu[i], g, stream=streams[i])
    for i in range(2):
        streams[i].synchronize()
        assert_alike(on_gpu[i], host[i])


@hardware
@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_arrays_of_other_libraries(library):
    module = pytest.importorskip(library, reason=f"takes arrays of {library}, which is not installed")
    convert = module.asarray if library == "cupy" else lambda a: module.tensor(a, device="cuda")
    host = arrays(0)
    on_gpu = {name: convert(value) for name, value in host.items()}
    a, b = fastoptim.Adam(), fastoptim.Adam()
    for step in range(STEPS):
        a.update(host, arrays(step))
        b.update(on_gpu, {name: convert(value) for name, value in arrays(step).items()})
    for name, value in host.items():
        assert_same_bits(on_gpu[name].get() if library == "cupy" else on_gpu[name].cpu().numpy(), value)
    flat = fastoptim.flatten(host, device="cuda")
    taken = module.as_tensor(flat["W"], device="cuda") if library == "torch" else module.asarray(flat["W"])
    taken += 1
    assert_same_bits(flat["W"].copy_to_host(), host["W"] + 1)


@hardware
def test_replays_of_a_graph_give_the_bits_of_calls():
    torch = pytest.importorskip("torch", reason="captures with torch, which is not installed")
    host = arrays(0)
    params = {name: torch.tensor(value, device="cuda") for name, value in host.items()}
    grads = {name: torch.tensor(value, device="cuda") for name, value in arrays(1).items()}
    a, b = fastoptim.Adam(), fastoptim.Adam(capturable=True)
    b.update(params, grads)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        b.update(params, grads, stream=torch.cuda.current_stream())
    for _ in range(9):
        graph.replay()
    torch.cuda.synchronize()
    for _ in range(10):
        a.update(host, arrays(1))
    for name, value in host.items():
        assert_same_bits(params[name].cpu().numpy(), value)
    assert b.iter == 10


@hardware
def test_out_of_memory_leaves_everything_as_it_was():
    free, _ = cuda.current_context().get_memory_info()
    p = cuda.device_array(int(free * 0.3) // 4, np.float32)
    opt = fastoptim.Adam()
    with pytest.raises(Exception, match=r"(?i)memory"):
        opt.update({"p": p}, {"p": p})
    assert opt.iter == 0
    assert not opt.state["m"]


def test_numba_is_the_one_of_nvidia():
    assert numba.cuda.implementation == "NVIDIA"
