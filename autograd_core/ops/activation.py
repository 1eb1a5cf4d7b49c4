"""Activation functions: relu and its relatives, smooth and bounded ones, and those with parameters of their own.

At a kink the gradient is that of the side that PyTorch takes. ``inplace=True`` writes the result into the input.
"""

from __future__ import annotations

import math

import numpy as np

from .. import ops
from ..inplace import in_place
from ..modes import state
from ..registry import arithmetic, composite, elementwise, network, op
from ..shapes import normalize_dim
from .arithmetic import refuse_bool
from .choices import select
from .error_functions import erf_array
from .samples import distinct, real, sample

WIDE = real(3, 4, low=-5.0, high=5.0)


def _floating(arrays):
    for array in arrays:
        if not isinstance(array, (np.ndarray, np.generic)):
            raise TypeError(f"activations need Tensors, got {type(array).__name__}")
        if array.dtype.kind != "f":
            raise RuntimeError(f"activations need floating-point tensors, got {array.dtype}")
    return arrays


FLOATING = {"namespace": "nn.functional", "out": False, "promote": _floating}
"""For activations of floating-point tensors alone."""

# ---------------------------------------------------------------------------------------------------- relu and limits


@op(arithmetic, signature="input, inplace=False", vjp=[lambda g, out: ops.where(out <= 0, 0, g)], out=False,
    scalar="0 if input <= 0 else input", samples=[distinct(3, 4)], aliases=["nn.functional.relu"],
    onnx="Relu")  # fmt: skip
def relu(input):
    """Rectified linear unit: max(input, 0), with gradient 0 at 0."""
    refuse_bool("relu", (input,), "convert it first")
    return np.maximum(input, 0)


def _strictly_between(g, out, low, high):
    return ops.where(ops.logical_and(out > low, out < high), g, 0)


@op(arithmetic, signature="input, inplace=False", vjp=[lambda g, out: _strictly_between(g, out, 0, 6)], out=False,
    scalar="0 if input <= 0 else 6 if input >= 6 else input", samples=[WIDE], namespace="nn.functional")  # fmt: skip
def relu6(input):
    """The input limited to [0, 6]."""
    refuse_bool("relu6", (input,), "convert it first")
    return np.clip(input, 0, 6)


@op(arithmetic, signature="input, min_val=-1.0, max_val=1.0, inplace=False", out=False, namespace="nn.functional",
    vjp=[lambda g, out, min_val, max_val: _strictly_between(g, out, min_val, max_val)],
    scalar="min_val if input <= min_val else max_val if input >= max_val else input",
    samples=[WIDE, sample(WIDE, -2, 0.5)])  # fmt: skip
def hardtanh(input, *, min_val, max_val):
    """The input limited to [min_val, max_val], with gradient 0 at the limits."""
    refuse_bool("hardtanh", (input,), "convert it first")
    if min_val > max_val:
        raise ValueError(f"min_val must not be greater than max_val, got {min_val} and {max_val}")
    low, high = (min_val, max_val) if input.dtype.kind == "f" else (int(min_val), int(max_val))
    return np.clip(input, low, high)


@op(elementwise, signature="input, inplace=False", vjp=[lambda g, input: _strictly_between(g / 6, input, -3, 3)],
    scalar="0 if input <= -3 else 1 if input >= 3 else input / 6 + 0.5", samples=[WIDE], **FLOATING)  # fmt: skip
def hardsigmoid(input):
    """`sigmoid` in straight lines: (input + 3) / 6 limited to [0, 1]."""
    return np.clip(input + 3, 0, 6) / 6


def _hardswish_slope(g, input):
    return ops.where(input <= -3, 0, ops.where(input >= 3, g, g * (input / 3 + 0.5)))


@op(elementwise, signature="input, inplace=False", vjp=[_hardswish_slope], samples=[WIDE], onnx="HardSwish",
    scalar="input * min(max(input + 3, 0), 6) / 6", **FLOATING)  # fmt: skip
