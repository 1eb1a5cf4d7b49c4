"""NumPy's functions on Tensors: ``np.sin(t)`` and ``np.concatenate([t, u])`` run our operation and stay differentiable.

What has no counterpart here gives a plain array for tensors without history, and a TypeError for those with one.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from . import ops
from .tensor import Tensor

UFUNCS = {
    "add": "add", "subtract": "sub", "multiply": "mul", "divide": "true_divide", "floor_divide": "floor_divide",
    "negative": "neg", "positive": "positive", "power": "pow", "float_power": "float_power",
    "remainder": "remainder", "fmod": "fmod", "absolute": "abs", "fabs": "abs", "rint": "round", "sign": "sign",
    "heaviside": "heaviside", "conjugate": "conj", "exp": "exp", "exp2": "exp2", "log": "log", "log2": "log2",
    "log10": "log10", "expm1": "expm1", "log1p": "log1p", "sqrt": "sqrt", "square": "square",
    "reciprocal": "reciprocal", "sin": "sin", "cos": "cos", "tan": "tan", "arcsin": "asin", "arccos": "acos",
    "arctan": "atan", "arctan2": "atan2", "hypot": "hypot", "sinh": "sinh", "cosh": "cosh", "tanh": "tanh",
    "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "degrees": "rad2deg", "rad2deg": "rad2deg",
    "radians": "deg2rad", "deg2rad": "deg2rad", "logaddexp": "logaddexp", "logaddexp2": "logaddexp2",
    "maximum": "maximum", "minimum": "minimum", "fmax": "fmax", "fmin": "fmin", "floor": "floor", "ceil": "ceil",
    "trunc": "trunc", "copysign": "copysign", "nextafter": "nextafter", "ldexp": "ldexp", "matmul": "matmul",
    "vecdot": "linalg.vecdot", "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le",
    "equal": "eq", "not_equal": "ne", "logical_and": "logical_and", "logical_or": "logical_or",
    "logical_xor": "logical_xor", "logical_not": "logical_not", "isfinite": "isfinite", "isinf": "isinf",
    "isnan": "isnan", "signbit": "signbit", "bitwise_and": "bitwise_and", "bitwise_or": "bitwise_or",
    "bitwise_xor": "bitwise_xor", "invert": "bitwise_not", "left_shift": "bitwise_left_shift",
    "right_shift": "bitwise_right_shift", "gcd": "gcd", "lcm": "lcm",
}  # fmt: skip
"""Our operation for each of NumPy's elementwise functions."""

REDUCTIONS = {
    "add": "sum",
    "multiply": "prod",
    "maximum": "amax",
    "minimum": "amin",
    "logical_and": "all",
    "logical_or": "any",
}


def _lookup(known):
    from .registry import OPS

    return OPS[known].public


def _is_tracked(values):
    for value in values:
        if isinstance(value, Tensor):
            if value.requires_grad:
                return True
        elif isinstance(value, (list, tuple)) and _is_tracked(value):
            return True
    return False


def _plain(value):
    if isinstance(value, Tensor):
        return value.numpy()
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(v) for v in value)
    return value


def _without_counterpart(name, function, args, kwargs):
    if _is_tracked((*args, *kwargs.values())):
        raise TypeError(f"np.{name} has no differentiable counterpart for Tensors that require grad; "
                        "use the functions of autograd_core, or detach() first")  # fmt: skip
    return function(*_plain(args), **{k: _plain(v) for k, v in kwargs.items()})


def call_ufunc(ufunc, kind, inputs, kwargs):
    """What NumPy's ``ufunc.kind(*inputs, **kwargs)`` does when a Tensor is among the inputs or outputs."""
    name = ufunc.__name__
    out = kwargs.pop("out", None)
    out = out[0] if out is not None and len(out) == 1 else out
    if kind == "__call__" and name in UFUNCS and not kwargs:
        result = _lookup(UFUNCS[name])(*[_lifted(v) for v in inputs])
    elif (
        kind == "reduce" and name in REDUCTIONS and kwargs.get("initial") is None and kwargs.get("where", True) is True
    ):
        axis = inputs[1] if len(inputs) > 1 else kwargs.get("axis", 0)
        result = _reduce(REDUCTIONS[name])(inputs[0], axis, kwargs.get("dtype"), bool(kwargs.get("keepdims")))
    else:
        result = _without_counterpart(name, getattr(ufunc, kind), inputs, kwargs)
    if out is None:
        return result
    if isinstance(out, Tensor):
        return out.copy_(result)
    if _is_tracked((result,)):
        raise TypeError(f"np.{name}: a tensor that requires grad cannot be written into a NumPy array")
    np.copyto(out, _plain(result), casting="same_kind")
    return out


def _lifted(value):
    """Lists and arrays of others as arrays that our operations take."""
    return value if isinstance(value, (Tensor, np.ndarray, np.generic, int, float)) else np.asarray(value)


