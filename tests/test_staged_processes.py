"""Staged copies and the launcher in threads, in forked children, and in processes with one thread."""

import os

import pytest

from support import python

SETUP = """
import os, sys, threading, warnings
import numpy as np
import numba, fastoptim
from internals import never_go_on_alone
warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of any fork with threads
never_go_on_alone()
if numba.config.NUMBA_NUM_THREADS > 1:
    numba.set_num_threads(2)

def train(seed, dense=False, steps=12, **options):
    '''With parameters and gradients that are staged, small ones and large ones, or with dense ones.'''
    rng = np.random.default_rng(seed)
    shapes = {"W": (301, 97), "T": (40, 30, 31), "b": (200,)}
    gaps, backwards = lambda a: np.repeat(a, 2, axis=2)[..., ::2], lambda a: a[::-1].copy()[::-1]
    make = {"W": np.asfortranarray, "T": gaps, "b": backwards}
    params = {k: rng.standard_normal(s).astype("f4") for k, s in shapes.items()}
    if not dense:
        params = {k: make[k](p) for k, p in params.items()}
    opt = fastoptim.Adam(clip_norm=0.5, ema=0.75, zero_grads=True, **options)
    for step in range(steps):
        grads = {k: rng.standard_normal(s).astype("f4") for k, s in shapes.items()}
        if not dense:
            others = {k: make["WTb"[(i + 1) % 3]] for i, k in enumerate(grads)}
            grads = {k: others[k](g) if g.ndim > 2 else g.astype("f8") for k, g in grads.items()}
        opt.update(params, grads)
        assert not any(g.any() for g in grads.values())
    averages = opt.averages
    return b"".join(p.tobytes() + averages[k].tobytes() for k, p in params.items()), opt.grad_norm
"""
LAYERS = ["omp", "workqueue"]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("start", ["warm", "cold"])
def test_optimizers_in_threads(layer, start):
    code = """
expected = [train(seed, dense=True) for seed in range(4)] if sys.argv[1] == "warm" else None
results = [None] * 4
def work(i):
    results[i] = train(i)
threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
for t in threads: t.start()
for t in threads: t.join()
print(results == (expected or [train(seed, dense=True) for seed in range(4)]))
"""
    assert python(SETUP + code, start, NUMBA_THREADING_LAYER=layer) == "True\n"


@needs_fork
@pytest.mark.parametrize("layer", LAYERS)
def test_a_forked_child(layer):
    code = """
expected = train(0)
assert expected == train(0, dense=True)
children = []
for i in range(2):
    pid = os.fork()
    if pid == 0:
        results = []
        thread = threading.Thread(target=lambda: results.append(train(0)))
        thread.start(); thread.join()
        os._exit(0 if train(0) == expected == results[0] else 1)
    children.append(pid)
print([os.waitpid(pid, 0)[1] for pid in children], train(0) == expected)
"""
    assert python(SETUP + code, NUMBA_THREADING_LAYER=layer) == "[0, 0] True\n"


@needs_fork
def test_a_child_that_goes_on_with_its_parents_optimizer():
    """A bound step is good in the child, too: it has the same addresses, of memory of its own."""
    code = """
def go_on(opt, params, seed):
    rng = np.random.default_rng(seed)
    for _ in range(5):
        opt.update(params, {k: np.asfortranarray(rng.standard_normal(p.shape)) for k, p in params.items()})
    return params["W"].tobytes() + params["b"].tobytes()

def start():
    return {"W": np.ones((301, 97), "f4"), "b": np.ones(20_000, "f4")[::2]}, fastoptim.Adam(clip_norm=0.5)

params, opt = start()
go_on(opt, params, 0)
pid = os.fork()
mine = go_on(opt, params, 1)
theirs, twin = start()
go_on(twin, theirs, 0)
same = go_on(twin, theirs, 1) == mine
if pid == 0:
    os._exit(0 if same else 1)
print(os.waitpid(pid, 0)[1], same)
"""
    assert python(SETUP + code) == "0 True\n"


def test_a_process_with_one_thread_and_with_more():
    code = """
import hashlib
for options in {}, {"accumulate": 2}, {"skip_nonfinite": True}:
    print(*(hashlib.sha1(train(3, dense, **options)[0]).hexdigest() for dense in (False, True)))
"""
    said = {python(SETUP + code, NUMBA_NUM_THREADS=n) for n in "125"}
    assert len(said) == 1
    assert all(len(set(line.split())) == 1 for line in said.pop().splitlines())


def test_one_thread_never_enters_a_parallel_region():
    code = """
from internals import spy_on_workers
calls = spy_on_workers()
train(0)
print(calls)
"""
    assert python(SETUP + code, NUMBA_NUM_THREADS="1") == "[]\n"
    assert set(eval(python(SETUP + code, NUMBA_NUM_THREADS="2"))) == {2}


def test_threads_that_are_limited_in_one_python_thread():
    """The number of threads is that of the Python thread that calls."""
    code = """
expected = train(5)
results = []
def work():
    numba.set_num_threads(1)
    results.append(train(5))
thread = threading.Thread(target=work)
thread.start(); mine = train(5); thread.join()
print(mine == expected == results[0], numba.get_num_threads())
"""
    assert python(SETUP + code, NUMBA_NUM_THREADS="2") == "True 2\n"
