"""The file that replaces another one in one moment, and what writers that were killed have left behind."""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

TEMPORARY = r"\.fastoptim-([0-9a-f]{12})-([0-9]{1,9})-[0-9a-f]{16}\.tmp"  # machine and process id
FIRST_NAMESPACE = "pid:[4026531836]"  # Linux: where process ids are those of the machine, not of a container


@contextlib.contextmanager
def replacing(path: str) -> Iterator[int]:
    """A new file to write to. It takes the place of another one, or of none, if everything went well."""
    folder = os.path.dirname(path)
    try:
        old = os.stat(path)
    except FileNotFoundError:
        old = None
    if old is not None and not stat.S_ISREG(old.st_mode):
        raise OSError(errno.EISDIR if stat.S_ISDIR(old.st_mode) else errno.EEXIST, "expected a file or nothing", path)
    if old is not None and not os.access(path, os.W_OK):  # a rename would not mind
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    remove_leftovers(folder)  # first, as they may fill the disk
    beside = os.path.join(folder, f".fastoptim-{_machine()}-{os.getpid()}-{secrets.token_hex(8)}.tmp")
    try:
        file = _created(beside, folder)
        try:
            if old is not None:
                os.chmod(beside, stat.S_IMODE(old.st_mode))
            yield file
            os.fsync(file)
        finally:
            os.close(file)
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
    _sync_folder(folder)


def remove_leftovers(folder: str) -> None:
    """Remove the temporary files of this machine's processes that are no more.

    Those of other machines stay, as nobody here knows whether their processes live, and so do those whose process id is
    in use again. A file that cannot be removed is no reason not to save.
    """
    if os.name != "posix":  # elsewhere, to ask for a process by its id may end it
        return
    machine = _machine()
    with contextlib.suppress(OSError), os.scandir(folder) as names:
        for name in names:
            found = re.fullmatch(TEMPORARY, name.name)
            if found and found[1] == machine and not _is_alive(int(found[2])):
                with contextlib.suppress(OSError):
                    os.unlink(name.path)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 asks, and does nothing
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to somebody else
        return True
    return True


def _machine() -> str:
    """A tag that only those processes share which see each other's ids: the same machine and the same container."""
    known = [os.fsencode(socket.gethostname())]
    with contextlib.suppress(OSError):
        known.append(Path("/etc/machine-id").read_bytes())
    with contextlib.suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
        if namespace != FIRST_NAMESPACE:  # containers of different machines may look alike but for this
            known += [namespace.encode(), Path("/proc/sys/kernel/random/boot_id").read_bytes()]
    return hashlib.sha256(b"\n".join(known)).hexdigest()[:12]


def _created(path: str, folder: str) -> int:
    """A new file. Errors name the folder, as nobody has asked for a file of this name."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        return os.open(path, flags, 0o666)  # less the umask
    except OSError as error:
        raise OSError(error.errno, error.strerror, folder) from None


def _sync_folder(folder: str) -> None:
    """Have a new name on the disk, too, where systems know that: Windows does not, nor do some network drives."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)