def hardswish(input):
    """`silu` with `hardsigmoid` in place of `sigmoid` (Howard et al. 2019, Searching for MobileNetV3)."""
    return input * np.clip(input + 3, 0, 6) / 6


def _outside(g, input, lambd):
    return ops.where(ops.logical_or(input < -lambd, input > lambd), g, 0)


@op(elementwise, signature="input, lambd=0.5", vjp=[_outside], scalar="0 if -lambd <= input <= lambd else input",
    samples=[distinct(3, 4), sample(distinct(3, 4), 1.0)], promote=_floating, aliases=["nn.functional.hardshrink"],
    inplace=False)  # fmt: skip
def hardshrink(input, *, lambd):
    """The input, or 0 where it lies in [-lambd, lambd]."""
    return select(np.logical_and(input >= -lambd, input <= lambd), 0, input)


@op(elementwise, signature="input, lambd=0.5", vjp=[_outside], samples=[distinct(3, 4), sample(distinct(3, 4), 1.0)],
    scalar="input - lambd if input > lambd else input + lambd if input < -lambd else 0 * input",
    **FLOATING)  # fmt: skip
def softshrink(input, *, lambd):
    """The input moved towards 0 by ``lambd``, or 0 where it lies in [-lambd, lambd]."""
    if lambd < 0:
        raise RuntimeError(f"lambd must not be negative, got {lambd}")
    return input - np.clip(input, -lambd, lambd)


def _above(g, input, threshold):
    return ops.where(input <= threshold, 0, g)


@op(arithmetic, signature="input, threshold, value, inplace=False", vjp=[_above], out=True, method=False,
    scalar="value if input <= threshold else input", samples=[sample(distinct(3, 4), 0.3, -1.0)],
    aliases=["nn.functional.threshold"])  # fmt: skip
def threshold(input, *, threshold, value):
    """The input where it exceeds ``threshold``, ``value`` elsewhere."""
    refuse_bool("threshold", (input,), "convert it first")
    return np.where(input <= threshold, np.asarray(value, input.dtype), input)


# ---------------------------------------------------------------------------------------------------- leaky units


@op(elementwise, signature="input, negative_slope=0.01, inplace=False",
    samples=[distinct(3, 4), sample(distinct(3, 4), 0.3)],
    vjp=[lambda g, input, negative_slope: ops.where(input > 0, g, g * negative_slope)], onnx="LeakyRelu",
    scalar="input if input > 0 else input * negative_slope", **FLOATING)  # fmt: skip
def leaky_relu(input, *, negative_slope):
    """The input where it is positive, ``negative_slope * input`` elsewhere."""
    scaled = input * negative_slope
    return np.maximum(input, scaled) if 0 <= negative_slope <= 1 else select(input > 0, input, scaled)


@op(elementwise, vjp=[lambda g, input, weight: ops.where(input > 0, g, g * weight),
                      lambda g, input: ops.where(input > 0, 0, g * input)],
    scalar="input if input > 0 else input * weight", samples=[sample(distinct(3, 4), real(4, low=0.1, high=0.5))],
    namespace="internal", promote=_floating, onnx="PRelu")  # fmt: skip
def leaky(input, weight):
    """`leaky_relu` with a tensor of slopes that broadcasts to the input."""
    return select(input > 0, input, input * weight)


@op(composite, samples=[sample(distinct(2, 3, 4), real(3, low=0.1, high=0.5)), sample(distinct(3, 4), real(1))],
    aliases=["nn.functional.prelu"])  # fmt: skip
