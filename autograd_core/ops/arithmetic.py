"""Arithmetic of two operands in their common type, and what keeps the type of one: add, mul, abs, maximum, where."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..registry import arithmetic, comparison, elementwise, op
from .samples import distinct, real, sample

BINARY = [sample(real(3, 4), real(3, 4)), sample(real(3, 1), real(4)), sample(real(2, 3), 1.5)]


@op(arithmetic, vjp=[lambda g: g, lambda g, alpha: g * alpha], scalar="input + alpha * other", samples=BINARY, onnx="Add")
def add(input, other, *, alpha=1):
    """Sum: input + alpha * other."""
    return np.add(input, other) if alpha == 1 else np.add(input, np.multiply(other, alpha))


@op(arithmetic, vjp=[lambda g: g, lambda g, alpha: -g * alpha], scalar="input - alpha * other", samples=BINARY, onnx="Sub",
    aliases=["subtract"])  # fmt: skip
def sub(input, other, *, alpha=1):
    """Difference: input - alpha * other."""
    if getattr(input, "dtype", None) == bool and getattr(other, "dtype", None) == bool:
        raise RuntimeError("subtraction with two bool tensors is not supported; use ^ or logical_xor")
    return np.subtract(input, other) if alpha == 1 else np.subtract(input, np.multiply(other, alpha))


@op(arithmetic, vjp=[lambda g, other: g * other, lambda g, input: g * input], scalar="input * other", samples=BINARY,
    onnx="Mul", aliases=["multiply"])  # fmt: skip
def mul(input, other):
    """Product."""
    return np.multiply(input, other)


@op(elementwise, vjp=[lambda g, other: g / other, lambda g, out, other: -g * out / other], scalar="input / other",
    samples=[sample(real(3, 4), real(3, 4, low=0.5)), sample(real(3, 1), real(4, low=-3, high=-0.5))], onnx="Div")  # fmt: skip
def true_divide(input, other):
    """Quotient as floats."""
    return np.true_divide(input, other)


@op(arithmetic, vjp=[lambda g: -g], scalar="-input", samples=[real(3, 4)], onnx="Neg", aliases=["negative"])
def neg(input):
    """Negation."""
    return np.negative(input)


@op(arithmetic, vjp=[None, lambda g, condition: ops.where(condition, g, 0), lambda g, condition: ops.where(condition, 0, g)],
    promote=False, scalar="input if condition else other", samples=[sample(distinct(3, 4), real(3, 4), real(4))],
    method=False, inplace=False, onnx="Where")  # fmt: skip
def where(condition, input, other):
    """Elements of ``input`` where ``condition`` holds, of ``other`` elsewhere."""
    return np.where(condition, input, other)


@op(comparison, scalar="input < other", samples=BINARY, onnx="Less", aliases=["less"])
def lt(input, other):
    """Whether input < other, element by element."""
    return np.less(input, other)
