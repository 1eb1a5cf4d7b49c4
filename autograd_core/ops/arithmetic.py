"""Arithmetic of two and three operands: sums, products, quotients, powers, and functions of two numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import ops
from ..registry import arithmetic, composite, elementwise, op
from ..shapes import common_dtype, promote, promote_to_float
from .samples import integer, positive, real, sample

BINARY = [sample(real(3, 4), real(3, 4)), sample(real(3, 1), real(4)), sample(real(2, 3), 1.5)]
QUOTIENTS = [sample(real(3, 4), real(3, 4, low=0.5)), sample(real(3, 1), real(4, low=-3, high=-0.5))]


def zeros(g):
    """The gradient of a function that is flat wherever it has one."""
    return ops.zeros_like(g)


def is_bool(value):
    """Whether a value is an array of booleans, or one boolean."""
    return getattr(value, "dtype", np.dtype(type(value))).kind == "b"


def refuse_bool(function, values, instead):
    """Raise when all of ``values`` are booleans, for which PyTorch has no ``function``."""
    if values[0].__class__ is np.ndarray and values[0].dtype.kind != "b":
        return
    if all(map(is_bool, values)):
        raise RuntimeError(f"{function} of bool tensors is not supported; {instead}")


def tensors(function, *positions, then=promote):
    """A promotion that first refuses numbers at ``positions``, where PyTorch takes tensors alone; then ``then``."""

    def check(arrays):
        for position in positions:
            if not isinstance(arrays[position], (np.ndarray, np.generic)):
                got = type(arrays[position]).__name__
                raise TypeError(f"{function}: argument {position + 1} must be a Tensor, got {got}")
        return then(arrays)

    return check


def all_arrays(arrays):
    """Promote to a common floating-point type, numbers too: for bodies that take logarithms of what may be a number."""
    found = promote_to_float(arrays)
    kind = next(a.dtype for a in found if isinstance(a, (np.ndarray, np.generic)))
    return [np.asarray(a, kind) for a in found]


def is_number(value):
    """Whether an operand is a plain number rather than an array or a Tensor."""
    return isinstance(value, (int, float))


# ---------------------------------------------------------------------------------------------------- sums, products


def _scaled(g, alpha):
    return g if alpha == 1 else g * alpha


def _no_bools(arrays, settings):
    if any(type(a) is not float and is_bool(a) for a in arrays):
        raise RuntimeError("subtraction with bool tensors is not supported; use ^ or logical_xor, or convert them")
    return settings


def _times_alpha(other, alpha):
    if type(alpha) is int:
        return other if alpha == 1 else np.multiply(other, alpha)
    kind = common_dtype([other]).kind
    if isinstance(alpha, bool) and kind != "b":
        raise RuntimeError("alpha is a bool, which only bool tensors allow")
    if isinstance(alpha, float) and kind != "f":
        raise RuntimeError(f"alpha must not be a float for integer tensors, got {alpha}")
    return np.multiply(other, alpha)


@op(arithmetic, signature="input, other, *, alpha=1", vjp=[lambda g: g, lambda g, alpha: _scaled(g, alpha)],
    scalar="input + alpha * other", onnx="Add",
    samples=[*BINARY, sample(real(3, 4), real(4), alpha=2.5)])  # fmt: skip
def add(input, other, *, alpha):
    """Sum: input + alpha * other."""
    return np.add(input, other if type(alpha) is int and alpha == 1 else _times_alpha(other, alpha))


@op(arithmetic, signature="input, other, *, alpha=1", vjp=[lambda g: g, lambda g, alpha: -_scaled(g, alpha)],
    prepare=_no_bools, scalar="input - alpha * other", onnx="Sub", aliases=["subtract"],
    samples=[*BINARY, sample(real(3, 4), real(4), alpha=2.5)])  # fmt: skip
def sub(input, other, *, alpha):
    """Difference: input - alpha * other."""
    return np.subtract(input, other if type(alpha) is int and alpha == 1 else _times_alpha(other, alpha))


@op(arithmetic, signature="input, other, *, alpha=1", vjp=[lambda g, alpha: -_scaled(g, alpha), lambda g: g],
    prepare=_no_bools, promote=tensors("rsub", 0), scalar="other - alpha * input", method=False,
    samples=[*BINARY, sample(real(3, 4), real(4), alpha=2.5)])  # fmt: skip
def rsub(input, other, *, alpha):
    """Difference the other way round: other - alpha * input."""
    return np.subtract(other, _times_alpha(input, alpha))


@op(arithmetic, vjp=[lambda g, other: g * other, lambda g, input: g * input], scalar="input * other", samples=BINARY,
    onnx="Mul", aliases=["multiply"])  # fmt: skip
def mul(input, other):
    """Product."""
    return np.multiply(input, other)


@op(arithmetic, vjp=[lambda g: -g], scalar="-input", samples=[real(3, 4)], onnx="Neg", aliases=["negative"])
def neg(input):
    """Negation."""
    refuse_bool("negation", (input,), "use ~ or logical_not")
    return np.negative(input)


TERNARY = [sample(real(3, 4), real(3, 1), real(4, low=0.5)), sample(real(3, 4), real(4), positive(3, 4), value=0.5)]


@op(arithmetic, signature="input, tensor1, tensor2, *, value=1",
    vjp=[lambda g: g, lambda g, tensor2, value: g * _scaled(tensor2, value),
         lambda g, tensor1, value: g * _scaled(tensor1, value)],
    scalar="input + value * tensor1 * tensor2", samples=TERNARY)  # fmt: skip
def addcmul(input, tensor1, tensor2, *, value):
    """Sum with a product: input + value * tensor1 * tensor2."""
    if isinstance(value, float) and input.dtype.kind != "f":
        raise RuntimeError(f"value must not be a float for integer tensors, got {value}")
    return np.add(input, np.multiply(_times_alpha(tensor1, value), tensor2))


@op(arithmetic, signature="input, tensor1, tensor2, *, value=1",
    vjp=[lambda g: g, lambda g, tensor2, value: g * (value / tensor2),
         lambda g, tensor1, tensor2, value: -g * _scaled(tensor1, value) / (tensor2 * tensor2)],
    scalar="input + value * tensor1 / tensor2", samples=TERNARY)  # fmt: skip
def addcdiv(input, tensor1, tensor2, *, value):
    """Sum with a quotient: input + value * tensor1 / tensor2, of floating-point tensors."""
    if input.dtype.kind != "f":
        raise RuntimeError(f"the tensors must be floating-point, got {input.dtype}; see div and its rounding_mode")
    return np.add(input, np.true_divide(_times_alpha(tensor1, value), tensor2))


def _lerp_arguments(arrays):
    kinds = {a.dtype for a in arrays if isinstance(a, np.ndarray)}
    if len(kinds) > 1:
        raise RuntimeError(f"input, end and weight must have one dtype, got {', '.join(sorted(k.name for k in kinds))}")
    return arrays


@op(elementwise, vjp=[lambda g, weight: g * (1 - weight), lambda g, weight: g * weight,
                      lambda g, input, end: g * (end - input)], promote=_lerp_arguments,
    scalar="input + weight * (end - input) if abs(weight) < 0.5 else end - (end - input) * (1 - weight)",
    samples=[sample(real(3, 4), real(3, 4), 0.3), sample(real(3, 4), real(4), real(3, 1))])  # fmt: skip
def lerp(input, end, weight):
    """Linear interpolation: input + weight * (end - input), worked out from the nearer of the two ends."""
    span = end - input
    if is_number(weight):
        return input + weight * span if abs(weight) < 0.5 else end - span * (1 - weight)
    return np.where(np.abs(weight) < 0.5, input + weight * span, end - span * (1 - weight))


# ---------------------------------------------------------------------------------------------------- quotients


@op(elementwise, vjp=[lambda g, other: g / other, lambda g, out, other: -g * out / other], scalar="input / other",
    samples=QUOTIENTS, onnx="Div")  # fmt: skip
def true_divide(input, other):
    """Quotient as floats."""
    return np.true_divide(input, other)


def _whole_quotient(input, other, ufunc):
    """A rounding division; integers refuse zero as a divisor instead of answering with a wrong number."""
    refuse_bool("integer division", (input, other), "convert one of them first")
    if getattr(other, "dtype", None) is not None and other.dtype.kind in "iu" and not np.all(other):
        raise ZeroDivisionError("integer division by zero")
    return ufunc(input, other)


def _truncated(input, other):
    if np.result_type(input, other).kind == "f":
        return np.trunc(np.true_divide(input, other))
    return (input - np.fmod(input, other)) // other  # rounds towards zero, and no detour through floats


def _rounding(arrays, settings):
    mode = settings["rounding_mode"]
    if mode not in (None, "trunc", "floor"):
        raise RuntimeError(f"div: rounding_mode must be None, 'trunc' or 'floor', got {mode!r}")
    arrays[:] = promote_to_float(arrays) if mode is None else promote(arrays)
    return settings


@op(elementwise, signature="input, other, *, rounding_mode=None", prepare=_rounding, promote=False,
    vjp=[lambda g, other, rounding_mode: zeros(g) if rounding_mode else g / other,
         lambda g, out, other, rounding_mode: zeros(g) if rounding_mode else -g * out / other],
    scalar="input / other if rounding_mode is None else floor_divide(input, other) if rounding_mode == 'floor' else "
           "trunc_divide(input, other)",
    samples=[*QUOTIENTS, sample(real(3, 4), 0.7, rounding_mode="trunc"),
             sample(real(3), real(3), rounding_mode="floor"),
             sample(integer(3, 4), integer(3, 4, low=1), rounding_mode="trunc")], aliases=["divide"])  # fmt: skip
def div(input, other, *, rounding_mode):
    """Quotient: as floats, or rounded towards zero (``rounding_mode="trunc"``) or down (``"floor"``)."""
    if rounding_mode is None:
        return np.true_divide(input, other)
    return _whole_quotient(input, other, np.floor_divide if rounding_mode == "floor" else _truncated)


@op(arithmetic, samples=[sample(real(3, 4), 0.7), sample(integer(3, 4, low=-9, high=9), integer(4, low=1))],
    scalar="floor_divide(input, other)")  # fmt: skip
def floor_divide(input, other):
    """Quotient rounded down; like PyTorch's, it has no gradient."""
    return _whole_quotient(input, other, np.floor_divide)


