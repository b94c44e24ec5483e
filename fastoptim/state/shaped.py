"""State that is not as long as a parameter: a number for each array, or one for each of its rows and columns."""

from collections.abc import Callable, Collection, Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np

from fastoptim.arrays.info import TensorInfo
from fastoptim.arrays.memory import Array, Memory, copy_from

Shape = tuple[int, ...]
# From a slot, a parameter's name and its shape to the shape of the state, None for none.
Shapes = Callable[[str, Any, Shape], Shape | None]


class ShapedState:
    """Arrays by slot and name, zeros at first, of their parameter's dtype. Single numbers may be float64.

    It does not change its names: `including` returns another one that shares its arrays.

    Attributes:
        shared: slots whose numbers all names share.
        numbers: slots whose state is float64 where it is one number.
    """

    def __init__(
        self, arrays: Mapping[str, Mapping[Any, Array]], shared: Collection[str] = (), numbers: Collection[str] = ()
    ) -> None:
        self._arrays = {slot: dict(own) for slot, own in arrays.items()}
        self.shared, self.numbers = frozenset(shared), frozenset(numbers)

    def holding_none(self) -> "ShapedState":
        """The same slots without arrays."""
        return self._like({slot: {} for slot in self._arrays})

    def _like(self, arrays: Mapping[str, Mapping[Any, Array]]) -> "ShapedState":
        return ShapedState(arrays, self.shared, self.numbers)

    def dtype_of(self, slot: str, shape: Shape, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """The dtype of state of this shape, of a parameter of this dtype."""
        return np.dtype(np.float64) if shape == () and slot in self.numbers else dtype

    def nbytes(self, params: Mapping[Any, TensorInfo], shapes: Shapes) -> int:
        """How many bytes the state of these parameters takes."""
        total = 0
        for slot in self._arrays:
            found = [(shapes(slot, name, param.shape), param.dtype) for name, param in params.items()]
            own = [prod(x) * self.dtype_of(slot, x, dtype).itemsize for x, dtype in found if x is not None]
            total += sum(own[:1] if slot in self.shared else own)
        return total

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
        known = {slot: own[name] for slot, own in self._arrays.items() if name in own}
        for slot in self._arrays if known else ():
            expected = shapes(slot, name, param.shape)
            found = tuple(known[slot].shape) if slot in known else None
            if (expected is None) != (found is None):
                raise ValueError(
                    f"params[{name!r}]: its state has {'no' if found is None else 'a'} {slot}, which its step now "
                    f"{'needs' if found is None else 'does not take'}: expected it to be updated as before, by "
                    "the rule or as a matrix"
                )
            if expected != found:
                raise ValueError(
                    f"params[{name!r}]: its shape is {param.shape}, whose {slot} has the shape {expected}, but the "
                    f"optimizer's state has {found}"
                )
            if expected is not None and known[slot].dtype != self.dtype_of(slot, expected, param.dtype):
                raise TypeError(
                    f"params[{name!r}]: its dtype is {param.dtype}, but the optimizer's state has {known[slot].dtype}"
                )

    def including(self, params: Mapping[Any, TensorInfo], memory: Memory, shapes: Shapes) -> "ShapedState":
        """The state that has these parameters, too."""
        new: dict[str, dict[Any, Array]] = {}
        for slot, own in self._arrays.items():
            wanted = {name: (shapes(slot, name, x.shape), x.dtype) for name, x in params.items() if name not in own}
            new[slot] = self._new(slot, wanted, memory)
        if not any(new.values()):
            return self
        return self._like({slot: own | new[slot] for slot, own in self._arrays.items()})

    def _new(self, slot: str, wanted: Mapping[Any, tuple[Shape | None, Any]], memory: Memory) -> dict[Any, Array]:
        """Zeros for these names. A number that is shared is the same array for all names."""
        found = dict[Any, Array]()
        common: Any = next(iter(self._arrays.get(slot, {}).values()), None)
        for name, (shape, dtype) in wanted.items():
            if shape is not None and (common is None or slot not in self.shared):
                common = memory.zeros(shape, self.dtype_of(slot, shape, dtype))
            if shape is not None:
                found[name] = common
        return found

    def holding(self, arrays: Mapping[str, Mapping[Any, Any]], memory: Memory) -> "ShapedState":
        """The same slots with copies of arrays, of NumPy or of a file, in a memory.

        Raises:
            ValueError: a number that all names share differs among them.
        """
        empty, copies = ShapedState({}, self.shared, self.numbers), dict[str, dict[Any, Array]]()
        for slot, own in arrays.items():
            if slot in self.shared and len({np.asarray(array).tobytes() for array in own.values()}) > 1:
                raise ValueError(f"state dict: slots[{slot!r}]: expected the same number for all names")
            wanted = {name: (tuple(array.shape), array.dtype) for name, array in own.items()}
            copies[slot] = empty._new(slot, wanted, memory)
            for name, array in own.items():
                copy_from(array, copies[slot][name], memory)
        return self._like(copies)

    def addresses(self, name: Any, slots: Sequence[str], memory: Memory) -> tuple[int, ...]:
        """Where the state of a parameter begins in each of these slots, 0 where there is none."""
        found = [self._arrays[slot].get(name) if slot in self._arrays else None for slot in slots]
        return tuple(0 if array is None else memory.address(array) for array in found)

    def moved(self, before: Memory, memory: Memory) -> "ShapedState":
        """A copy in another memory."""
        return self.holding(
            {slot: {name: before.read(x) for name, x in own.items()} for slot, own in self._arrays.items()}, memory
        )