def prelu(input, weight):
    """`leaky_relu` with learnt slopes: ``weight`` holds one, or one for each channel (dimension 1)."""
    channels = input.shape[1] if input.ndim > 1 else 1
    count = math.prod(weight.shape)
    if weight.ndim > 1:
        raise RuntimeError(f"prelu: weight must be a scalar or have one dimension, got shape {list(weight.shape)}")
    if count != 1:
        if input.ndim == 0:
            raise RuntimeError(f"prelu: a 0-d input needs one weight, got {count}")
        if count != channels:
            raise RuntimeError(f"prelu: weight must have 1 or {channels} elements (the channels), got {count}")
    if input.dtype != weight.dtype:
        raise RuntimeError(f"prelu: input and weight must have one dtype, got {input.dtype} and {weight.dtype}")
    shape = (1, count, *[1] * (input.ndim - 2)) if count > 1 and input.ndim > 1 else (1,) * input.ndim
    return ops.leaky(input, ops.reshape(weight, shape))


@op(composite, samples=[distinct(3, 4)], aliases=["nn.functional.rrelu"], method=False)
def rrelu(input, lower=1.0 / 8, upper=1.0 / 3, training=False, inplace=False):
    """`leaky_relu` with slopes drawn evenly from [lower, upper] when ``training``, with their mean otherwise."""
    if inplace:
        return in_place(rrelu, "rrelu")(input, lower, upper, training)
    if not lower <= upper:
        raise RuntimeError(f"rrelu: lower must not exceed upper, got {lower} and {upper}")
    if not training:
        return ops.leaky_relu(input, (lower + upper) / 2)
    return ops.where(input > 0, input, input * (ops.rand_like(input) * (upper - lower) + lower))


# ---------------------------------------------------------------------------------------------------- exponential units


def _elu(input, alpha, scale=1.0, rate=1.0):
    """``scale * input`` where positive, ``scale * alpha * (exp(rate * input) - 1)`` elsewhere."""
    curve = np.expm1(np.minimum(input, 0) * rate) * (scale * alpha)
    return select(input > 0, input if scale == 1 else input * scale, curve)


def _elu_slope(g, input, out, alpha, scale=1.0, rate=1.0):
    right = g if scale == 1 else g * scale
    at_zero = scale * alpha * rate  # the slope of the left side; a constant, so that it has no second derivative
    if at_zero != scale:
        right = ops.where(input == 0, g * at_zero, right)
    return ops.where(input >= 0, right, g * (rate * out + at_zero))


@op(elementwise, signature="input, alpha=1.0, inplace=False", samples=[distinct(3, 4), sample(distinct(3, 4), 1.5)],
    vjp=[lambda g, input, out, alpha: _elu_slope(g, input, out, alpha)],
    scalar="input if input > 0 else alpha * expm1(input)", onnx="Elu", **FLOATING)  # fmt: skip
def elu(input, *, alpha):
    """Exponential linear unit: the input, or alpha * (exp(input) - 1) where it is negative (Clevert et al. 2016)."""
    return _elu(input, alpha)


def _rate(arrays, settings):
    if settings["alpha"] == 0:
        raise ZeroDivisionError("alpha must not be 0")
    return settings


@op(elementwise, signature="input, alpha=1.0, inplace=False", samples=[distinct(3, 4), sample(distinct(3, 4), 1.5)],
    vjp=[lambda g, input, out, alpha: _elu_slope(g, input, out, alpha, 1.0, 1 / alpha)], prepare=_rate, onnx="Celu",
    scalar="input if input > 0 else alpha * expm1(input / alpha)", promote=_floating, method=False, out=False,
    aliases=["nn.functional.celu"])  # fmt: skip
def celu(input, *, alpha):
    """`elu` with slope 1 at 0 for any alpha: alpha * (exp(input / alpha) - 1) on the left (Barron 2017)."""
    return _elu(input, alpha, 1.0, 1 / alpha)


SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


@op(elementwise, signature="input, inplace=False", samples=[distinct(3, 4)], method=False, out=False, promote=_floating,
    vjp=[lambda g, input, out: _elu_slope(g, input, out, SELU_ALPHA, SELU_SCALE)], onnx="Selu",
    scalar="input * 1.0507009873554805 if input > 0 else 1.7580993408473766 * expm1(input)",
    aliases=["nn.functional.selu"])  # fmt: skip