REMAINDERS = [sample(real(3, 4), 0.7), sample(real(3, 4), real(4, low=-3, high=-0.5))]


@op(arithmetic, vjp=[lambda g: g, lambda g, input, other: -g * ops.floor_divide(input, other)], samples=REMAINDERS,
    scalar="remainder(input, other)")  # fmt: skip
def remainder(input, other):
    """Remainder of division rounded down: input - floor(input / other) * other, with the divisor's sign."""
    return _whole_quotient(input, other, np.remainder)


@op(arithmetic, vjp=[lambda g: g, lambda g, input, other: -g * ops.div(input, other, rounding_mode="trunc")],
    promote=tensors("fmod", 0), samples=REMAINDERS, scalar="fmod(input, other)")  # fmt: skip
def fmod(input, other):
    """Remainder of division rounded towards zero, with the sign of ``input``."""
    return _whole_quotient(input, other, np.fmod)


# ---------------------------------------------------------------------------------------------------- powers


_SIMPLE_POWERS: dict[float, Callable] = {
    -2: lambda x: 1 / (x * x), -1: lambda x: 1 / x, -0.5: lambda x: 1 / np.sqrt(x), 0.5: np.sqrt, 1: np.positive,
    2: np.square, 3: lambda x: x * x * x, 4: lambda x: np.square(np.square(x)),
}  # fmt: skip
"""Powers that are much faster as products and roots, and no less exact."""


