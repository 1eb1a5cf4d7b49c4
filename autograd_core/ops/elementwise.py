"""Functions of one element: exponentials, logarithms, trigonometric and hyperbolic functions, signs and roundings."""

from __future__ import annotations

import math

import numpy as np

from .. import ops
from ..registry import arithmetic, composite, elementwise, op
from . import samples as draw
from .arithmetic import refuse_bool, zeros
from .samples import distinct, integer, real, sample

LN2, LN10, DEGREE = math.log(2), math.log(10), math.pi / 180

# ---------------------------------------------------------------------------------------------------- exponentials


@op(elementwise, vjp=[lambda g, out: g * out], scalar="exp(input)", samples=[real(3, 4)], onnx="Exp")
def exp(input):
    """Exponential: e to the power of the element."""
    return np.exp(input)


@op(elementwise, vjp=[lambda g, out: g * out * LN2], scalar="exp2(input)", samples=[real(3, 4)],
    aliases=["special.exp2"])  # fmt: skip
def exp2(input):
    """Two to the power of the element."""
    return np.exp2(input)


@op(elementwise, vjp=[lambda g, out: g * (out + 1)], scalar="expm1(input)", samples=[real(3, 4)],
    aliases=["special.expm1"])  # fmt: skip
def expm1(input):
    """exp(input) - 1, exact also near zero."""
    return np.expm1(input)


@op(elementwise, vjp=[lambda g, input: g / input], scalar="log(input)", samples=[draw.positive(3, 4)], onnx="Log")
def log(input):
    """Natural logarithm."""
    return np.log(input)


@op(elementwise, vjp=[lambda g, input: g / (input * LN2)], scalar="log2(input)", samples=[draw.positive(3, 4)])
def log2(input):
    """Logarithm with base 2."""
    return np.log2(input)


@op(elementwise, vjp=[lambda g, input: g / (input * LN10)], scalar="log10(input)", samples=[draw.positive(3, 4)])
def log10(input):
    """Logarithm with base 10."""
    return np.log10(input)


@op(elementwise, vjp=[lambda g, input: g / (input + 1)], scalar="log1p(input)", samples=[draw.positive(3, 4, low=-0.8)],
    aliases=["special.log1p"])  # fmt: skip
def log1p(input):
    """log(1 + input), exact also near zero."""
    return np.log1p(input)


@op(elementwise, vjp=[lambda g, out: g * (1 - out) * out], scalar="1 / (1 + exp(-input))", samples=[real(3, 4)],
    aliases=["special.expit", "nn.functional.sigmoid"], onnx="Sigmoid")  # fmt: skip
def sigmoid(input):
    """Logistic function: 1 / (1 + exp(-input))."""
    return 1 / (1 + np.exp(-input))


def _logit_slope(g, input, eps):
    low, high = (0, 1) if eps is None else (eps, 1 - eps)
    inside = ops.logical_and(input >= low, input <= high)
    return ops.where(inside, g / (input * (1 - input)), math.nan if eps is None else 0)


@op(elementwise, signature="input, eps=None", vjp=[_logit_slope], aliases=["special.logit"],
    scalar="log(input / (1 - input)) if eps is None else "
           "log(min(max(input, eps), 1 - eps) / (1 - min(max(input, eps), 1 - eps)))",
    samples=[draw.positive(3, 4, low=0.1, high=0.9), sample(real(3, 4, low=-0.2, high=1.2), 0.25)])  # fmt: skip
def logit(input, *, eps):
    """Inverse of `sigmoid`: log(input / (1 - input)), of the input limited to [eps, 1 - eps] if ``eps`` is given."""
    z = input if eps is None else np.clip(input, eps, 1 - eps)
    return np.log(z / (1 - z))


# ---------------------------------------------------------------------------------------------------- roots


@op(elementwise, vjp=[lambda g, out: g / (2 * out)], scalar="sqrt(input)", samples=[draw.positive(3, 4)], onnx="Sqrt")
def sqrt(input):
    """Square root."""
    return np.sqrt(input)


