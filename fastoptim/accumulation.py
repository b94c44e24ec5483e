"""Steps on the mean gradient of several calls: the sums are parameters themselves, to which gradients are added."""

from collections.abc import Mapping
from operator import is_
from typing import TYPE_CHECKING, Any

from fastoptim.buffers import HOST, FlatDict, Memory, memory_of, memory_order
from fastoptim.checks import as_gradient, check_gradient, check_mappings, check_overlaps, check_params, on_device
from fastoptim.passes import Add, Clear, following
from fastoptim.state import State

if TYPE_CHECKING:
    from fastoptim.steps import Steps


class Accumulation:
    """The sums of gradients since the last step.

    Attributes:
        sums: by name, or None before the first call.
        calls: how many calls they are of.
    """

    def __init__(self) -> None:
        self.sums: FlatDict | None = None
        self.calls = 0
        self._had: set[Any] = set()  # the names that had a gradient in one of them
        self._adder = Add()
        self._apart: list[Any] = []  # parameters and gradients that were found to share no memory

    @classmethod
    def of(cls, sums: FlatDict, calls: int) -> "Accumulation":
        """With sums that were made before."""
        made = cls()
        made.sums, made.calls, made._had = sums, calls, set(sums)
        return made

    def update(self, opt: "Steps", params: Mapping[Any, Any], grads: Mapping[Any, Any], stream: Any) -> None:
        """Add gradients to the sums; with those of the last of `opt.accumulate` calls, make the step."""
        check_mappings(params, grads)
        grads = {name: grads[name] for name in params} if type(grads) is not FlatDict else grads
        sums = self._sums_for(params)
        own: Any = sums
        if type(params) is not FlatDict or params.layout is not sums.layout:
            own = {name: sums[name] for name in params}
        had = self._had.union(name for name in params if grads[name] is not None)
        of_step = own if had.issuperset(params) else {name: own[name] if name in had else None for name in params}
        opt._prepare(params, of_step)  # whatever is wrong with the parameters is found before anything is added
        adder = self._adder
        for name in "grad_scale", "zero_grads", "skip_nonfinite":
            if getattr(adder, name) != (value := getattr(opt, name)):
                setattr(adder, name, value)
        if opt.zero_grads:
            self._check_apart(params, grads)
        skipped = adder.skipped
        adder.update(own, grads, stream=stream)
        self.sums = sums
        if adder.skipped > skipped:
            opt.skipped += 1
            return
        self.calls, self._had = self.calls + 1, had
        if self.calls >= opt.accumulate:
            opt._step(params, of_step, stream)  # which sets the sums to zero that it takes
            gone = {name: sums[name] for name in had if name not in params}
            Clear().update(gone, gone, stream=stream)
            self.calls, self._had = 0, set()

    def _check_apart(self, params: Mapping[Any, Any], grads: Mapping[Any, Any]) -> None:
        """Refuse gradients that share memory with a parameter: the adder knows of the sums alone."""
        pairs = {name: (param, grads[name]) for name, param in params.items()}
        arrays = [x for pair in pairs.values() for x in pair]
        if len(arrays) == len(self._apart) and all(map(is_, arrays, self._apart)):
            return
        there = {name: pair for name, pair in pairs.items() if pair[1] is not None}
        own, given = tuple(p for p, _ in there.values()), tuple(g for _, g in there.values())
        if any(map(on_device, own + given)):
            from fastoptim import device  # imported when it is asked for, as it takes a second

            device.check(tuple(there), own, given, State(()), zeroing=True)
        else:
            given = tuple(map(as_gradient, given, there))
            for name, param, grad in zip(there, own, given, strict=True):
                check_gradient(name, grad, param)
            check_overlaps(tuple(there), own, given, zeroing=True)
        self._apart = arrays

    def _sums_for(self, params: Mapping[Any, Any]) -> FlatDict:
        """The sums, with zeros for parameters that are new."""
        sums = self.sums
        alike = sums is not None and (type(params) is not FlatDict or params.layout is sums.layout)
        if sums is not None and alike and params.keys() <= sums.keys():
            return sums
        names, own = tuple(params), tuple(params.values())
        if any(map(on_device, own)):
            from fastoptim.kernels.cuda_launch import described  # imported when it is asked for, as it takes a second

            like: Any = [described(array, f"params[{name!r}]") for name, array in params.items()]
            memory = memory_of("cuda")
        else:
            check_params(names, own)
            like, memory = own, HOST
        arrays = {name: (x.dtype, x.shape, memory_order(x)) for name, x in zip(names, like, strict=True)}
        return following(sums, params, arrays, memory)

    def moved(self, memory: Memory) -> "Accumulation":
        """The same in a memory."""
        other = Accumulation()
        other.sums = None if self.sums is None else self.sums.moved(memory)
        other.calls, other._had = self.calls, set(self._had)
        return other

    def __getstate__(self) -> dict[str, Any]:
        # for pickle and copy.deepcopy: other people's arrays are not ours to copy
        return {**self.__dict__, "_apart": []}

    def gradients(self) -> dict[Any, Any]:
        """The sums of the names that had a gradient since the last step."""
        return {} if self.sums is None else {name: array for name, array in self.sums.items() if name in self._had}
