"""`numba.njit` as all kernels use it, with a cache that many processes may fill, at once and with different rules."""

import hashlib
from typing import Any

from numba import config, njit
from numba.core.caching import IndexDataCacheFile
from numba.extending import register_jitable

from fastoptim.kernels.notice import announce

READABLE = 120  # characters of a function's name in that of its file, of which systems allow 255 in all


def name_apart(function: Any, *content: object) -> None:
    """Add to a function's name what it was made for.

    The symbols of compiled code are made of the function's name, its argument types and a number that counts functions
    in the process. Two closures of one name, compiled in different processes, may so have one symbol; a third process
    that loads both from the cache would run the first one's code for both.
    """
    suffix = "_".join(map(str, content))
    function.__name__, function.__qualname__ = f"{function.__name__}_{suffix}", f"{function.__qualname__}_{suffix}"


def jitable(*content: object) -> Any:
    """`register_jitable` for a closure that is all the same for the same `content`."""

    def register(function: Any) -> Any:
        name_apart(function, *content)
        return register_jitable(function)

    return register


def compiled(function: Any, what: str, **options: Any) -> Any:
    """Compile with IEEE arithmetic and no branch at a division, without the GIL, into numba's cache if there is one.

    Args:
        function: what is compiled when it is first called, or when its `compile` is.
        what: a description of it for the log.
        options: of `numba.njit`.
    """
    if config.DISABLE_JIT:
        raise RuntimeError("fastoptim is nothing without numba's compiler: expected NUMBA_DISABLE_JIT not to be set")
    options = {"nogil": True, "error_model": "numpy", **options}
    try:
        dispatcher = njit(function, cache=True, **options)
    except RuntimeError:  # neither the package's folder nor the user's cache folder can be written
        dispatcher = njit(function, **options)
    else:
        cache = dispatcher._cache  # noqa: SLF001  # numba has no other way to a cache of one's own
        own = cache._impl  # noqa: SLF001  # as above
        file = _FileForEachKey(cache.cache_path, own.filename_base, own.locator.get_source_stamp())
        cache._cache_file = file  # noqa: SLF001  # as above
    announce(dispatcher, what)
    return dispatcher


class _FileForEachKey(IndexDataCacheFile):  # type: ignore[misc]  # numba's class is Any to mypy
    """Numba's cache with a file for each compiled function, named by all that it depends on, and no index.

    Numba numbers a function's files and keeps an index of the numbers. All rules share one function here, so that two
    processes that compile at the same time would give one number to two kernels, and one of them would run the other's
    code: another optimizer, or one for another dtype. (It writes the index before the file, too, which is then read as
    an older file of the same number.)
    """

    def save(self, key: Any, data: Any) -> None:
        self._save_data(self._file_name(key), data)

    def load(self, key: Any) -> Any:
        try:
            return self._load_data(self._file_name(key))
        except Exception:  # not there, not to be read, or cut short by a crash: all the same, it is compiled anew
            return None

    def flush(self) -> None:
        """Nothing is there to forget: an outdated file's name is never asked for."""

    def _file_name(self, key: Any) -> str:
        # The function and Python's version; the types of the arguments, the processor, the code with its closure; numba
        # and the file's date.
        everything = repr((self._index_name, key, self._version, self._source_stamp))
        name = self._index_name.removesuffix(".nbi")[:READABLE]
        return f"{name}.{hashlib.sha256(everything.encode()).hexdigest()[:32]}.nbc"
