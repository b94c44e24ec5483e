"""State that is not as long as a parameter: a number for each array, or one for each of its rows and columns."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from fastoptim.arrays.info import TensorInfo
from fastoptim.arrays.memory import Array, Memory
from fastoptim.state.saved import copy_from

Shape = tuple[int, ...]
# By slot: from a parameter's shape to that of the state, None for none.
Shapes = Mapping[str, Callable[[Shape], Shape | None]]


class ShapedState:
    """Arrays by slot and name, zeros at first, of their parameter's dtype.

    It does not change its names: `including` returns another one that shares its arrays.
    """

    def __init__(self, arrays: Mapping[str, Mapping[Any, Array]]) -> None:
        self._arrays = {slot: dict(own) for slot, own in arrays.items()}

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of the slots."""
        return tuple(self._arrays)

    @property
    def views(self) -> dict[str, Mapping[Any, Array]]:
        """The arrays by slot and name."""
        return {slot: MappingProxyType(own) for slot, own in self._arrays.items()}

    def check(self, name: Any, param: TensorInfo, shapes: Shapes) -> None:
        """Refuse a known parameter whose state has another shape or dtype.

        Raises:
            TypeError, ValueError
        """
        for slot, own in self._arrays.items():
            if name in own:
                expected, found = shapes[slot](param.shape), tuple(own[name].shape)
                if expected != found:
                    raise ValueError(
                        f"params[{name!r}]: its shape is {param.shape}, whose {slot} has the shape {expected}, but the "
                        f"optimizer's state has {found}"
                    )
                if own[name].dtype != param.dtype:
                    raise TypeError(
                        f"params[{name!r}]: its dtype is {param.dtype}, but the optimizer's state has {own[name].dtype}"
                    )

    def including(self, params: Mapping[Any, TensorInfo], memory: Memory, shapes: Shapes) -> "ShapedState":
        """The state that has these parameters, too."""
        new = {
            slot: {
                name: memory.zeros(shape, param.dtype)
                for name, param in params.items()
                if name not in self._arrays[slot] and (shape := shapes[slot](param.shape)) is not None
            }
            for slot in self._arrays
        }
        return ShapedState({slot: own | new[slot] for slot, own in self._arrays.items()}) if any(new.values()) else self

    def holding(self, arrays: Mapping[str, Mapping[Any, Any]], memory: Memory) -> "ShapedState":
        """Copies of arrays, of NumPy or of a file, in a memory."""
        copies: dict[str, dict[Any, Array]] = {}
        for slot, own in arrays.items():
            copies[slot] = {name: memory.zeros(tuple(array.shape), array.dtype) for name, array in own.items()}
            for name, array in own.items():
                copy_from(array, copies[slot][name], memory)
        return ShapedState(copies)

    def addresses(self, name: Any, memory: Memory) -> tuple[int, ...]:
        """Where the state of a parameter begins in each slot, 0 where there is none."""
        return tuple(memory.address(own[name]) if name in own else 0 for own in self._arrays.values())

    def moved(self, before: Memory, memory: Memory) -> "ShapedState":
        """A copy in another memory."""
        return self.holding(
            {slot: {name: before.read(x) for name, x in own.items()} for slot, own in self._arrays.items()}, memory
        )