@op(elementwise, vjp=[lambda g, out: -0.5 * g * (out * out * out)], scalar="1 / sqrt(input)",
    samples=[draw.positive(3, 4)])  # fmt: skip
def rsqrt(input):
    """One over the square root."""
    return 1 / np.sqrt(input)


@op(elementwise, vjp=[lambda g, out: -g * (out * out)], scalar="1 / input", samples=[draw.positive(3, 4)],
    onnx="Reciprocal")  # fmt: skip
def reciprocal(input):
    """One over the element."""
    return 1 / input


@op(arithmetic, vjp=[lambda g, input: g * (2 * input)], scalar="input * input", samples=[real(3, 4)])
def square(input):
    """The element times itself."""
    return np.multiply(input, input, dtype=np.int64 if input.dtype == bool else None)


# ---------------------------------------------------------------------------------------------------- trigonometric


@op(elementwise, vjp=[lambda g, input: g * ops.cos(input)], scalar="sin(input)", samples=[real(3, 4)], onnx="Sin")
def sin(input):
    """Sine of an angle in radians."""
    return np.sin(input)


@op(elementwise, vjp=[lambda g, input: -g * ops.sin(input)], scalar="cos(input)", samples=[real(3, 4)], onnx="Cos")
def cos(input):
    """Cosine of an angle in radians."""
    return np.cos(input)


@op(elementwise, vjp=[lambda g, out: g * (1 + out * out)], scalar="tan(input)", samples=[real(3, 4, low=-1, high=1)],
    onnx="Tan")  # fmt: skip
def tan(input):
    """Tangent of an angle in radians."""
    return np.tan(input)


UNIT = [real(3, 4, low=-0.9, high=0.9)]


@op(elementwise, vjp=[lambda g, input: g * ops.rsqrt(1 - input * input)], scalar="asin(input)", samples=UNIT,
    aliases=["arcsin"], onnx="Asin")  # fmt: skip
def asin(input):
    """Inverse sine, in [-pi/2, pi/2]."""
    return np.arcsin(input)


@op(elementwise, vjp=[lambda g, input: -g * ops.rsqrt(1 - input * input)], scalar="acos(input)", samples=UNIT,
    aliases=["arccos"], onnx="Acos")  # fmt: skip
def acos(input):
    """Inverse cosine, in [0, pi]."""
    return np.arccos(input)


@op(elementwise, vjp=[lambda g, input: g / (input * input + 1)], scalar="atan(input)", samples=[real(3, 4)],
    aliases=["arctan"], onnx="Atan")  # fmt: skip
def atan(input):
    """Inverse tangent, in [-pi/2, pi/2]."""
    return np.arctan(input)


def _sinc_slope(g, input, out):
    near = ops.abs(input) < 0.01  # there the series, as the quotient loses digits and has no derivative at zero
    square = (math.pi * input) * (math.pi * input)
    series = -math.pi**2 / 3 * input * (1 - square / 10 * (1 - square / 28))
    return g * ops.where(near, series, (ops.cos(math.pi * input) - out) / ops.where(near, 1.0, input))


@op(elementwise, vjp=[_sinc_slope], samples=[real(3, 4)], aliases=["special.sinc"],
    scalar="1 if input == 0 else sin(3.141592653589793 * input) / (3.141592653589793 * input)")  # fmt: skip
def sinc(input):
    """Normalised cardinal sine: sin(pi * input) / (pi * input), 1 at zero."""
    turns = math.pi * input
    return np.where(turns == 0, 1, np.sin(turns) / turns).astype(input.dtype, copy=False)


@op(elementwise, vjp=[lambda g: g * DEGREE], scalar="input * 0.017453292519943295", samples=[real(3, 4)])
def deg2rad(input):
    """Degrees as radians."""
    return input * DEGREE


@op(elementwise, vjp=[lambda g: g / DEGREE], scalar="input * 57.29577951308232", samples=[real(3, 4)])
def rad2deg(input):
    """Radians as degrees."""
    return input / DEGREE


