"""The gradient of some rows of a parameter, as an embedding has it."""

from typing import Any

import numpy as np

from fastoptim.arrays.devices import info_of, memory_of
from fastoptim.arrays.info import on_gpu
from fastoptim.arrays.memory import Array
from fastoptim.kernels.storage import EXPECTED, is_stored

INT64 = np.dtype(np.int64)


class Rows:
    """The gradient of some rows of a parameter: `values[i]` is that of `param[indices[i]]`, and all others are zero.

    `opt.update(params, {"E": fastoptim.Rows(indices, values)})` costs what these rows cost. What happens to the other
    rows is up to the option `sparse`. An index may occur several times: the gradients of a row are summed in the order
    in which they appear.

    Args:
        indices: integers `(k,)` of any dtype, from 0 on. From a GPU they are copied, which waits for it.
        values: floats `(k, ...)`, with the parameter's axes behind the first one, on the GPU if it is there. They may
            be of any dtype that gradients have. Arrays of the host that are not contiguous are copied.

    Attributes:
        indices: int64 `(k,)`, contiguous: yours, or a copy.
        values: `(k, ...)`, contiguous: yours, or a copy. This is what `zero_grads` sets to zero.

    Raises:
        TypeError: the indices are no integers, or the values no floats; or values on a GPU are not contiguous.
        ValueError: there are more of one than of the other.
    """

    __slots__ = ("_indices", "_values")

    def __init__(self, indices: Any, values: Any) -> None:
        own = indices if isinstance(indices, np.ndarray) else np.asarray(_on_host(indices))
        is_there = not isinstance(values, np.ndarray) and on_gpu(values)
        numbers: Any = values if is_there else np.asarray(values)
        found = info_of(values, "Rows: values") if is_there else numbers
        if own.dtype.kind not in "iu" and own.size:
            raise TypeError(f"Rows: indices: expected integers, got {own.dtype}")
        if own.ndim != 1:
            raise ValueError(f"Rows: indices: expected the shape (k,), got {own.shape}")
        if not is_stored(found.dtype):
            raise TypeError(f"Rows: values: expected dtype {EXPECTED}, got {found.dtype}")
        if found.shape[:1] != own.shape:
            raise ValueError(f"Rows: values: expected ({own.size}, ...), one row for each index; got {found.shape}")
        if own.dtype == np.uint64 and own.size and own.max() > np.iinfo(np.int64).max:
            raise ValueError(f"Rows: indices: expected numbers below 2**63, got {own.max()}")
        self._indices: Array = np.ascontiguousarray(own, INT64)
        self._values = numbers if is_there or numbers.flags.c_contiguous else np.ascontiguousarray(numbers)

    @property
    def indices(self) -> Array:
        """Which rows."""
        return self._indices

    @property
    def values(self) -> Any:
        """Their gradients: an array of NumPy, or of any library on a GPU."""
        return self._values

    @classmethod
    def of(cls, matrix: Any) -> "Rows":
        """The rows of a sparse matrix of SciPy (CSR, COO or another format) that have elements, as dense rows.

        Raises:
            TypeError: it is no sparse matrix.
        """
        if not hasattr(matrix, "tocsr"):
            raise TypeError(f"Rows.of: expected a sparse matrix of scipy.sparse, got {type(matrix).__name__}")
        by_row = matrix.tocsr()
        indices = np.flatnonzero(np.diff(by_row.indptr))
        return cls(indices, by_row[indices].toarray())

    def to_dense(self, rows: int) -> Array:
        """The gradient of all of a parameter's rows on the host: zeros but for these, `(rows, ...)`.

        Raises:
            IndexError: an index is not in `[0, rows)`.
        """
        outside = self.indices[(self.indices < 0) | (self.indices >= rows)]
        if outside.size:
            raise IndexError(f"Rows: indices: expected numbers in [0, {rows}), got {outside[0]}")
        values = _on_host(self.values)
        dense: Array = np.zeros((rows, *values.shape[1:]), values.dtype)
        np.add.at(dense, self.indices, values)
        return dense

    def __repr__(self) -> str:
        return f"Rows({len(self.indices)} of {self.values.dtype} {self.values.shape[1:]})"


def _on_host(array: Any) -> Any:
    return memory_of("cuda").read(array) if on_gpu(array) else array
