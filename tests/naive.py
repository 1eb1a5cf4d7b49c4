"""Slow, obvious twins of the kernels: what the fast ones are tested against. Plain loops or one NumPy line a phase."""
from __future__ import annotations

import math

import numpy as np


def gemm(a, b, bias=None, residual=None, alpha=1.0, activation=""):
    """activation(alpha * a @ b + bias + residual), each product computed in float64 row by column."""
    vector_a, vector_b = a.ndim == 1, b.ndim == 1
    a, b = np.atleast_2d(a), b[:, None] if vector_b else b
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = np.broadcast_to(a, batch + a.shape[-2:]).astype(np.float64)
    b = np.broadcast_to(b, batch + b.shape[-2:]).astype(np.float64)
    c = np.zeros((*batch, a.shape[-2], b.shape[-1]))
    for index in np.ndindex(c.shape):
        c[index] = np.sum(a[index[:-1]] * b[(*index[:-2], slice(None), index[-1])])
    c = c[..., 0] if vector_b else c
    c = (c[..., 0, :] if not vector_b else c[..., 0]) if vector_a else c
    c = alpha * c
    for x in (bias, residual):
        if x is not None:
            c = c + x
    return np.where(c < 0, 0, c) if activation == "relu" else c


def erf(x):
    """Error function in x's own precision, by its series of positive terms, which loses no digits and takes many."""
    x = np.clip(x, -6.5, 6.5)
    term = total = 2 * np.exp(-x * x) * x / np.sqrt(np.arccos(x.dtype.type(-1)))
    for n in range(1, 200):
        term = term * (2 * x * x / (2 * n + 1))
        total = total + term
    return total


STEPS = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.true_divide, "&": np.bitwise_and, "|": np.bitwise_or,
    "^": np.bitwise_xor, "<": np.less, "<=": np.less_equal, "==": np.equal, "!=": np.not_equal, ">": np.greater,
    ">=": np.greater_equal, "neg": np.negative, "not": np.logical_not, "convert": np.asarray, "full": np.asarray,
    "where": np.where, "minimum": np.minimum, "maximum": np.maximum, "abs": np.abs, "pow": np.power, "asin": np.arcsin,
    "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "atan2": np.arctan2, "erf": erf, "erfc": np.vectorize(math.erfc), "lgamma": np.vectorize(math.lgamma),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "rsqrt": lambda x: 1 / np.sqrt(x),
}  # fmt: skip


def fused_loop(loop, arrays, numbers=(), axes=0):
    """The outputs of an elementwise loop, one NumPy call a step."""
    values = [*np.broadcast_arrays(*arrays), *map(float, numbers)]
    for function, operands, dtype in loop.steps:
        given = [values[o] if isinstance(o, int) else eval(o, {"np": np}) for o in operands]  # noqa: S307 (a constant)
        with np.errstate(all="ignore"):
            found = (STEPS.get(function) or getattr(np, function))(*given)
        values.append(found if dtype == "number" else np.broadcast_to(found, values[0].shape).astype(dtype))
    over = tuple(range(values[0].ndim - axes, values[0].ndim))
    outputs = []
    for value, reduce in loop.outputs:
        x = values[value]
        total = getattr(np, reduce)(x.astype(np.float64) if x.dtype.kind == "f" else x, axis=over) if reduce else x
        outputs.append(np.asarray(total).astype(x.dtype))
    return outputs
