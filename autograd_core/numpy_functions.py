"""Our operation for each of NumPy's functions, under NumPy's arguments: what `numpy_protocol` looks functions up in."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from . import ops
from .array_api import arrangement, linalg, statistics
from .numpy_protocol import lifted
from .ops.create import as_tensor
from .registry import OPS
from .tensor import Tensor


def _ours(known):
    return OPS[known].public


def _refuse(**given):
    for name, value in given.items():
        if value is not None:
            raise TypeError(f"the NumPy argument {name}= is not supported for Tensors")


def _tensor(value):
    return as_tensor(lifted(value))


def _all_lifted(values):
    return [lifted(v) for v in values]


# ---------------------------------------------------------------------------------------------------- reductions


def reduction(known):
    """The reduction ``known`` with NumPy's arguments."""
    reduce = getattr(ops, known)

    def call(a, axis=None, dtype=None, out=None, keepdims=False):
        _refuse(out=out)
        if known == "prod":
            return statistics.prod(a, axis=axis, dtype=dtype, keepdims=keepdims)
        dims = tuple(range(a.ndim)) if axis is None else axis
        if dtype is not None:
            a = ops.to(a, dtype=dtype)
        return reduce(a, dims, keepdims) if dims != () else a

    return call


def _without_dtype(known):
    """As `reduction`, for functions that have no ``dtype``."""
    call = reduction(known)
    return lambda a, axis=None, out=None, keepdims=False: call(a, axis, None, out, keepdims)


def _spread(known):
    def call(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, mean=None, correction=None):
        _refuse(out=out, dtype=dtype, mean=mean)
        return getattr(ops, known)(a, axis, correction=ddof if correction is None else correction, keepdim=keepdims)

    return call


def _average(a, axis=None, weights=None, returned=False, *, keepdims=False):
    if weights is None:
        total = ops.mean(a, axis, keepdims)
        count = a.size // max(total.size, 1)
        return (total, ops.full_like(total, count)) if returned else total
    weights = lifted(weights)
    if np.ndim(weights) == 1 and a.ndim > 1:  # along the one axis
        shape = [1] * a.ndim
        shape[axis] = -1
        weights = ops.reshape(weights, shape)
    weights = ops.broadcast_to(weights, a.shape)
    scale = ops.sum(weights, axis, keepdims)
    total = ops.sum(a * weights, axis, keepdims) / scale
    return (total, scale) if returned else total


def _quantile(scale):
    def call(a, q, axis=None, out=None, overwrite_input=False, method="linear", keepdims=False):
        _refuse(out=out)
        return ops.quantile(a, as_tensor(q, dtype=a.dtype) / scale, axis, keepdims, interpolation=method)

    return call


def _median(a, axis=None, out=None, overwrite_input=False, keepdims=False):
    _refuse(out=out)
    return ops.quantile(a, 0.5, axis, keepdims)  # PyTorch's median is the lower one of two


def _ptp(a, axis=None, out=None, keepdims=False):
    _refuse(out=out)
    return _without_dtype("amax")(a, axis, None, keepdims) - _without_dtype("amin")(a, axis, None, keepdims)


def _extreme_place(known):
    def call(a, axis=None, out=None, *, keepdims=False):
        _refuse(out=out)
        return getattr(ops, known)(a, axis, keepdims)

    return call


def _cumulative(known):
    def call(a, axis=None, dtype=None, out=None):
        _refuse(out=out)
        return getattr(ops, known)(ops.ravel(a) if axis is None else a, 0 if axis is None else axis, dtype=dtype)

    return call


def _cov(m, y=None, rowvar=True, bias=False, ddof=None, fweights=None, aweights=None, *, dtype=None):
    _refuse(y=y, dtype=dtype)
    return ops.cov(m if rowvar or m.ndim < 2 else m.T, correction=int(not bias) if ddof is None else ddof,
                   fweights=fweights, aweights=aweights)  # fmt: skip


def _norm(x, ord=None, axis=None, keepdims=False):
    return _ours("linalg.norm")(x, ord, axis, keepdims)


# ---------------------------------------------------------------------------------------------------- order


def _ordered(known):
    def call(a, axis=-1, kind=None, order=None, *, stable=None):
        _refuse(order=order)
        a, axis = (ops.ravel(a), 0) if axis is None else (a, axis)
        return ops.sort(a, axis).values if known == "sort" else ops.argsort(a, axis)

    return call


def _unique(
    ar, return_index=False, return_inverse=False, return_counts=False, axis=None, *, equal_nan=True, sorted=True
):
    _refuse(axis=axis)
    found = arrangement.unique_all(ar)
    more = (return_index, return_inverse, return_counts)
    if not any(more):
        return found.values
    return (found.values, *[part for part, wanted in zip(found[1:], more, strict=True) if wanted])


