"""The standard's functions that make arrays, and those that deal with dtypes."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from .. import info, ops
from ..info import check_device
from ..ops import create
from ..shapes import COMPLEX, DType, dtype_of, numpy_dtype
from ..tensor import Tensor, wrap
from .promotion import KINDS, common_dtype


def asarray(obj, /, *, dtype=None, device=None, copy=None):
    """``obj`` (an array, a number, nested sequences) as a Tensor; a copy only where ``copy`` says so or it must be.

    Complex values may be held and handed on; there are no operations on them.
    """
    if isinstance(obj, Tensor) and copy is not True and (dtype is None or obj.dtype == dtype):
        return obj
    wanted = COMPLEX.get(np.dtype(dtype.dtype if isinstance(dtype, DType) else dtype)) if dtype is not None else None
    if wanted is not None or np.iscomplexobj(obj):
        held = wanted.dtype if wanted is not None else getattr(obj, "dtype", np.complex64)
        return wrap(np.asarray(obj, held))
    if copy and isinstance(obj, Tensor):
        return ops.clone(obj) if dtype is None or obj.dtype == dtype else ops.to(obj, dtype=numpy_dtype(dtype))
    return create.asarray(
        obj, dtype=dtype, device=device, copy=copy, requires_grad=getattr(obj, "requires_grad", False)
    )


def arange(start, /, stop=None, step=1, *, dtype=None, device=None):
    """Numbers from ``start`` up to but not including ``stop``; none where ``step`` leads away from it."""
    start, stop = (0, start) if stop is None else (start, stop)
    if step and (stop - start) * step <= 0:
        whole = all(isinstance(v, int) for v in (start, stop, step))
        return zeros(0, dtype=dtype or (dtype_of(np.int64) if whole else None), device=device)
    if dtype is not None and numpy_dtype(dtype) == np.uint64:
        return wrap(np.arange(start, stop, step, np.uint64))
    return ops.arange(start, stop, step, dtype=dtype, device=device)


def empty(shape, *, dtype=None, device=None):
    """An array whose values are whatever the memory held."""
    return ops.empty(shape, dtype=dtype, device=device)


def empty_like(x, /, *, dtype=None, device=None):
    """An array of the shape and type of ``x``, with whatever the memory held."""
    return ops.empty_like(x, dtype=dtype, device=device)


def eye(n_rows, n_cols=None, /, *, k=0, dtype=None, device=None):
    """Ones on the diagonal ``k`` (0: the main one, above it for k > 0), zeros elsewhere."""
    check_device(device)
    columns = n_rows if n_cols is None else n_cols
    return wrap(np.eye(n_rows, columns, k, numpy_dtype(dtype)))


def from_dlpack(x, /, *, device=None, copy=None):
    """A Tensor on the memory of another library's array; ``copy=True`` on its own."""
    check_device(device)
    found = create.from_dlpack(x)
    return ops.clone(found) if copy else found


def full(shape, fill_value, *, dtype=None, device=None):
    """``fill_value`` everywhere; its type is that of the number unless ``dtype`` is given."""
    return ops.full(shape, fill_value, dtype=dtype, device=device)


def full_like(x, /, fill_value, *, dtype=None, device=None):
    """``fill_value`` everywhere, in the shape and type of ``x``."""
    return ops.full_like(x, fill_value, dtype=dtype, device=device)


def linspace(start, stop, /, num, *, dtype=None, device=None, endpoint=True):
    """``num`` numbers, evenly spaced from ``start`` to ``stop``, which is left out for ``endpoint=False``."""
    check_device(device)
    return wrap(np.linspace(start, stop, num, endpoint).astype(numpy_dtype(dtype)))


def meshgrid(*arrays, indexing="xy"):
    """Coordinate grids as a list; ``indexing="ij"`` keeps the order of the dimensions."""
    return list(ops.meshgrid(*arrays, indexing=indexing)) if arrays else []


def ones(shape, *, dtype=None, device=None):
    """An array of ones."""
    return ops.ones(shape, dtype=dtype, device=device)


def ones_like(x, /, *, dtype=None, device=None):
    """Ones in the shape and type of ``x``."""
    return ops.ones_like(x, dtype=dtype, device=device)


def tril(x, /, *, k=0):
    """The elements on and below diagonal ``k``; zeros above."""
    return ops.tril(x, k)


def triu(x, /, *, k=0):
    """The elements on and above diagonal ``k``; zeros below."""
    return ops.triu(x, k)


def zeros(shape, *, dtype=None, device=None):
    """An array of zeros."""
    return ops.zeros(shape, dtype=dtype, device=device)


def zeros_like(x, /, *, dtype=None, device=None):
    """Zeros in the shape and type of ``x``."""
    return ops.zeros_like(x, dtype=dtype, device=device)


# ---------------------------------------------------------------------------------------------------- dtypes


def astype(x, dtype, /, *, copy=True, device=None):
    """``x`` in another type; the same array where nothing changes and ``copy`` is False."""
    check_device(device)
    if x.dtype == dtype:
        return ops.clone(x) if copy else x
    return ops.to(x, dtype=numpy_dtype(dtype))


def can_cast(from_, to, /) -> bool:
    """Whether a dtype (or an array's) becomes ``to`` by promotion, which never changes the kind."""
    source, target = common_dtype("can_cast", [from_]), numpy_dtype(to)
    same_kind = source.kind == target.kind or {source.kind, target.kind} == {"i", "u"}
    return same_kind and np.promote_types(source, target) == target


def result_type(*arrays_and_dtypes) -> DType:
    """The dtype that arrays, dtypes and Python numbers have in common."""
    return dtype_of(common_dtype("result_type", arrays_and_dtypes))


def isdtype(dtype, kind) -> bool:
    """Whether ``dtype`` is of a kind: a dtype, a word such as "real floating", or a tuple of these."""
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    if not isinstance(kind, str):
        return builtins.bool(dtype == kind)
    if kind not in KINDS:
        raise ValueError(f"isdtype: kind must be a dtype or one of {', '.join(KINDS)}, got {kind!r}")
    return dtype.dtype.kind in KINDS[kind]


def finfo(type, /):
    """The limits of a floating-point dtype, or of that of an array: bits, eps, max, min, smallest_normal, dtype."""
    return _limits(info.finfo, "finfo", type)


def iinfo(type, /):
    """The limits of an integer dtype, or of that of an array: bits, max, min, dtype."""
    return _limits(info.iinfo, "iinfo", type)


def _limits(make: Any, known, given):
    dtype = dtype_of(common_dtype(known, [given]))
    found = make(dtype)
    found.dtype = dtype  # the standard asks for the object, PyTorch for its name
    return found
