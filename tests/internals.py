"""All that tests know of the package's private parts, in one place: whoever changes those, changes this file alone."""

import math
from contextlib import contextmanager

import numba
import numpy as np
import pytest

from fastoptim.arrays.memory import HostMemory
from fastoptim.kernels import cpu, guard, launch, reduce, threads
from fastoptim.kernels.codes import BYTES
from fastoptim.kernels.fuse import NOTHING, Fused
from fastoptim.kernels.storage import storage_of
from fastoptim.settings.state_format import StateFormat
from fastoptim.step.host import HostEngine

# All that the kernels for a GPU have, too.
EVERY_OPTION = Fused(*(True,) * len(Fused._fields))._replace(compensation=False, copy=False, stochastic=False)
SERIAL_LIMIT = cpu.SERIAL_LIMIT  # elements, up to which one thread works alone


def bound_step(opt):
    """What an optimizer keeps for the next update of the same arrays; None where there is nothing yet."""
    return opt._stepper.steps._latest


def carried_by(opt):
    """The cohorts of names that carry the same."""
    return set(opt._stepper.counts._cohorts.values())


def has_state(opt):
    return bool(opt._stepper.store.slices)


def bytes_of_state(opt):
    """What the buffers of an optimizer's slots take."""
    return sum(row.nbytes for block in opt._stepper.store.blocks for row in block.rows)


def update_pass(cls, dtype=np.float32, fused=NOTHING):
    """The compiled function behind `update`, for one dtype."""
    kernels = cls.kernels.including(fused)
    operands = 2 + len(cls.slots) + fused.ema
    return kernels.on_cpu.pass_for((storage_of(np.dtype(dtype)),) * operands).dispatcher


def low_precision_pass(cls, dtype, fused=NOTHING):
    """The same, where parameter, gradient and state are of one dtype of 16 bits."""
    kernels = cls.kernels.including(fused)
    return kernels.on_cpu.pass_for((storage_of(dtype),) * (2 + len(cls.slots))).dispatcher


def eight_bit_pass(cls, fused=NOTHING):
    """The same for float32 with a state of 8 bits."""
    slots = StateFormat(BYTES, frozenset(cls.nonnegative_slots), frozenset(cls.parameter_slots))
    storages = [slots.storage(slot, np.dtype(np.float32), True) for slot in cls.slots]
    kernels = cls.kernels.including(fused)
    return kernels.on_cpu.pass_for((storage_of(np.float32),) * 2 + tuple(storages)).dispatcher


def fused_of(opt):
    """The options that the passes of an optimizer's last step include."""
    return opt._stepper._plan.fused


def passes_of_sums(cls, dtype=np.float32, fused=NOTHING):
    """The compiled functions that sum over arrays before a rule: over blocks, and over arrays, of each reduction."""
    found, own = [], storage_of(np.dtype(dtype))
    for stage in cls.stages[:-1]:
        kernels = stage.including(fused).kernels
        found += [
            kernels.on_blocks.pass_for((own,) * (2 + len(cls.slots) + fused.ema)),
            kernels.on_totals.pass_for(own),
        ]
    return [each.dispatcher for each in found]


def argument_guard():
    """The compiled function that looks whether the arrays of an update are those of the last one."""
    return guard.accept_arrays


def dispatchers(cls):
    """All compiled functions behind an optimizer's updates and public kernels."""
    own, operands = [], 2 + len(cls.slots)
    for dtype in (np.float32, np.float64):
        own += [*passes_of_sums(cls, dtype), *cls.kernels.on_cpu.dispatchers_for(np.dtype(dtype), operands)]
    return [*dict.fromkeys(own), guard.accept_arrays, launch.run_serial, launch.run_parallel]


def hits_and_misses(*kernels):
    """How many of each kernel's signatures came from numba's cache, and behind them how many were compiled."""
    hits = [sum(kernel.stats.cache_hits.values()) for kernel in kernels]
    return *hits, *(sum(kernel.stats.cache_misses.values()) for kernel in kernels)


def assembly_of(dispatcher):
    """A pass's, compiled anew, as what comes from the cache has none."""
    anew = numba.jit(dispatcher.py_func, **dispatcher.targetoptions)
    anew.compile(launch.SIGNATURE)
    return "\n".join(anew.inspect_asm().values())


def scalar_count(cls, fused=NOTHING):
    return cls.kernels.including(fused).scalar_count


def assembly_of_the_norm(dtype):
    return assembly_of(reduce.pass_for(storage_of(np.dtype(dtype))).dispatcher)


def count_rows(monkeypatch):
    """A list that grows by the number of segments in each update."""
    rows, run = [], HostEngine.run

    def counting(engine, *arguments):
        rows.append(sum(len(table.rows) for table in engine._tables))
        run(engine, *arguments)

    monkeypatch.setattr(HostEngine, "run", counting)
    # the short way of steps that need the rule's numbers alone
    calls = lambda engine: ((lambda *numbers: engine.set_scalars(numbers)), engine.run)  # noqa: E731
    monkeypatch.setattr(HostEngine, "plain_calls", calls)
    return rows


class SpyOnWorkers:
    """Stands before the parallel launcher, and keeps the number of threads of each call."""

    def __init__(self, launcher):
        self.launcher, self.calls = launcher, []

    def compile(self, signature):
        self.launcher.compile(signature)

    def __call__(self, words, workers):
        self.calls.append(workers)
        self.launcher(words, workers)


def spy_on_workers():
    """A list that grows by the number of threads of each parallel launch, from now on."""
    launch.run_parallel = spy = SpyOnWorkers(launch.run_parallel)
    return spy.calls


def delay_parallel_updates(monkeypatch, before):
    """Have `before()` called in each parallel launch, within the time that is taken of it."""
    parallel = launch.run_parallel
    monkeypatch.setattr(launch, "run_parallel", Delayed(parallel, before))


class Delayed:
    def __init__(self, parallel, before):
        self.parallel, self.before = parallel, before

    def compile(self, signature):
        self.parallel.compile(signature)

    def __call__(self, *arguments):
        self.before()
        self.parallel(*arguments)


def divide_work_among(count, monkeypatch):
    """As if numba had been given so many threads."""
    monkeypatch.setattr(numba, "get_num_threads", lambda: count)


def never_go_on_alone(monkeypatch=None):
    """Use all threads on a busy machine, too: from now on, or as long as the patch lasts."""
    (monkeypatch or pytest.MonkeyPatch()).setattr(threads, "WAIT", math.inf)


def forget_waits(monkeypatch):
    """As if no parallel region had had to wait yet; what is learned is forgotten after the test."""
    monkeypatch.setattr(threads, "_contention", {})


def updates_to_be_made_alone():
    return max((known.alone for known in threads._contention.values()), default=0)


@contextmanager
def interrupted_copies(monkeypatch, after):
    """A KeyboardInterrupt once so many arrays or sets of arrays have been copied."""
    copies, copy = [], HostMemory.copy

    def interrupted(memory, pairs):
        copy(memory, pairs)
        copies.append(1)
        if len(copies) == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(HostMemory, "copy", interrupted)
        yield
