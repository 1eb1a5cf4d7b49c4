"""NumPy's functions on Tensors: ``np.sin(t)`` and ``np.concatenate([t, u])`` run our operation and stay differentiable.

What has no counterpart here gives a plain array for tensors without history, and a TypeError for those with one.
"""

from __future__ import annotations

from functools import lru_cache
from inspect import signature

import numpy as np

from . import ops
from .registry import OPS
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

COMPOSITES = {
    "cbrt": lambda x: ops.sign(x) * ops.pow(ops.abs(x), 1 / 3),
    "divmod": lambda x, y: (ops.floor_divide(x, y), ops.remainder(x, y)),
    "modf": lambda x: (ops.frac(x), ops.trunc(x)),
    "matvec": lambda matrix, vector: ops.matmul(matrix, ops.unsqueeze(vector, -1))[..., 0],
    "vecmat": lambda vector, matrix: ops.matmul(ops.unsqueeze(vector, -2), matrix)[..., 0, :],
}
"""The same for those that take several of ours."""

REDUCTIONS = {"add": "sum", "multiply": "prod", "maximum": "amax", "minimum": "amin", "logical_and": "all",
              "logical_or": "any", "logaddexp": "logsumexp"}  # fmt: skip
RUNNING = {
    "add": "cumsum",
    "multiply": "cumprod",
    "maximum": "cummax",
    "minimum": "cummin",
    "logaddexp": "logcumsumexp",
}
"""What ``np.add.reduce`` and ``np.add.accumulate`` stand for."""


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
        return value.detach().numpy()
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
    ours = _ufunc(name, kind, kwargs)
    if ours is not None:
        result = ours(*[lifted(v) for v in inputs], **kwargs)
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


def _ufunc(name, kind, kwargs):
    """Our function for ``ufunc.kind``; None where there is none for these arguments."""
    from .numpy_functions import reduction

    call = COMPOSITES.get(name) or (OPS[UFUNCS[name]].public if name in UFUNCS else None)
    if kind == "__call__":
        return None if kwargs else call
    if kind == "reduce" and name in REDUCTIONS and kwargs.get("initial") is None and kwargs.get("where", True) is True:
        return lambda array, axis=0, dtype=None, keepdims=False, **more: (
            reduction(REDUCTIONS[name])(array, axis, dtype, keepdims=bool(keepdims)))  # fmt: skip
    if kind == "accumulate" and name in RUNNING:
        return lambda array, axis=0, dtype=None: _values(getattr(ops, RUNNING[name])(array, axis))
    if kind == "outer" and call is not None and not kwargs:
        return lambda a, b: call(ops.reshape(a, (*a.shape, *(1,) * np.ndim(b))), b)
    return None


def _values(result):
    return result if isinstance(result, Tensor) else result.values


def lifted(value):
    """Lists and arrays of others as arrays that our operations take."""
    return value if isinstance(value, (Tensor, np.ndarray, np.generic, int, float)) else np.asarray(value)


def call_function(function, args, kwargs):
    """What NumPy's ``function(*args, **kwargs)`` does when a Tensor is among the arguments."""
    from .numpy_functions import CONSTANT, FUNCTIONS

    ours = FUNCTIONS.get(function)
    if ours is None:
        if function in CONSTANT:
            return function(*_plain(args), **{k: _plain(v) for k, v in kwargs.items()})
        return _without_counterpart(function.__name__, function, args, kwargs)
    kwargs = {k: v for k, v in kwargs.items() if v is not np._NoValue}
    try:
        _signature(ours).bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"np.{function.__name__}: {error}, which is not supported for Tensors") from None
    return ours(*args, **kwargs)


_signature = lru_cache(None)(signature)
