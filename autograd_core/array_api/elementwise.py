"""The standard's functions of one element at a time: the same records, under the standard's names and promotion."""

from __future__ import annotations

from .. import ops
from ..registry import OPS
from ..tensor import Tensor
from .promotion import unified

UNARY = """
abs acos acosh asin asinh atan atanh bitwise_invert=bitwise_not ceil conj cos cosh exp expm1 floor isfinite isinf isnan
log log10 log1p log2 logical_not negative=neg positive real reciprocal round signbit sin sinh sqrt square tan tanh trunc
"""
BINARY = """
add atan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor copysign divide=true_divide equal=eq
floor_divide greater=gt greater_equal=ge hypot less=lt less_equal=le logaddexp logical_and logical_or logical_xor
maximum minimum multiply=mul nextafter not_equal=ne pow remainder subtract=sub
"""
"""The functions of one and of two arrays, with the record behind each where it has another name."""


def _unary(known, record):
    public = record.public

    def function(x, /):
        if not isinstance(x, Tensor):
            raise TypeError(f"{known}: expected a Tensor, got {type(x).__name__}")
        return public(x)

    return _named(function, known, record)


def _binary(known, record):
    public = record.public

    def function(x1, x2, /):
        return public(*unified(known, x1, x2))

    return _named(function, known, record)


def _named(function, known, record):
    function.__name__ = function.__qualname__ = known
    function.__doc__, function.__module__ = record.doc, __name__
    return function


def imag(x, /):
    """The imaginary part, for complex arrays alone: there are none."""
    raise TypeError(f"imag: needs a complex array, got {x.dtype}; complex numbers are not supported")


def sign(x, /):
    """-1, 0 or 1; NaN for NaN, where PyTorch has 0."""
    found = ops.sign(x)
    return ops.where(ops.isnan(x), x, found) if x.array.dtype.kind == "f" else found


def clip(x, /, min=None, max=None):
    """Elements below ``min`` become ``min``, those above ``max`` become ``max``; the type stays that of ``x``."""
    if min is None and max is None:
        return ops.clone(x)
    _, low, high = unified("clip", x, min, max)
    low, high = (v if v is None or v.dtype == x.dtype else ops.to(v, dtype=x.dtype) for v in (low, high))
    return ops.clamp(x, low, high)


def _attach(table, make):
    for entry in table.split():
        known, _, name = entry.partition("=")
        globals()[known] = make(known, OPS[name or known])


_attach(UNARY, _unary)
_attach(BINARY, _binary)