def _integer_power(base, exponent):
    """Integer powers; negative exponents give what is left of 1 / base**n in integers: 0 but for the bases 1 and -1."""
    refuse_bool("pow", (base, exponent), "convert one of them first")
    if np.all(np.greater_equal(exponent, 0)):
        return np.power(base, exponent)
    found = np.power(base, np.maximum(exponent, 0))
    sign = np.where(np.asarray(exponent) % 2, base, 1)
    return np.where(np.less(exponent, 0), np.where(np.abs(base) == 1, sign, 0), found).astype(base.dtype)


def _exponent_setting(arrays, settings):
    base, exponent = arrays
    if isinstance(exponent, int) and exponent < 0 and getattr(base, "dtype", np.dtype(float)).kind in "iu":
        raise RuntimeError(f"integers to negative integer powers are not allowed, got exponent {exponent}")
    return settings


def _power_to_base(g, input, exponent):
    if is_number(exponent):
        return zeros(g) if exponent == 0 else g * (exponent * ops.pow(input, exponent - 1))
    return ops.where(exponent == 0, 0, g * (exponent * ops.pow(input, exponent - 1)))


def _power_to_exponent(g, input, exponent, out):
    flat = ops.logical_and(input == 0, exponent >= 0) if not is_number(input) else exponent >= 0 if input == 0 else None
    slope = g * (out * (float(np.log(input)) if is_number(input) else ops.log(input)))
    return slope if flat is None else ops.where(flat, 0, slope)


@op(arithmetic, vjp=[_power_to_base, _power_to_exponent], prepare=_exponent_setting, scalar="input ** exponent",
    onnx="Pow",
    samples=[sample(real(3, 4), 2), sample(positive(3, 1), real(4)), sample(1.7, real(3)),
             sample(positive(3), 0.5)])  # fmt: skip
def pow(input, exponent):
    """Power: input ** exponent."""
    if getattr(input, "dtype", None) is not None and input.dtype.kind != "f":
        return _integer_power(input, exponent)
    simple = _SIMPLE_POWERS.get(exponent) if is_number(exponent) else None
    return np.power(input, exponent) if simple is None else simple(input)


@op(composite, out=True, inplace=True,
    samples=[sample(positive(3, 4), 2), sample(positive(3), real(3)), sample(2, real(3))])  # fmt: skip