# ---------------------------------------------------------------------------------------------------- hyperbolic


@op(elementwise, vjp=[lambda g, input: g * ops.cosh(input)], scalar="sinh(input)", samples=[real(3, 4)], onnx="Sinh")
def sinh(input):
    """Hyperbolic sine."""
    return np.sinh(input)


@op(elementwise, vjp=[lambda g, input: g * ops.sinh(input)], scalar="cosh(input)", samples=[real(3, 4)], onnx="Cosh")
def cosh(input):
    """Hyperbolic cosine."""
    return np.cosh(input)


@op(elementwise, vjp=[lambda g, out: g * (1 - out * out)], scalar="tanh(input)", samples=[real(3, 4)], onnx="Tanh",
    aliases=["nn.functional.tanh"])  # fmt: skip
def tanh(input):
    """Hyperbolic tangent."""
    return np.tanh(input)


@op(elementwise, vjp=[lambda g, input: g * ops.rsqrt(input * input + 1)], scalar="asinh(input)", samples=[real(3, 4)],
    aliases=["arcsinh"], onnx="Asinh")  # fmt: skip
def asinh(input):
    """Inverse hyperbolic sine."""
    return np.arcsinh(input)


@op(elementwise, vjp=[lambda g, input: g * ops.rsqrt(input * input - 1)], scalar="acosh(input)",
    samples=[draw.positive(3, 4, low=1.2)], aliases=["arccosh"], onnx="Acosh")  # fmt: skip
def acosh(input):
    """Inverse hyperbolic cosine."""
    return np.arccosh(input)


@op(elementwise, vjp=[lambda g, input: g / (1 - input * input)], scalar="atanh(input)", samples=UNIT,
    aliases=["arctanh"], onnx="Atanh")  # fmt: skip
def atanh(input):
    """Inverse hyperbolic tangent."""
    return np.arctanh(input)


# ---------------------------------------------------------------------------------------------------- signs


@op(arithmetic, vjp=[lambda g, input: g * ops.sign(input)], scalar="abs(input)", samples=[distinct(3, 4)],
    aliases=["absolute"], onnx="Abs")  # fmt: skip
def abs(input):
    """Absolute value; its gradient at zero is 0."""
    refuse_bool("abs", (input,), "convert it first")
    return np.abs(input)


def _sign(input):
    if input.dtype == bool:
        return input.copy()
    found = np.sign(input)
    return np.where(input == input, found, 0).astype(input.dtype) if input.dtype.kind == "f" else found


@op(arithmetic, vjp=[zeros], scalar="1 if input > 0 else -1 if input < 0 else 0", samples=[real(3, 4)], onnx="Sign")
def sign(input):
    """-1, 0 or 1 for elements below, at and above zero; 0 for NaN."""
    return _sign(input)


@op(arithmetic, vjp=[zeros], scalar="1 if input > 0 else -1 if input < 0 else 0", samples=[real(3, 4)])
def sgn(input):
    """As `sign` for real numbers."""
    return _sign(input)


@op(composite, samples=[real(3, 4)])
def positive(input):
    """The tensor itself, as ``+x``."""
    if getattr(input, "array", input).dtype.char == "?":
        raise RuntimeError("positive of bool tensors is not supported; convert it first")
    return input


def _itself(known, text, **options):
    """One of the functions that mean something for complex numbers alone; real tensors come back as they are."""

    def body(input):
        return input

    body.__name__ = body.__qualname__ = known
    body.__doc__ = f"{text}: the tensor itself, as all tensors are real."
    return op(composite, name=known, samples=[real(3, 4)], **options)(body)


real_part = _itself("real", "Real part")
conj = _itself("conj", "Complex conjugate")
conj_physical = _itself("conj_physical", "Complex conjugate", inplace=True)
resolve_conj = _itself("resolve_conj", "The conjugate made explicit")
resolve_neg = _itself("resolve_neg", "The negation made explicit")


@op(elementwise, vjp=[zeros], samples=[real(3, 4)], inplace=False,
    scalar="input if input != input else 3.141592653589793 if input < 0 else 0")  # fmt: skip
