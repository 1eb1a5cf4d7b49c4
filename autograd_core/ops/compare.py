"""Comparisons and predicates: what is equal, near, finite, negative; and the logic of what is true."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..modes import state
from ..registry import comparison, composite, op
from ..tensor import Tensor
from .arithmetic import tensors
from .samples import boolean, integer, real, sample

PAIRS = [sample(real(3, 4), real(3, 4)), sample(integer(3, 1), integer(4)), sample(integer(2, 3), 2)]


def _relation(ufunc, known, symbol, alias=None, onnx=None):
    """One of the six comparisons of two elements."""

    def body(input, other):
        return ufunc(input, other)

    body.__doc__ = f"Whether input {symbol} other, element by element."
    return op(comparison, name=known, aliases=[alias] if alias else (), samples=PAIRS, promote=tensors(known, 0),
              scalar=f"input {symbol} other", onnx=onnx)(body)  # fmt: skip


eq = _relation(np.equal, "eq", "==", onnx="Equal")
ne = _relation(np.not_equal, "ne", "!=", "not_equal")
lt = _relation(np.less, "lt", "<", "less", "Less")
le = _relation(np.less_equal, "le", "<=", "less_equal", "LessOrEqual")
gt = _relation(np.greater, "gt", ">", "greater", "Greater")
ge = _relation(np.greater_equal, "ge", ">=", "greater_equal", "GreaterOrEqual")


def _logic(ufunc, known, text, scalar, onnx):
    """One of the logical operations of two elements; what is not zero counts as true."""

    def body(input, other):
        return ufunc(input, other)

    body.__doc__ = f"Whether {text} of two elements are true (not zero)."
    return op(comparison, name=known, samples=[sample(boolean(3, 4), boolean(4)), sample(integer(3), real(3))],
              promote=tensors(known, 0, 1, then=list), scalar=scalar, onnx=onnx)(body)  # fmt: skip


logical_and = _logic(np.logical_and, "logical_and", "both", "input != 0 and other != 0", "And")
logical_or = _logic(np.logical_or, "logical_or", "one or both", "input != 0 or other != 0", "Or")
logical_xor = _logic(np.logical_xor, "logical_xor", "exactly one", "(input != 0) != (other != 0)", "Xor")


@op(comparison, samples=[boolean(3, 4), integer(3)], scalar="input == 0", onnx="Not")
def logical_not(input):
    """Whether the element is false (zero)."""
    return np.logical_not(input)


def _predicate(body, known, text, scalar=None, onnx=None):
    """One of the questions about one element."""

    def question(input):
        return body(input)

    question.__doc__ = f"Whether the element is {text}."
    return op(comparison, name=known, samples=[real(3, 4), integer(3)], scalar=scalar, onnx=onnx,
              inplace=False)(question)  # fmt: skip


isnan = _predicate(np.isnan, "isnan", "NaN", "input != input", "IsNaN")
isinf = _predicate(np.isinf, "isinf", "infinite, of either sign", "abs(input) == inf", "IsInf")
isfinite = _predicate(np.isfinite, "isfinite", "neither infinite nor NaN", "input - input == 0")
isposinf = _predicate(lambda x: np.equal(x, np.inf), "isposinf", "positive infinity", "input == inf")
isneginf = _predicate(lambda x: np.equal(x, -np.inf), "isneginf", "negative infinity", "input == -inf")
isreal = _predicate(lambda x: np.ones(x.shape, bool), "isreal", "real, as all elements are here")
signbit = _predicate(lambda x: np.signbit(x) if x.dtype.kind == "f" else np.less(x, 0), "signbit",
                     "negative (-0.0 counts as negative)")  # fmt: skip


def _tolerances(arrays, settings):
    input, other = tensors("isclose", 0, 1, then=list)(arrays)
    if input.dtype != other.dtype:
        raise RuntimeError(f"input and other must have one dtype, got {input.dtype} and {other.dtype}")
    for known in ("rtol", "atol"):
        if settings[known] < 0:
            raise RuntimeError(f"{known} must not be negative, got {settings[known]}")
    return settings


@op(comparison, signature="input, other, rtol=1e-05, atol=1e-08, equal_nan=False", prepare=_tolerances, inplace=False,
    out=False, samples=[sample(real(3, 4), real(3, 4)), sample(integer(3), integer(3), rtol=0.5)])  # fmt: skip
def isclose(input, other, *, rtol, atol, equal_nan):
    """Whether |input - other| <= atol + rtol * |other|; infinities are close to themselves, NaNs if ``equal_nan``."""
    close = np.equal(input, other)
    if input.dtype.kind == "f":
        if equal_nan:
            close |= np.isnan(input) & np.isnan(other)
    else:
        input, other = np.asarray(input, np.float64), np.asarray(other, np.float64)
    if rtol == 0 and atol == 0:
        return close
    error = np.abs(input - other)
    return close | (np.isfinite(error) & (error <= atol + np.abs(rtol * other)))


@op(composite, samples=[sample(real(3, 4), real(3, 4)), sample(real(3), real(3), atol=9.0)])
def allclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    """Whether all elements of two tensors are close, as a Python bool; see `isclose`."""
    return bool(ops.all(ops.isclose(input, other, rtol, atol, equal_nan)))


@op(composite, samples=[sample(real(3, 4), real(3, 4)), sample(real(3), real(4))])
def equal(input, other):
    """Whether two tensors have the same shape and the same elements, as a Python bool."""
    if tuple(input.shape) != tuple(other.shape):
        return False
    if state.watch is None and input.ndim:
        first, second = [x.array if isinstance(x, Tensor) else x for x in (input, other)]
        if first.size > 64:  # where two are not equal, mostly their beginnings are not
            begin = (*(0,) * (first.ndim - 1), slice(64))
            if not np.equal(first[begin], second[begin]).all():
                return False
    return bool(ops.all(input == other))
