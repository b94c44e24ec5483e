"""Threads and forks: two optimizers at once on every threading layer, and children of a parent that has trained.

All that takes time into account stands in this file, as files are what run beside each other.
"""

import os
import time

import numba
import numpy as np
import pytest

import fastoptim
from fastoptim.kernels import threads
from internals import SERIAL_LIMIT, delay_parallel_updates, forget_waits, updates_to_be_made_alone
from support import python

LAYERS = ["omp", "workqueue", "tbb"]
SETUP = """
import os, sys, threading
import numpy as np
import numba, fastoptim
numba.set_num_threads(2)

def train(seed, steps=30, cls=fastoptim.Adam):
    rng = np.random.default_rng(seed)
    params = {"W": rng.standard_normal((300, 300), dtype=np.float32), "b": rng.standard_normal(200)}
    opt = cls()
    for _ in range(steps):
        opt.update(params, {k: rng.standard_normal(v.shape).astype(v.dtype) for k, v in params.items()})
    return b"".join(v.tobytes() for v in params.values())
"""


def available(layer):
    if layer == "tbb":
        try:
            from numba.np.ufunc import tbbpool  # noqa: F401  # imported to see whether the library is there
        except ImportError:
            return False
    return True


layers = pytest.mark.parametrize(
    "layer",
    [
        pytest.param(layer, marks=pytest.mark.skipif(not available(layer), reason="numba finds no TBB library here"))
        for layer in LAYERS
    ],
)
needs_threads = pytest.mark.skipif(os.cpu_count() == 1, reason="numba has one thread here and never enters OpenMP")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@layers
@needs_threads
def test_two_optimizers_in_two_threads(layer):
    code = """
expected = [train(seed) for seed in range(4)] if sys.argv[1] == "warm" else None
results = [None] * 4
def work(i):
    results[i] = train(i)
threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
for t in threads: t.start()
for t in threads: t.join()
expected = expected or [train(seed) for seed in range(4)]
print(results == expected, numba.threading_layer())
"""
    for start in "warm", "cold":  # cold: the first launch of all, which chooses the layer, is itself in two threads
        assert python(SETUP + code, start, NUMBA_THREADING_LAYER=layer).split() == ["True", layer]


@needs_threads
def test_kernels_let_go_of_the_gil():
    code = """
params = {"W": np.ones(30_000_000, np.float32)}
grads = {"W": np.ones(30_000_000, np.float32)}
opt = fastoptim.Adam()
opt.update(params, grads)
ticks, stop = [0], threading.Event()
def tick():
    while not stop.is_set():
        ticks[0] += 1
        stop.wait(0.0005)
thread = threading.Thread(target=tick)
thread.start()
sys.setswitchinterval(60)  # nobody is asked to hand over the GIL: the ticks there are, the kernels let through
for _ in range(20): opt.update(params, grads)
seen = ticks[0]
stop.set()
thread.join()
print(seen)
"""
    assert int(python(SETUP + code)) >= 20


@needs_fork
@layers
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_trains_after_its_parent_has(layer):
    code = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of any fork with threads
expected = train(0)
children = []
for i in range(2):
    pid = os.fork()
    if pid == 0:
        results = []
        thread = threading.Thread(target=lambda: results.append(train(0)))
        thread.start(); thread.join()
        os._exit(0 if train(0) == expected == results[0] else 1)
    children.append(pid)
print([os.waitpid(pid, 0)[1] for pid in children], train(0) == expected, numba.threading_layer())
"""
    assert python(SETUP + code, NUMBA_THREADING_LAYER=layer) == f"[0, 0] True {layer}\n"


@needs_fork
def test_a_child_of_a_child_and_a_pool():
    code = """
import multiprocessing, warnings
warnings.simplefilter("ignore", DeprecationWarning)
expected = train(7)
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(all(result == expected for result in pool.map(train, [7, 7, 7])))
"""
    assert python(SETUP + code) == "True\n"


def test_threads_that_numba_was_given_are_used():
    assert numba.get_num_threads() >= 1
    code = """
from internals import never_go_on_alone, spy_on_workers
never_go_on_alone()
calls = spy_on_workers()
train(0, 1)
numba.set_num_threads(1)
train(0, 1)
print(calls)
"""
    assert python(SETUP + code, NUMBA_NUM_THREADS="2") == "[2]\n"


SMALL, LARGE = SERIAL_LIMIT + 1, 5_000_000  # elements


@pytest.mark.parametrize("elements", [SMALL, LARGE])
def test_after_a_long_wait_for_a_core_one_thread_goes_on_alone(elements, monkeypatch):
    """At small sizes a millisecond is long; at large ones, much more than one thread is known to need."""
    forget_waits(monkeypatch)
    monkeypatch.setattr(numba, "get_num_threads", lambda: 2)
    times = {"serial": 1e-9 * elements, "parallel": 0.0}
    now, calls = [0.0], []
    monkeypatch.setattr(threads, "perf_counter", lambda: now[0])

    def called(kind):
        calls.append(kind)
        now[0] += times[kind]

    def update(count):
        del calls[:]
        for _ in range(count):
            threads.run(lambda *_: called("serial"), lambda *_: called("parallel"), 0, 0, elements)
        return calls

    times["parallel"] = 0.6e-9 * elements
    assert update(2) == ["parallel"] * 2
    for wait in (threads.PATIENCE[0], 2 * threads.PATIENCE[0]):
        times["parallel"] = 0.01 + 10e-9 * elements
        assert update(1) == ["parallel"]
        times["parallel"] = 0.6e-9 * elements
        assert update(wait) == ["serial"] * wait
    assert update(2) == ["parallel"] * 2  # and as this went well, patience is as short as at first
    times["parallel"] = 0.01 + 10e-9 * elements
    update(1)
    assert updates_to_be_made_alone() == threads.PATIENCE[0]


def test_a_large_update_takes_its_time(monkeypatch):
    """More than a millisecond is no wait where one thread would need as long."""
    forget_waits(monkeypatch)
    monkeypatch.setattr(numba, "get_num_threads", lambda: 2)
    now = [0.0]
    monkeypatch.setattr(threads, "perf_counter", lambda: now[0])
    for _ in range(3):
        threads.run(None, lambda *_: now.__setitem__(0, now[0] + 1e-9 * LARGE), 0, 0, LARGE)
    assert updates_to_be_made_alone() == 0


def test_a_region_that_waits_is_noticed(monkeypatch):
    monkeypatch.setattr(numba, "get_num_threads", lambda: 2)
    p = {"p": np.zeros(SERIAL_LIMIT + 1, np.float32)}
    opt = fastoptim.SGD()
    opt.update(p, p)
    forget_waits(monkeypatch)  # also of this update, which a busy machine may have delayed
    delay_parallel_updates(monkeypatch, lambda: time.sleep(3 * threads.WAIT))
    opt.update(p, p)
    assert updates_to_be_made_alone() > 0