# ---------------------------------------------------------------------------------------------------- functions


def _reduce(known):
    """A reduction with NumPy's arguments."""

    def call(a, axis=None, dtype=None, keepdims=False, **more):
        dims = tuple(range(a.ndim)) if axis is None else axis
        if known in ("amax", "amin"):
            return getattr(ops, known)(a, dims, keepdims)
        if known == "prod":
            for d in sorted((d % a.ndim for d in dims), reverse=True) if isinstance(dims, tuple) else (dims,):
                a = ops.prod(a, d, keepdims)
            return a if dtype is None else a.to(dtype)
        if known in ("all", "any"):
            return getattr(ops, known)(a, dims, keepdims)
        return getattr(ops, known)(a, dims, keepdims, **({"dtype": dtype} if dtype is not None else {}), **more)

    return call


def _spread(known):
    def call(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False):
        _refuse(out=out, dtype=dtype)
        return getattr(ops, known)(a, axis, correction=ddof, keepdim=keepdims)

    return call


def _refuse(**given):
    for name, value in given.items():
        if value is not None:
            raise TypeError(f"the NumPy argument {name}= is not supported for Tensors")


def _cumulative(known):
    def call(a, axis=None, dtype=None, out=None):
        _refuse(out=out)
        return getattr(ops, known)(ops.ravel(a) if axis is None else a, 0 if axis is None else axis, dtype=dtype)

    return call


def _ordered(known):
    def call(a, axis=-1, kind=None, order=None, *, stable=None):
        _refuse(order=order)
        a, axis = (ops.ravel(a), 0) if axis is None else (a, axis)
        return ops.sort(a, axis).values if known == "sort" else ops.argsort(a, axis)

    return call


def _extreme_place(known):
    def call(a, axis=None, out=None, *, keepdims=False):
        _refuse(out=out)
        return getattr(ops, known)(a, axis, keepdims)

    return call


def _parts(ary, indices_or_sections, axis=0):
    if isinstance(indices_or_sections, int) and ary.shape[axis] % indices_or_sections:
        raise ValueError("array split does not result in an equal division")
    return list(ops.tensor_split(ary, indices_or_sections, axis))


def _clip(a, a_min=None, a_max=None, out=None, *, min=None, max=None):
    _refuse(out=out)
    return ops.clamp(a, a_min if min is None else min, a_max if max is None else max)


def _repeat(a, repeats, axis=None):
    return ops.repeat_interleave(a, repeats if isinstance(repeats, int) else np.asarray(repeats), axis)


def _expand_dims(a, axis):
    ndim = a.ndim + (len(axis) if isinstance(axis, tuple) else 1)
    for d in sorted(k % ndim for k in (axis if isinstance(axis, tuple) else (axis,))):
        a = ops.unsqueeze(a, d)
    return a


def _norm(x, ord=None, axis=None, keepdims=False):
    from .registry import OPS

    return OPS["linalg.norm"].public(x, ord, axis, keepdims)


def _take(a, indices, axis=None, out=None, mode="raise"):
    _refuse(out=out)
    indices = indices if isinstance(indices, Tensor) else np.asarray(indices)
    a = a if isinstance(a, Tensor) else np.asarray(a)
    flat, axis = (ops.ravel(a), 0) if axis is None else (a, axis % a.ndim)
    return ops.pick(flat, indices, spec=(slice(None),) * axis + ("array",))


def _joined(sequence, dim):
    return ops.cat([_lifted(v) for v in sequence], dim)


