"""The standard's rules for types and axes: 0-d arrays count like all others, and Python numbers never decide."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from .. import ops
from ..shapes import DType, default_dtype, dtype_of, normalize_dim, numpy_dtype
from ..shapes import promote_types as promoted_pair
from ..tensor import Tensor, wrap

KINDS = {
    "bool": "b", "signed integer": "i", "unsigned integer": "u", "integral": "iu", "real floating": "f",
    "complex floating": "c", "numeric": "iufc",
}  # fmt: skip
"""NumPy's letters for each of the standard's kinds of dtypes."""

_RANK = {"b": 0, "i": 1, "u": 1, "f": 2, "c": 3}
_NUMBERS = {bool: "b", int: "i", float: "f"}


def common_dtype(known: str, values) -> np.dtype:
    """The type that ``values`` (tensors, dtypes, Python numbers) have in common, for the function ``known``."""
    types = [_type_of(v) for v in values if type(v) not in _NUMBERS and v is not None]
    if not types:
        raise TypeError(f"{known}: at least one argument must be a Tensor or a dtype, got {list(values)!r}")
    found = reduce(lambda a, b: promoted_pair(a, b).dtype, types)
    highest = max([_NUMBERS[type(v)] for v in values if type(v) in _NUMBERS], key=_RANK.__getitem__, default="b")
    if _RANK[highest] > _RANK[found.kind]:
        return default_dtype() if highest == "f" else np.dtype(np.int64)
    return found


def _type_of(value):
    return value.array.dtype if isinstance(value, Tensor) else numpy_dtype(value)


def unified(known: str, *values: Any) -> list[Any]:
    """Tensors and Python numbers as tensors of their common type; None stays None."""
    for value in values:
        if value is not None and not isinstance(value, Tensor) and type(value) not in _NUMBERS:
            raise TypeError(f"{known}: expected a Tensor or a Python number, got {type(value).__name__}")
    dtype = common_dtype(known, values)
    return [v if v is None else _as(v, dtype) for v in values]


def _as(value, dtype):
    if isinstance(value, Tensor):
        return value if value.array.dtype == dtype else ops.to(value, dtype=dtype)
    return wrap(np.array(value).astype(dtype) if isinstance(value, float) else np.array(value, dtype))


def accumulated(x: Tensor, dtype=None) -> DType:
    """The type in which the elements of ``x`` are added up or multiplied: integers get the widest of their kind."""
    if dtype is not None:
        return dtype_of(dtype)
    kind = x.array.dtype.kind
    return dtype_of(np.uint64 if kind == "u" else np.int64) if kind in "bui" else dtype_of(x.array.dtype)


def reduced(reduction, x, axis, keepdims):
    """``reduction(x, dims, keepdims)`` with the standard's axes: None is all of them, () is none."""
    if not isinstance(x, Tensor):
        raise TypeError(f"expected a Tensor, got {type(x).__name__}")
    if axis == () or not x.ndim:  # along an axis of size one that is made for it
        for dim in () if axis is None else axis if isinstance(axis, tuple) else (axis,):
            normalize_dim(dim, x.ndim)
        return reduction(ops.unsqueeze(x, -1), (-1,), False)
    dims = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return reduction(x, tuple(normalize_dim(d, x.ndim) for d in dims), keepdims)