def selu(input):
    """Self-normalising `elu`, with the constants that keep mean 0 and variance 1 (Klambauer et al. 2017)."""
    return _elu(input, SELU_ALPHA, SELU_SCALE)


# ---------------------------------------------------------------------------------------------------- smooth functions


def _silu_slope(g, input):
    s = ops.sigmoid(input)
    return g * (s * (1 + input * (1 - s)))


@op(elementwise, signature="input, inplace=False", vjp=[_silu_slope], scalar="input / (1 + exp(-input))",
    samples=[WIDE],
    onnx="Swish", **FLOATING)  # fmt: skip
def silu(input):
    """Sigmoid linear unit, or swish: input * sigmoid(input)."""
    return input / (1 + np.exp(-input))


def _mish_slope(g, input):
    t = ops.tanh(ops.softplus(input))
    return g * (t + input * ops.sigmoid(input) * (1 - t * t))


@op(elementwise, signature="input, inplace=False", vjp=[_mish_slope], scalar="input * tanh(log1p(exp(input)))",
    samples=[WIDE],
    onnx="Mish", **FLOATING)  # fmt: skip
def mish(input):
    """input * tanh(softplus(input)) (Misra 2019)."""
    return input * np.tanh(np.log1p(np.exp(input)))


ROOT_HALF, DENSITY = math.sqrt(0.5), 1 / math.sqrt(2 * math.pi)
GELU_RATE, GELU_CUBE = math.sqrt(2 / math.pi), 0.044715


@op(elementwise, namespace="internal", vjp=[
        lambda g, input: g * ((2 - input * input) * ops.exp(-0.5 * (input * input)) * DENSITY)],
    samples=[WIDE], scalar="gelu_slope(input)", out=False, promote=_floating)  # fmt: skip
def gelu_slope(input):
    """Slope of `gelu`: the normal distribution function plus the input times its density."""
    return 0.5 * (1 + erf_array(input * ROOT_HALF)) + input * np.exp(-0.5 * (input * input)) * DENSITY


def _gelu_slope(g, input, approximate):
    if approximate == "none":
        return g * ops.gelu_slope(input)
    square = input * input
    t = ops.tanh(GELU_RATE * input * (1 + GELU_CUBE * square))
    return g * (0.5 * (1 + t) + 0.5 * input * (1 - t * t) * (GELU_RATE * (1 + 3 * GELU_CUBE * square)))


@op(elementwise, signature="input, approximate='none'", vjp=[_gelu_slope],
    samples=[WIDE, sample(WIDE, approximate="tanh")],
    scalar="0.5 * input * (1 + (erf(input * 0.7071067811865476) if approximate == 'none' else "
           "tanh(0.7978845608028654 * input * (1 + 0.044715 * input * input))))", onnx="Gelu", **FLOATING)  # fmt: skip
def gelu(input, *, approximate):
    """Gaussian error linear unit: the input times the normal distribution function (Hendrycks & Gimpel 2016).

    ``approximate="tanh"`` takes tanh(sqrt(2 / pi) * (input + 0.044715 * input**3)) for erf(input / sqrt(2)).
    """
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"approximate must be 'none' or 'tanh', got {approximate!r}")
    if approximate == "none":
        return 0.5 * input * (1 + erf_array(input * ROOT_HALF))
    return 0.5 * input * (1 + np.tanh(GELU_RATE * input * (1 + GELU_CUBE * (input * input))))


def _softplus_slope(g, input, beta, threshold):
    scaled = input if beta == 1 else input * beta
    return ops.where(scaled > threshold, g, g * ops.sigmoid(scaled))


@op(elementwise, signature="input, beta=1.0, threshold=20.0", vjp=[_softplus_slope],
    samples=[WIDE, sample(WIDE, 2.0, 3.0)],
    scalar="input if input * beta > threshold else log1p(exp(input * beta)) / beta",
    onnx="Softplus", **FLOATING)  # fmt: skip
