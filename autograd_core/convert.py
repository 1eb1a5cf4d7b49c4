"""What users hand in as data (numbers, nested sequences, arrays, Tensors), made into arrays."""

from __future__ import annotations

import numpy as np

from .modes import state
from .shapes import default_dtype, dtype_of, ndarray


def as_array(data, dtype=None, copy=None) -> ndarray:
    """``data`` as an array: arrays and Tensors keep their dtype, Python floats take the default one.

    ``copy``: True always copies, None only where it must.
    """
    found = _converted(data, None if dtype is None else dtype_of(dtype).dtype, copy)
    if state.watch is not None:
        state.watch.convert(data, found)
    return found


def _converted(data, wanted, copy):
    from .tensor import Tensor

    if isinstance(data, Tensor):
        data = data.array
    elif not isinstance(data, (ndarray, np.generic)):
        if isinstance(data, (list, tuple)):
            data = _without_tensors(data)
        return _from_python(data, wanted)
    found = np.array(data, wanted, copy=copy, order="K")
    dtype_of(found.dtype)
    if found.dtype.byteorder == ">":
        found = found.astype(found.dtype.newbyteorder("="))
    return found


def _without_tensors(items):
    from .tensor import Tensor

    return [
        x.array if isinstance(x, Tensor) else _without_tensors(x) if isinstance(x, (list, tuple)) else x for x in items
    ]


def _from_python(data, wanted):
    try:
        found = np.array(data)
    except ValueError:
        raise ValueError("tensor: the sequence is ragged (parts of different lengths) or holds values that are not "
                         "numbers; needs nested sequences of one shape") from None  # fmt: skip
    if found.dtype == object:
        raise TypeError(f"tensor: cannot make a tensor of {type(data).__name__} with values that are not numbers")
    if found.dtype.kind not in "fiub":
        kind = {"U": "strings", "S": "strings", "c": "complex numbers"}.get(found.dtype.kind, f"{found.dtype} values")
        raise TypeError(f"tensor: cannot make a tensor of {kind}, needs numbers or booleans")
    if wanted is not None:
        if wanted == np.uint64 and found.dtype == np.float64:  # NumPy's common type of numbers on both sides of 2**63
            found = np.array(data, object)
        return found.astype(wanted, copy=False)
    if found.size == 0 and found.dtype == np.float64:
        return found.astype(default_dtype())
    return found.astype(default_dtype()) if found.dtype == np.float64 and not _holds_arrays(data) else found


def _holds_arrays(data):
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return isinstance(data, (ndarray, np.generic)) or hasattr(data, "__array__")