def _diff(a, n=1, axis=-1, prepend=None, append=None):
    return ops.diff(
        a, n, axis, prepend if prepend is None else lifted(prepend), append if append is None else lifted(append)
    )


def _trapezoid(y, x=None, dx=1.0, axis=-1):
    return ops.trapezoid(lifted(y), dim=axis, dx=dx) if x is None else ops.trapezoid(lifted(y), lifted(x), dim=axis)


def _gradient(f, *spacing, axis=None, edge_order=1):
    dims = tuple(range(f.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    given = spacing[0] if len(spacing) == 1 else list(spacing) or 1
    found = ops.gradient(f, spacing=given, dim=dims, edge_order=edge_order)
    return found[0] if len(found) == 1 else tuple(found)


# ---------------------------------------------------------------------------------------------------- places


def _picked(a, places, axis):
    """The slices of ``a`` at ``places`` along ``axis``; of the flattened array for None."""
    a, axis = (ops.ravel(a), 0) if axis is None else (a, axis % a.ndim)
    return ops.pick(a, places, spec=(None,) * axis + ("array",))


def _take(a, indices, axis=None, out=None, mode="raise"):
    _refuse(out=out)
    return _picked(lifted(a), indices if isinstance(indices, Tensor) else np.asarray(indices), axis)


def _take_along_axis(arr, indices, axis=-1):
    if axis is None:
        arr, axis = ops.ravel(arr), 0
    return ops.take_along_dim(arr, _tensor(indices), axis)


def _delete(arr, obj, axis=None):
    length = prod(arr.shape) if axis is None else arr.shape[axis]
    return _picked(arr, np.delete(np.arange(length), obj), axis)


def _append(arr, values, axis=None):
    return _concatenate([arr, np.asarray(values) if isinstance(values, (int, float)) else values], axis)


def _concatenate(arrays, axis=0):
    arrays = _all_lifted(arrays)
    return ops.cat([ops.ravel(v) for v in arrays], 0) if axis is None else ops.cat(arrays, axis)


def _block(arrays):
    """Nested lists joined: the innermost along the last axis, the next along the one before, and so on."""

    def depth(value):
        return 1 + depth(value[0]) if isinstance(value, list) else 0

    levels = depth(arrays)

    def joined(value, level):
        if not isinstance(value, list):
            value = lifted(value)
            return ops.reshape(value, (*(1,) * (levels - np.ndim(value)), *np.shape(value)))
        return ops.cat([joined(v, level + 1) for v in value], level - levels)

    return joined(arrays, 0)


def _pad(array, pad_width, mode="constant", *, constant_values=0):
    widths = np.broadcast_to(np.asarray(pad_width), (array.ndim, 2)).tolist()
    if mode != "constant":  # every other mode repeats elements: which ones, NumPy says
        for axis, width in enumerate(widths):
            array = _picked(array, np.pad(np.arange(array.shape[axis]), width, mode), axis)
        return array
    flat = [n for width in reversed(widths) for n in width]
    return ops.pad(array, flat, "constant", constant_values)


def _clip(a, a_min=None, a_max=None, out=None, *, min=None, max=None):
    _refuse(out=out)
    return ops.clamp(a, a_min if min is None else min, a_max if max is None else max)


def _isclose(a, b, rtol=1e-5, atol=1e-8, equal_nan=False):
    return ops.isclose(_tensor(a), _tensor(b), rtol, atol, equal_nan)


def _repeat(a, repeats, axis=None):
    return ops.repeat_interleave(a, repeats if isinstance(repeats, int) else np.asarray(repeats), axis)


def _expand_dims(a, axis):
    ndim = a.ndim + (len(axis) if isinstance(axis, tuple) else 1)
    for d in sorted(k % ndim for k in (axis if isinstance(axis, tuple) else (axis,))):
        a = ops.unsqueeze(a, d)
    return a


def _parts(ary, indices_or_sections, axis=0):
    if isinstance(indices_or_sections, int) and ary.shape[axis] % indices_or_sections:
        raise ValueError("array split does not result in an equal division")
    return list(ops.tensor_split(ary, indices_or_sections, axis))


def _select(condlist, choicelist, default=0):
    found = lifted(default)
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        found = ops.where(lifted(condition), lifted(choice), found)
    return found


def _rollaxis(a, axis, start=0):
    axis %= a.ndim
    return ops.movedim(a, axis, start - (axis < start))


def _at_least(known):
    make = getattr(ops, known)
    return lambda *arys: make(lifted(arys[0])) if len(arys) == 1 else tuple(make(v) for v in _all_lifted(arys))


# ---------------------------------------------------------------------------------------------------- products


def _dot(a, b):
    a, b = lifted(a), lifted(b)
    if not np.ndim(a) * np.ndim(b):
        return ops.mul(a, b)
    return ops.matmul(a, b) if np.ndim(b) < 3 else ops.tensordot(a, b, dims=([-1], [-2]))


def _cross(a, b, axisa=-1, axisb=-1, axisc=-1, axis=None):
    first, second, last = (axisa, axisb, axisc) if axis is None else (axis, axis, axis)
    found = linalg.cross(ops.movedim(_tensor(a), first, -1), ops.movedim(_tensor(b), second, -1))
    return ops.movedim(found, -1, last)


def _pairs(function):
    """A function of the array API with both arguments made Tensors."""
    return lambda x1, x2, /, **settings: function(_tensor(x1), _tensor(x2), **settings)


def _svd(a, full_matrices=True, compute_uv=True, hermitian=False):
    return linalg.svd(a, full_matrices=full_matrices) if compute_uv else linalg.svdvals(a)


def _multi_dot(arrays, *, out=None):
    _refuse(out=out)
    return _ours("linalg.multi_dot")([_tensor(v) for v in arrays])


FUNCTIONS: dict[Any, Callable] = {
    **{function: reduction(known) for function, known in (
        (np.sum, "sum"), (np.mean, "mean"), (np.prod, "prod"), (np.nansum, "nansum"), (np.nanmean, "nanmean"))},
    **{function: _without_dtype(known) for function, known in (
        (np.max, "amax"), (np.min, "amin"), (np.all, "all"), (np.any, "any"))},
    np.var: _spread("var"),
    np.std: _spread("std"),
    np.ptp: _ptp,
    np.average: _average,
    np.median: _median,
    np.quantile: _quantile(1),
    np.percentile: _quantile(100),
    np.cov: _cov,
    np.corrcoef: lambda x, y=None, rowvar=True: ops.corrcoef(x if rowvar or x.ndim < 2 else x.T),
    np.cumsum: _cumulative("cumsum"),
    np.cumprod: _cumulative("cumprod"),
    np.diff: _diff,
    np.ediff1d: lambda ary: ops.diff(ops.ravel(ary)),
    np.gradient: _gradient,
    np.trapezoid: _trapezoid,
    np.sort: _ordered("sort"),
    np.argsort: _ordered("argsort"),
    np.argmax: _extreme_place("argmax"),
    np.argmin: _extreme_place("argmin"),
    np.unique: _unique,
    np.unique_values: arrangement.unique_values,
    np.clip: _clip,
    np.round: lambda a, decimals=0: ops.round(a, decimals=decimals),
    np.fix: ops.trunc,
    np.sinc: ops.sinc,
    np.nan_to_num: lambda x, copy=True, nan=0.0, posinf=None, neginf=None: ops.nan_to_num(x, nan, posinf, neginf),
    np.isclose: _isclose,
    np.where: lambda condition, *pair: ops.where(lifted(condition), *_all_lifted(pair)),
    np.select: _select,
    np.take: _take,
    np.take_along_axis: _take_along_axis,
    np.delete: _delete,
    np.append: _append,
    np.repeat: _repeat,
    np.pad: _pad,
    np.concatenate: _concatenate,
    np.block: _block,
    np.stack: lambda arrays, axis=0: ops.stack(_all_lifted(arrays), axis),
    np.vstack: lambda tup: ops.vstack(_all_lifted(tup)),
    np.hstack: lambda tup: ops.hstack(_all_lifted(tup)),
    np.dstack: lambda tup: ops.dstack(_all_lifted(tup)),
    np.column_stack: lambda tup: ops.column_stack(_all_lifted(tup)),
    np.split: _parts,
    np.array_split: lambda ary, indices_or_sections, axis=0: list(ops.tensor_split(ary, indices_or_sections, axis)),
    np.atleast_1d: _at_least("atleast_1d"),
    np.atleast_2d: _at_least("atleast_2d"),
    np.transpose: lambda a, axes=None: ops.permute(a, tuple(range(a.ndim))[::-1] if axes is None else tuple(axes)),
    np.matrix_transpose: linalg.matrix_transpose,
    np.reshape: lambda a, /, shape, order="C": ops.reshape(a, shape),
    np.ravel: lambda a, order="C": ops.ravel(a),
    np.squeeze: lambda a, axis=None: ops.squeeze(a) if axis is None else ops.squeeze(a, axis),
    np.expand_dims: _expand_dims,
    np.swapaxes: ops.transpose,
    np.moveaxis: ops.movedim,
    np.rollaxis: _rollaxis,
    np.broadcast_to: ops.broadcast_to,
    np.broadcast_arrays: lambda *args: tuple(ops.broadcast_tensors(*[_tensor(v) for v in args])),
    np.meshgrid: lambda *xi, indexing="xy": tuple(ops.meshgrid(*[_tensor(v) for v in xi], indexing=indexing)),
    np.tile: lambda A, reps: ops.tile(A, reps if isinstance(reps, (tuple, list)) else (reps,)),
    np.flip: lambda m, axis=None: ops.flip(m, tuple(range(m.ndim)) if axis is None else axis),
    np.fliplr: ops.fliplr,
    np.flipud: ops.flipud,
    np.rot90: lambda m, k=1, axes=(0, 1): ops.rot90(m, k, axes),
    np.roll: lambda a, shift, axis=None: ops.roll(a, shift, axis),
    np.diag: lambda v, k=0: ops.diag(v, k),
    np.diagonal: lambda a, offset=0, axis1=0, axis2=1: ops.diagonal(a, offset, axis1, axis2),
    np.trace: lambda a, offset=0, axis1=0, axis2=1: ops.sum(ops.diagonal(a, offset, axis1, axis2), -1),
    np.tril: lambda m, k=0: ops.tril(m, k),
    np.triu: lambda m, k=0: ops.triu(m, k),
    np.dot: _dot,
    np.vdot: lambda a, b: ops.dot(ops.ravel(lifted(a)), ops.ravel(lifted(b))),
    np.inner: lambda a, b: ops.inner(lifted(a), lifted(b)),
    np.outer: lambda a, b: ops.outer(ops.ravel(lifted(a)), ops.ravel(lifted(b))),
    np.kron: lambda a, b: ops.kron(lifted(a), lifted(b)),
    np.cross: _cross,
    np.tensordot: lambda a, b, axes=2: ops.tensordot(lifted(a), lifted(b), dims=axes),
    np.einsum: lambda *operands: ops.einsum(*_all_lifted(operands)) if not isinstance(operands[0], str) else (
        ops.einsum(operands[0], *_all_lifted(operands[1:]))),
    np.linalg.norm: _norm,
    np.linalg.svd: _svd,
    np.linalg.eigh: lambda a, UPLO="L": linalg.Eigh(*_ours("linalg.eigh")(a, UPLO)),
    np.linalg.eigvalsh: lambda a, UPLO="L": _ours("linalg.eigvalsh")(a, UPLO),
    np.linalg.cholesky: lambda a, /, *, upper=False: _ours("linalg.cholesky")(a, upper=upper),
    np.linalg.solve: lambda a, b: _ours("linalg.solve")(_tensor(a), _tensor(b)),
    np.linalg.slogdet: linalg.slogdet,
    np.linalg.qr: lambda a, mode="reduced": linalg.qr(a, mode=mode),
    np.linalg.matrix_power: linalg.matrix_power,
    np.linalg.pinv: lambda a, *, rtol=None: linalg.pinv(a, rtol=rtol),
    np.linalg.multi_dot: _multi_dot,
    **{getattr(np.linalg, known): getattr(linalg, known) for known in (
        "det", "diagonal", "inv", "matrix_norm", "matrix_transpose", "svdvals", "trace", "vector_norm")},
    **{getattr(np.linalg, known): _pairs(getattr(linalg, known)) for known in (
        "cross", "matmul", "outer", "tensordot", "vecdot")},
    np.zeros_like: lambda a, dtype=None: ops.zeros_like(a, dtype=dtype),
    np.ones_like: lambda a, dtype=None: ops.ones_like(a, dtype=dtype),
    np.empty_like: lambda prototype, dtype=None: ops.empty_like(prototype, dtype=dtype),
    np.full_like: lambda a, fill_value, dtype=None: ops.full_like(a, fill_value, dtype=dtype),
    np.copy: lambda a, order="K": ops.clone(a),
    np.shape: lambda a: tuple(a.shape),
    np.ndim: lambda a: a.ndim,
    np.size: lambda a, axis=None: prod(a.shape) if axis is None else a.shape[axis],
    np.iscomplexobj: lambda x: False,
    np.isrealobj: lambda x: True,
}  # fmt: skip
"""Our function for NumPy's, with NumPy's arguments."""

_SINCE_2_1 = {"cumulative_sum": statistics.cumulative_sum, "cumulative_prod": statistics.cumulative_prod,
              "unstack": arrangement.unstack}  # fmt: skip
FUNCTIONS |= {getattr(np, known): ours for known, ours in _SINCE_2_1.items() if hasattr(np, known)}

CONSTANT = {
    np.allclose, np.argpartition, np.argwhere, np.array2string, np.array_equal, np.array_equiv, np.array_repr,
    np.array_str, np.bincount, np.can_cast, np.common_type, np.count_nonzero, np.digitize, np.flatnonzero, np.histogram,
    np.isin, np.linalg.cond, np.linalg.matrix_rank, np.may_share_memory, np.min_scalar_type, np.nanargmax, np.nanargmin,
    np.nonzero, np.result_type, np.save, np.savetxt, np.savez, np.searchsorted, np.shares_memory,
}  # fmt: skip
"""Functions whose results carry no gradient: NumPy's own, on the values."""
