"""Writers of checkpoints that fail or are killed: the old file or the new one, whole, and nothing else for long."""

import contextlib
import errno
import os
import random as chance
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
from checkpoint_support import FakeOptimizer, assert_loads, example

from fastoptim.checkpoint import load, pieces, save
from fastoptim.checkpoint.files import remove_leftovers
from support import ROOT, assert_same_bits, python

pytest.importorskip("safetensors")
needs_posix = pytest.mark.skipif(os.name != "posix", reason="signals and processes as POSIX has them")

# Each call to the system is a moment at which something may happen.
CALLS = ["open", "chmod", "write", "lseek", "posix_fadvise", "fsync", "close", "replace"]


class Moments:
    """Counts the calls to the system, and does something at the n-th, or after half of what it was to write."""

    def __init__(self, at, happens, after=False):
        self.at, self.happens, self.after = at, happens, after
        self.calls, self.done = [], []

    def install(self, setattr=setattr):
        for name in CALLS:
            if hasattr(os, name):
                setattr(os, name, self.wrap(getattr(os, name), name))

    def wrap(self, function, name):
        def call(*args, **kwargs):
            self.calls.append(name)
            now = len(self.calls) == self.at
            if now and self.after and name == "write":
                function(args[0], args[1][: len(args[1]) // 2])
            elif self.after or not now:
                result = function(*args, **kwargs)
                self.done.append(name)
            return self.happens() if now else result

        return call


def old_and_new():
    return example(1.0, 300), example(2.0, 400)


def write(path, params, state):
    before, pieces.PIECE = pieces.PIECE, 1 << 10
    try:
        save(path, params, FakeOptimizer(state), fill=float(params["b"][0]))
    finally:
        pieces.PIECE = before


def leftovers(folder):
    return {name for name in os.listdir(folder) if name.endswith(".tmp")}


def moments_of_a_save(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        counting = Moments(0, None)
        counting.install(patched.setattr)
        write(tmp_path / "count", *old_and_new()[1])
        return len(counting.calls)


@needs_posix
def test_a_writer_killed_at_any_moment_leaves_the_old_or_the_new_file(tmp_path, monkeypatch):
    (old, old_state), (new, new_state) = old_and_new()
    total = moments_of_a_save(tmp_path, monkeypatch)
    assert total > 40
    code = f"""
import sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forks
import os, signal
from pathlib import Path
from test_checkpoint_crash import Moments, old_and_new, write
folder = Path(sys.argv[1])
(old, old_state), (new, new_state) = old_and_new()
for at in range(1, {total} + 1):
    for after in False, True:
        path = folder / f"{{at}}-{{after}}"
        write(path, old, old_state)
        pid = os.fork()
        if pid == 0:
            Moments(at, lambda: os.kill(os.getpid(), signal.SIGKILL), after).install()
            write(path, new, new_state)
            os._exit(7)
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
"""
    folder = tmp_path / "killed"
    folder.mkdir()
    python(code, folder)
    fills = []
    for at in range(1, total + 1):
        for after in False, True:
            path = folder / f"{at}-{after}"
            fills.append(load(path).metadata["fill"])
            expected = (new, new_state) if fills[-1] == 2 else (old, old_state)
            assert_loads(path, *expected, {"fill": fills[-1]})
    assert set(fills) == {1.0, 2.0}
    assert fills == sorted(fills)
    write(folder / "after", new, new_state)
    assert not leftovers(folder)
    assert len(os.listdir(folder)) == 2 * total + 1


@needs_posix
def test_a_writer_killed_at_random_times(tmp_path):
    path = tmp_path / "a"
    code = """
import sys, time
import numpy as np
from fastoptim.checkpoint import save
fill = 0
while True:
    fill += 1
    save(sys.argv[1], {str(i): np.full((50 + fill % 7, 2000), fill, np.float32).T for i in range(8)}, fill=fill)
    print(fill, flush=True)
"""
    rng = chance.Random(0)
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        saved = int(writer.stdout.readline())
        time.sleep(rng.random() * 0.5)
        writer.send_signal(signal.SIGKILL)
        done = [saved, *map(int, writer.stdout.read().split())]
        writer.wait()
        writer.stdout.close()
        fill = load(path).metadata["fill"]
        assert fill in (done[-1], done[-1] + 1)
        for i, array in load(path).params.items():
            assert_same_bits(array, np.full((2000, 50 + fill % 7), fill, np.float32), i)


@pytest.mark.parametrize("kind", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("after", [False, True])
def test_a_failing_writer_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, kind, after):
    (old, old_state), (new, new_state) = old_and_new()
    total = moments_of_a_save(tmp_path, monkeypatch)
    folder = tmp_path / "failed"
    folder.mkdir()

    def fail():
        raise kind

    for at in range(1, total + 1):
        write(folder / "a", old, old_state)
        moments, raised = Moments(at, fail, after), False
        with monkeypatch.context() as patched:
            moments.install(patched.setattr)
            try:
                write(folder / "a", new, new_state)
            except type(kind):
                raised = True
        advice = moments.calls[at - 1] in ("lseek", "posix_fadvise")  # which may fail where the system knows none
        assert raised or (advice and isinstance(kind, OSError)), moments.calls
        assert os.listdir(folder) == ["a"], moments.calls
        fill = 2.0 if "replace" in moments.done else 1.0
        expected = (new, new_state) if fill == 2.0 else (old, old_state)
        assert_loads(folder / "a", *expected, {"fill": fill})


def test_a_system_that_writes_a_part_of_what_it_is_given(tmp_path, monkeypatch):
    params, state = example()
    whole = os.write
    monkeypatch.setattr(os, "write", lambda file, content: whole(file, content[:100]))
    save(tmp_path / "a", params, FakeOptimizer(state))
    assert_loads(tmp_path / "a", params, state, {})


@needs_posix
def test_the_file_is_synced_before_it_is_renamed_and_its_folder_after(tmp_path, monkeypatch):
    seen = []

    def spied(name, function):
        def call(*args):
            folder = name == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode)
            seen.append("fsync folder" if folder else name)
            return function(*args)

        return call

    for name in "write", "fsync", "replace":
        monkeypatch.setattr(os, name, spied(name, getattr(os, name)))
    save(tmp_path / "a", {"W": np.ones(3)})
    assert seen == ["write"] * 3 + ["fsync", "replace", "fsync folder"]


# What killed writers have left behind

STOPPED = """
import os, sys
import numpy as np
from fastoptim.checkpoint import save
def stop(file):
    print("amid", flush=True)
    sys.stdin.read()
os.fsync = stop
save(sys.argv[1], {"W": np.ones(1000)})
"""


@contextlib.contextmanager
def a_writer_amid_its_work(path):
    """A process that has written its temporary file, and waits."""
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as writer:  # fmt: skip
        try:
            assert writer.stdout.readline() == "amid\n"
            yield writer
        finally:
            writer.kill()


@needs_posix
def test_the_next_save_removes_what_killed_writers_have_left_and_nothing_of_living_ones(tmp_path):
    with a_writer_amid_its_work(tmp_path / "a") as living:
        with a_writer_amid_its_work(tmp_path / "a") as killed:
            both = leftovers(tmp_path)
            save(tmp_path / "b", {})
            assert leftovers(tmp_path) == both
        assert killed.returncode == -signal.SIGKILL
        assert leftovers(tmp_path) == both
        save(tmp_path / "b", {})
        kept = leftovers(tmp_path)
        assert len(both) == 2
        assert [f"-{living.pid}-" in name for name in kept] == [True]
        living.communicate("")
        assert_loads(tmp_path / "a", {"W": np.ones(1000)}, None, {})
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


@needs_posix
def test_files_that_may_be_somebody_elses_are_not_removed(tmp_path, monkeypatch):
    with a_writer_amid_its_work(tmp_path / "a"):
        pass
    (left,) = leftovers(tmp_path)
    machine, process, rest = left.removeprefix(".fastoptim-").split("-")
    others = {
        f".fastoptim-{'0' * 12}-{process}-{rest}",  # of another machine
        f".fastoptim-{machine}-{os.getpid()}-{rest}",  # of a process that lives
        f".fastoptim-{machine}-1-{rest}",  # as does this one, of another user maybe
        f".fastoptim-{machine}-{process}-{rest}.txt",
        f"x.fastoptim-{machine}-{process}-{rest}",
        f".fastoptim-{machine}-{'9' * 30}-{rest}",
        ".fastoptim-0123456789abcdef.tmp",
    }
    for name in others:
        (tmp_path / name).write_text("")
    save(tmp_path / "a", {})
    assert set(os.listdir(tmp_path)) == {"a", *others}
    (tmp_path / left).write_text("")
    monkeypatch.setattr(os, "name", "nt")  # where one cannot ask for a process by its id
    remove_leftovers(str(tmp_path))
    assert left in os.listdir(tmp_path)


@needs_posix
@pytest.mark.parametrize("call", ["scandir", "unlink", "kill"])
def test_what_cannot_be_looked_at_or_removed_is_no_reason_not_to_save(tmp_path, monkeypatch, call):
    with a_writer_amid_its_work(tmp_path / "a"):
        pass

    def fail(*args):
        raise PermissionError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, call, fail)
    save(tmp_path / "a", {"W": np.ones(3)})
    assert_loads(tmp_path / "a", {"W": np.ones(3)}, None, {})
    assert len(leftovers(tmp_path)) == 1


def test_an_error_names_the_folder_and_not_the_temporary_file(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError) as caught:
        save(tmp_path / "nowhere" / "a", {})
    assert caught.value.filename == str(tmp_path / "nowhere")
    assert str(caught.value) == f"[Errno 2] No such file or directory: '{tmp_path / 'nowhere'}'"
    opening = os.open

    def denied(path, flags, *mode):
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return opening(path, flags, *mode)

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(PermissionError) as caught:
        save(tmp_path / "a", {})
    assert caught.value.filename == str(tmp_path)