FUNCTIONS: dict[Any, Callable] = {
    np.sum: lambda a, axis=None, dtype=None, out=None, keepdims=False: _reduce("sum")(a, axis, dtype, keepdims),
    np.mean: lambda a, axis=None, dtype=None, out=None, keepdims=False: _reduce("mean")(a, axis, dtype, keepdims),
    np.prod: lambda a, axis=None, dtype=None, out=None, keepdims=False: _reduce("prod")(a, axis, dtype, keepdims),
    np.max: lambda a, axis=None, out=None, keepdims=False: _reduce("amax")(a, axis, None, keepdims),
    np.min: lambda a, axis=None, out=None, keepdims=False: _reduce("amin")(a, axis, None, keepdims),
    np.all: lambda a, axis=None, out=None, keepdims=False: _reduce("all")(a, axis, None, keepdims),
    np.any: lambda a, axis=None, out=None, keepdims=False: _reduce("any")(a, axis, None, keepdims),
    np.var: _spread("var"),
    np.std: _spread("std"),
    np.cumsum: _cumulative("cumsum"),
    np.cumprod: _cumulative("cumprod"),
    np.sort: _ordered("sort"),
    np.argsort: _ordered("argsort"),
    np.argmax: _extreme_place("argmax"),
    np.argmin: _extreme_place("argmin"),
    np.clip: _clip,
    np.repeat: _repeat,
    np.expand_dims: _expand_dims,
    np.take: _take,
    np.concatenate: lambda arrays, axis=0: (
        ops.cat([ops.ravel(_lifted(v)) for v in arrays], 0) if axis is None else _joined(arrays, axis)
    ),
    np.stack: lambda arrays, axis=0: ops.stack([_lifted(v) for v in arrays], axis),
    np.vstack: lambda tup: ops.vstack([_lifted(v) for v in tup]),
    np.hstack: lambda tup: ops.hstack([_lifted(v) for v in tup]),
    np.dstack: lambda tup: ops.dstack([_lifted(v) for v in tup]),
    np.column_stack: lambda tup: ops.column_stack([_lifted(v) for v in tup]),
    np.split: _parts,
    np.array_split: lambda ary, parts, axis=0: list(ops.tensor_split(ary, parts, axis)),
    np.transpose: lambda a, axes=None: ops.permute(a, tuple(range(a.ndim))[::-1] if axes is None else tuple(axes)),
    np.reshape: lambda a, shape, order="C": ops.reshape(a, shape),
    np.ravel: lambda a, order="C": ops.ravel(a),
    np.squeeze: lambda a, axis=None: ops.squeeze(a, axis),
    np.swapaxes: ops.transpose,
    np.moveaxis: ops.movedim,
    np.broadcast_to: ops.broadcast_to,
    np.tile: ops.tile,
    np.flip: lambda m, axis=None: ops.flip(m, tuple(range(m.ndim)) if axis is None else axis),
    np.fliplr: ops.fliplr,
    np.flipud: ops.flipud,
    np.rot90: lambda m, k=1, axes=(0, 1): ops.rot90(m, k, axes),
    np.roll: lambda a, shift, axis=None: ops.roll(a, shift, axis),
    np.diag: lambda v, k=0: ops.diag(v, k),
    np.diagonal: lambda a, offset=0, axis1=0, axis2=1: ops.diagonal(a, offset, axis1, axis2),
    np.tril: lambda m, k=0: ops.tril(m, k),
    np.triu: lambda m, k=0: ops.triu(m, k),
    np.trace: ops.trace,
    np.where: lambda condition, *pair: ops.where(_lifted(condition), *[_lifted(v) for v in pair]),
    np.dot: lambda a, b: (
        ops.matmul(_lifted(a), _lifted(b))
        if a.ndim and b.ndim < 3
        else ops.mul(a, b)
        if not a.ndim * b.ndim
        else ops.tensordot(a, b, dims=([-1], [-2]))
    ),
    np.outer: lambda a, b: ops.outer(ops.ravel(_lifted(a)), ops.ravel(_lifted(b))),
    np.inner: ops.inner,
    np.tensordot: lambda a, b, axes=2: ops.tensordot(_lifted(a), _lifted(b), dims=axes),
    np.einsum: lambda subscripts, *operands: ops.einsum(subscripts, *[_lifted(v) for v in operands]),
    np.kron: ops.kron,
    np.linalg.norm: _norm,
    np.linalg.inv: _lookup("linalg.inv"),
    np.linalg.det: _lookup("linalg.det"),
    np.linalg.solve: _lookup("linalg.solve"),
    np.linalg.slogdet: _lookup("linalg.slogdet"),
    np.linalg.cholesky: _lookup("linalg.cholesky"),
    np.zeros_like: lambda a, dtype=None: ops.zeros_like(a, dtype=dtype),
    np.ones_like: lambda a, dtype=None: ops.ones_like(a, dtype=dtype),
    np.full_like: lambda a, fill_value, dtype=None: ops.full_like(a, fill_value, dtype=dtype),
    np.copy: lambda a, order="K": ops.clone(a),
    np.shape: lambda a: tuple(a.shape),
    np.ndim: lambda a: a.ndim,
    np.size: lambda a, axis=None: prod(a.shape) if axis is None else a.shape[axis],
    np.nan_to_num: lambda x, nan=0.0, posinf=None, neginf=None: ops.nan_to_num(x, nan, posinf, neginf),
    np.round: lambda a, decimals=0: ops.round(a, decimals=decimals),
    np.isclose: lambda a, b, rtol=1e-5, atol=1e-8, equal_nan=False: ops.isclose(a, b, rtol, atol, equal_nan),
}
"""Our operation for NumPy's function, under NumPy's arguments."""


def call_function(function, args, kwargs):
    """What NumPy's ``function(*args, **kwargs)`` does when a Tensor is among the arguments."""
    ours = FUNCTIONS.get(function)
    if ours is None:
        return _without_counterpart(function.__name__, function, args, kwargs)
    kwargs = {k: v for k, v in kwargs.items() if v is not np._NoValue}
    return ours(*args, **kwargs)
