"""What `load` returns, and the way from there into one's own arrays."""

from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from fastoptim.arrays.flat import FlatDict
from fastoptim.arrays.memory import HOST
from fastoptim.arrays.named import ByName, by_name
from fastoptim.arrays.overlap import check_apart
from fastoptim.checkpoint.stored import StoredArrays
from fastoptim.step.checks import as_param, infos_of


class Checkpoint(NamedTuple):
    """What a file holds. It was checked as a whole, and its arrays are read when they are asked for.

    The file stays open as long as the checkpoint, or a part of it, is in use, or until `close()` or the end of a `with`
    block. It may be replaced meanwhile, by `save`, say: the arrays are still those of the file that was loaded.

    Attributes:
        params: from name to array, in the order in which they were saved. Each access reads the array anew.
        optimizer: what `opt.state_dict()` returned, for `opt.load_state_dict`, with `StoredArray`s as its arrays
            (`np.asarray` reads one); None without an optimizer, or after `load(path, params_only=True)`.
        metadata: what was given to `save`.
    """

    params: StoredArrays
    optimizer: dict[str, Any] | None
    metadata: dict[str, Any]

    def restore(self, params: ByName, opt: Any = None, *, hyperparameters: bool = True, convert: bool = False) -> None:
        """Read the parameters into your own arrays, in place, and have the optimizer take its state.

        Args:
            params: the same names, in any order, to arrays of the same shapes and dtypes; or a `FlatDict`, which may be
                on a GPU; or a list or tuple, if one was saved.
            opt: an optimizer of the class that was saved.
            hyperparameters: whether the optimizer takes the file's hyperparameters, too. With False it keeps its own
                and takes the state and the counts alone.
            convert: with False before, whether state of another `state_dtype` or `master` is converted, see
                `Optimizer.load_state_dict`.

        Raises:
            KeyError: `params` lacks a name, or has one more.
            TypeError: `params` is no mapping, list or tuple, an array has another dtype, or `opt` has no
                `load_state_dict`.
            ValueError: an array has another shape, is read-only or shares memory with another one; or there is no
                state of an optimizer here. What `opt.load_state_dict` refuses is raised, too. After any of these
                nothing has changed.
            CheckpointError, OSError: the file was changed after it was loaded, or can no longer be read. The arrays
                that were being read may hold anything then.
        """
        params = by_name(params, "params")
        for some, what, others, which in (
            (params, "params", self.params, "the checkpoint"),
            (self.params, "the checkpoint", params, "params"),
        ):
            for name in others:
                if name not in some:
                    names = ", ".join(map(repr, some)) or "none"
                    raise KeyError(f"{what} has no {name!r}, which {which} has; its names are {names}")
        arrays = [params[name] for name in self.params]
        memory = params.memory if isinstance(params, FlatDict) else HOST
        if memory is HOST:
            arrays = list(map(as_param, arrays, self.params))
            infos, _ = infos_of(list(self.params), arrays, arrays)
            check_apart(list(self.params), infos, infos)
        stored = [self.params.stored(name) for name in self.params]
        for name, saved, array in zip(self.params, stored, arrays, strict=True):
            if array.dtype != saved.dtype:
                raise TypeError(f"params[{name!r}]: expected the checkpoint's dtype {saved.dtype}, got {array.dtype}")
            if tuple(array.shape) != saved.shape:
                raise ValueError(f"params[{name!r}]: expected the checkpoint's shape {saved.shape}, got {array.shape}")
        if opt is not None:
            self._load_optimizer(opt, hyperparameters, convert)  # before the parameters, as it may refuse the state
        for saved, array in zip(stored, arrays, strict=True):
            if memory is HOST:
                saved.read_into(array)
            else:
                memory.write(array, np.asarray(saved))

    def _load_optimizer(self, opt: Any, hyperparameters: bool, convert: bool) -> None:
        if not hasattr(opt, "load_state_dict"):
            raise TypeError(f"opt: expected an optimizer, got {type(opt).__name__}, which has no load_state_dict")
        if self.optimizer is None:
            raise ValueError(
                "the checkpoint was saved without an optimizer, or loaded with params_only=True: "
                "expected restore(params)"
            )
        others = {"hyperparameters": False} if not hyperparameters else {}
        others |= {"convert": True} if convert else {}
        opt.load_state_dict(self.optimizer, **others)

    def close(self) -> None:
        """Close the file. What has not been read cannot be read any more."""
        self.params.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
