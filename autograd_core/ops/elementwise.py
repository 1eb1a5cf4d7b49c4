"""Functions of one element: exponentials, logarithms, trigonometric and hyperbolic functions, roundings, activations."""

from __future__ import annotations

import numpy as np

from ..registry import elementwise, op
from .samples import positive, real


@op(elementwise, vjp=[lambda g, out: g * out], scalar="exp(input)", samples=[real(3, 4)], onnx="Exp")
def exp(input):
    """Exponential: e to the power of the element."""
    return np.exp(input)


@op(elementwise, vjp=[lambda g, input: g / input], scalar="log(input)", samples=[positive(3, 4)], onnx="Log")
def log(input):
    """Natural logarithm."""
    return np.log(input)


@op(elementwise, vjp=[lambda g, out: g * (1 - out * out)], scalar="tanh(input)", samples=[real(3, 4)], onnx="Tanh")
def tanh(input):
    """Hyperbolic tangent."""
    return np.tanh(input)