def softplus(input, *, beta, threshold):
    """Smooth relu: log(1 + exp(beta * input)) / beta; the input itself where beta * input exceeds ``threshold``."""
    scaled = input * beta
    smooth = np.maximum(scaled, 0) + np.log1p(np.exp(-np.abs(scaled)))
    return select(scaled > threshold, input, smooth if beta == 1 else smooth / beta)


@op(elementwise, vjp=[lambda g, input: g * ops.sigmoid(-input)], samples=[WIDE],
    scalar="min(input, 0) - log1p(exp(-abs(input)))", **FLOATING)  # fmt: skip
def logsigmoid(input):
    """Logarithm of the sigmoid, without overflow: min(input, 0) - log(1 + exp(-|input|))."""
    return np.minimum(input, 0) - np.log1p(np.exp(-np.abs(input)))


def _tanhshrink_slope(g, input):
    t = ops.tanh(input)
    return g * (t * t)


@op(elementwise, namespace="nn.functional", out=False, vjp=[_tanhshrink_slope], samples=[WIDE],
    scalar="input - tanh(input)")  # fmt: skip
def tanhshrink(input):
    """input - tanh(input)."""
    return input - np.tanh(input)


def _softsign_slope(g, input):
    size = 1 + ops.abs(input)
    return g / (size * size)


@op(elementwise, namespace="nn.functional", out=False, vjp=[_softsign_slope], samples=[distinct(3, 4)],
    scalar="input / (1 + abs(input))", onnx="Softsign")  # fmt: skip
def softsign(input):
    """input / (1 + |input|)."""
    return input / (1 + np.abs(input))


def _gate_slope(g, input, gate):
    s = ops.sigmoid(gate)
    return g * input * (s * (1 - s))


@op(elementwise, namespace="internal", vjp=(), composite=_gate_slope, samples=[sample(WIDE, WIDE, WIDE)], out=False,
    scalar="g * input * (1 / (1 + exp(-gate)) * (1 - 1 / (1 + exp(-gate))))")  # fmt: skip
def gate_slope(g, input, gate):
    """Gradient of `gated` in the gate."""
    s = 1 / (1 + np.exp(-gate))
    return g * input * (s * (1 - s))


@op(elementwise, namespace="internal", vjp=[lambda g, gate: ops.gated(g, gate), _gate_slope],
    scalar="input / (1 + exp(-gate))", samples=[sample(WIDE, WIDE)], out=False)  # fmt: skip
def gated(input, gate):
    """The input times the sigmoid of the gate."""
    return input / (1 + np.exp(-gate))


def _halves(input, dim):
    half = input.shape[dim] // 2
    return ops.narrow(input, dim, 0, half), ops.narrow(input, dim, half, half)


def _halves_slope(g, input, dim):
    first, gate = _halves(input, dim)
    return ops.cat((ops.gated(g, gate), ops.gate_slope(g, first, gate)), dim)


@op(network, namespace="internal", vjp=[_halves_slope], out=False, samples=[sample(WIDE, 1), sample(real(4, 3), 0)])
def gated_halves(input, *, dim):
    """The first half of a dimension times the sigmoid of the second."""
    return ops.gated(*_halves(input, dim))


@op(composite, namespace="nn.functional", samples=[WIDE, sample(real(4, 3), 0)])
def glu(input, dim=-1):
    """Gated linear unit: the first half of ``dim`` times the sigmoid of the second half (Dauphin et al. 2017)."""
    if input.ndim == 0:
        raise RuntimeError("glu does not support 0-d tensors")
    dim = normalize_dim(dim, input.ndim)
    if input.shape[dim] % 2:
        raise RuntimeError(f"glu: halving dimension {dim} needs an even size, got {input.shape[dim]}")
    if state.watch is not None and state.watch.steers:  # each operation is to be seen by itself
        return ops.gated(*_halves(input, dim))
    return ops.gated_halves(input, dim=dim)