def angle(input):
    """Angle of a real number in the complex plane: pi below zero, 0 above, NaN for NaN."""
    found = np.less(input, 0) * input.dtype.type(math.pi)
    return np.where(input == input, found, input)


# ---------------------------------------------------------------------------------------------------- roundings


def _rounded(ufunc, known, text, onnx=None, **options):
    """One of the roundings to whole numbers; integers come back as they are."""

    def body(input):
        refuse_bool(known, (input,), "convert it first")
        return ufunc(input) if input.dtype.kind == "f" else input.copy()

    body.__doc__ = f"The nearest whole number {text}."
    return op(arithmetic, name=known, vjp=[zeros], samples=[real(3, 4), integer(3)], scalar=f"{known}(input)",
              onnx=onnx, **options)(body)  # fmt: skip


floor = _rounded(np.floor, "floor", "below", "Floor")
ceil = _rounded(np.ceil, "ceil", "above", "Ceil")
trunc = _rounded(np.trunc, "trunc", "towards zero", aliases=["fix"])


@op(arithmetic, signature="input, *, decimals=0", vjp=[zeros], onnx="Round", aliases=["special.round"],
    scalar="rint(input) if decimals == 0 else unserved()",
    samples=[real(3, 4), integer(3), sample(real(3, 4), decimals=1),
             sample(real(3, high=99.0), decimals=-1)])  # fmt: skip
def round(input, *, decimals):
    """The nearest number with ``decimals`` digits after the point (before it, if negative); halves go to even."""
    refuse_bool("round", (input,), "convert it first")
    if input.dtype.kind != "f":
        if decimals:
            raise RuntimeError(f"decimals must be 0 for integer tensors, got {decimals}")
        return input.copy()
    if decimals == 0:
        return np.rint(input)
    unit = 10.0 ** max(decimals, -decimals)
    return np.rint(input * unit) / unit if decimals > 0 else np.rint(input / unit) * unit


@op(arithmetic, vjp=[lambda g: g], scalar="input - trunc(input)", samples=[real(3, 4)])
def frac(input):
    """What follows the point, with the element's sign: input - trunc(input)."""
    if input.dtype.kind != "f":
        raise RuntimeError(f"the tensor must be floating-point, got {input.dtype}")
    return input - np.trunc(input)


@op(arithmetic, vjp=[lambda gs, exponent: None if gs[0] is None else gs[0] / ops.exp2(exponent)], samples=[real(3, 4)],
    outputs="mantissa exponent", constant_outputs=(1,), inplace=False)  # fmt: skip
def frexp(input):
    """Mantissa in [0.5, 1) and exponent (int32) with input = mantissa * 2**exponent."""
    if input.dtype.kind != "f":
        raise RuntimeError(f"the tensor must be floating-point, got {input.dtype}")
    return np.frexp(input)


@op(arithmetic, signature="input, nan=0.0, posinf=None, neginf=None",
    vjp=[lambda g, input: ops.where(ops.isfinite(input), g, 0)],
    samples=[real(3, 4), sample(real(3), 1.0, 2.0, -2.0), integer(3)],
    scalar="(0 if nan is None else nan) if input != input else "
           "(largest(input) if posinf is None else posinf) if input == inf else "
           "(-largest(input) if neginf is None else neginf) if input == -inf else input")  # fmt: skip
def nan_to_num(input, *, nan, posinf, neginf):
    """NaNs and infinities replaced by numbers: 0 and the largest and smallest finite ones, unless others are given."""
    if input.dtype.kind != "f":
        return input.copy()
    limits, found = np.finfo(input.dtype), np.array(input)
    for wrong, value in ((np.not_equal(input, input), 0.0 if nan is None else nan),
                         (np.equal(input, np.inf), limits.max if posinf is None else posinf),
                         (np.equal(input, -np.inf), limits.min if neginf is None else neginf)):  # fmt: skip
        np.copyto(found, value, where=wrong, casting="unsafe")
    return found