def float_power(input, exponent):
    """Power worked out, and returned, in float64."""
    if is_number(input) and is_number(exponent):
        raise TypeError("float_power: input or exponent must be a Tensor, got two numbers")
    return ops.pow(*[float(v) if is_number(v) else ops.to(v, dtype=np.float64) for v in (input, exponent)])


@op(composite, out=True, samples=[sample(real(3, 4), integer(4, low=-3))], inplace=True)
def ldexp(input, other):
    """Product with a power of two: input * 2**other."""
    if is_number(input) or is_number(other):
        raise TypeError("ldexp: input and other must be Tensors, got a number")
    return input * ops.pow(2.0, other)


# ---------------------------------------------------------------------------------------------------- functions of two


@op(elementwise, vjp=[lambda g, input, out: g * (input / out), lambda g, other, out: g * (other / out)],
    samples=BINARY[:2],
    scalar="hypot(input, other)", promote=tensors("hypot", 0, 1))  # fmt: skip
def hypot(input, other):
    """Length of the hypotenuse: sqrt(input**2 + other**2), without overflow on the way."""
    if input.dtype.kind != "f":
        raise RuntimeError(f"the tensors must be floating-point, got {input.dtype}")
    return np.hypot(input, other)


def _angle_slope(g, leg, input, other):
    square = input * input + other * other
    return g * leg * ops.where(square == 0, 0, ops.reciprocal(square))


@op(elementwise, vjp=[lambda g, input, other: _angle_slope(g, other, input, other),
                      lambda g, input, other: _angle_slope(g, -input, input, other)],
    samples=BINARY[:2], scalar="atan2(input, other)", aliases=["arctan2"],
    promote=tensors("atan2", 0, 1, then=promote_to_float))  # fmt: skip
def atan2(input, other):
    """Angle of the point (other, input), in (-pi, pi]."""
    return np.arctan2(input, other)


@op(elementwise, vjp=[lambda g, input, other: g / (1 + ops.exp(other - input)),
                      lambda g, input, other: g / (1 + ops.exp(input - other))],
    samples=BINARY[:2], inplace=False, promote=tensors("logaddexp", 0, 1, then=promote_to_float),
    scalar="input + 0.6931471805599453 if input == other else "
           "max(input, other) + log1p(exp(-abs(input - other)))")  # fmt: skip
def logaddexp(input, other):
    """Logarithm of a sum of exponentials: log(exp(input) + exp(other)), without overflow on the way."""
    return np.logaddexp(input, other)


@op(elementwise, vjp=[lambda g, input, other: g / (1 + ops.exp2(other - input)),
                      lambda g, input, other: g / (1 + ops.exp2(input - other))],
    samples=BINARY[:2], inplace=False, promote=tensors("logaddexp2", 0, 1, then=promote_to_float),
    scalar="input + 1 if input == other else max(input, other) + "
           "1.4426950408889634 * log1p(exp(-0.6931471805599453 * abs(input - other)))")  # fmt: skip
def logaddexp2(input, other):
    """As `logaddexp` with base 2: log2(2**input + 2**other)."""
    return np.logaddexp2(input, other)


def _times_log(input, logarithm, other):
    """input * logarithm, which is 0 where input is 0, but NaN where ``other`` is."""
    return np.where(np.isnan(other), other, np.where(np.equal(input, 0), 0, input * logarithm))


def _log_slope(g, input, logarithm, domain):
    return ops.where(ops.logical_and(input == 0, domain <= 0), 0, g * logarithm)


@op(elementwise, vjp=[lambda g, input, other: _log_slope(g, input, ops.log(other), other),
                      lambda g, input, other: g * input / other],
    samples=[sample(real(3, 4), positive(4)), sample(2.0, positive(3)), sample(real(3), 2.5)],
    aliases=["special.xlogy"],
    promote=all_arrays,
    scalar="other if other != other else 0 if input == 0 else input * log(other)")  # fmt: skip
def xlogy(input, other):
    """Product with a logarithm: input * log(other), 0 where input is 0."""
    return _times_log(input, np.log(other), other)


@op(elementwise, vjp=[lambda g, input, other: _log_slope(g, input, ops.log1p(other), other + 1),
                      lambda g, input, other: g * input / (other + 1)],
    samples=[sample(real(3, 4), positive(4)), sample(2.0, positive(3)), sample(real(3), 2.5)], namespace="special",
    promote=all_arrays,
    scalar="other if other != other else 0 if input == 0 else input * log1p(other)")  # fmt: skip
def xlog1py(input, other):
    """Product with a logarithm: input * log1p(other), 0 where input is 0."""
    return _times_log(input, np.log1p(other), other)
