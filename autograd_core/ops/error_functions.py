"""The error function and its kin (erfc, erfinv, the normal distribution function).

Large arrays are worked on in loops (`kernels.vmath_error`), small ones by SciPy, but for erf, which needs neither:
polynomials fitted to the true values, erf(x) / x in x**2 below 1, and (1 + 2 x) erfcx(x) in (x - 3) / (x + 3) above,
the variable of Shepherd & Laframboise (Mathematics of Computation 36, 1981), within a few units in the last place.
"""

from __future__ import annotations

import math

import numpy as np

from .. import ops
from ..registry import elementwise, op
from .samples import real, sample
from .special import of_small

ERF = (
    1.1283791670955126, -0.3761263890318375, 0.11283791670954882, -0.026866170645077334, 0.005223977624823223,
    -0.0008548326981129666, 0.00012055331122299266, -1.4925595519506043e-05, 1.6461004480962034e-06,
    -1.6350354461959655e-07, 1.4660051998394848e-08, -1.1373902296430911e-09, 5.958930743134941e-11,
)  # fmt: skip
"""erf(x) / x by powers of x**2, for |x| <= 1."""

ERFCX = (
    1.2530080582697296, -0.1356211061245812, -0.04756229435345109, 0.12964515870276475, -0.11927366341528023,
    0.06830802734384515, -0.023770514919506852, 0.0025293918180474668, 0.0018886903716907627, -0.0007798322884823084,
    -0.00010515990108729849, 0.0001250994355712812, 4.949988662264347e-06, -2.0100843094844725e-05,
    -7.33143259743597e-07, 3.473024167841533e-06, 3.6039109257127714e-07, -6.175617678992323e-07,
    -1.468317549412059e-07, 1.0277997488271058e-07, 4.695094669161478e-08,
    -1.3906145791730995e-08, -1.1734464137789685e-08,
    1.2019719440135797e-09, 2.062632295983255e-09, -3.451497487664334e-11, -1.8819366309448724e-10,
)  # fmt: skip
"""(1 + 2 x) erfcx(x) by powers of (x - 3) / (x + 3), for x >= 0."""

ERF_SINGLE = (
    (1.1283791438214132, 0.1915420296789582, 0.05287437907964553, 0.0038078171188478927, 0.0002846814217765341,
     2.0259860606121677e-06),
    (1.0, 0.5030823813622225, 0.11455622536191859, 0.015054395669841037, 0.0011706452354837823, 3.783229248451996e-05),
)  # fmt: skip
"""Numerator and denominator of erf(x) / x by powers of x**2 in single precision, for |x| <= 3.95, where erf is 1."""

BLOCK = 8192  # elements whose many passes stay in cache
FEW = 256  # elements up to which Python's own function is quicker than NumPy's many passes
ROOT_HALF, ROOT_TWO_PI, SLOPE = math.sqrt(0.5), math.sqrt(2 * math.pi), 2 / math.sqrt(math.pi)


def polynomial(coefficients, x):
    """The polynomial with these coefficients, lowest power first, at the elements of an array, by Horner's rule."""
    out = np.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        out *= x
        out += c
    return out


def _erf_near(x):
    return x * polynomial(ERF, x * x)


def _scaled_tail(a):
    """erfcx of what is not negative."""
    return polynomial(ERFCX, 1 - 6 / (a + 3)) / (1 + 2 * a)


def _erf_single(x):
    x = np.clip(x, -3.95, 3.95)
    square = x * x
    x *= polynomial(ERF_SINGLE[0], square)
    x /= polynomial(ERF_SINGLE[1], square)
    return np.clip(x, -1, 1, out=x)  # and so exactly 1 from 3.95 on


def _erf_double(x):
    a = np.abs(x)
    far = np.copysign(1 - np.exp(-np.minimum(a, 30.0) ** 2) * _scaled_tail(a), x)
    return np.where(a < 1, _erf_near(np.clip(x, -1, 1)), far)


def erf_array(x):
    """erf of an array of any floating-point type, in that type."""
    if x.size <= FEW:
        return np.array([math.erf(v) for v in x.reshape(-1).tolist()], x.dtype).reshape(x.shape)
    body, kind = (_erf_double, np.float64) if x.dtype == np.float64 else (_erf_single, np.float32)
    flat = x.reshape(-1).astype(kind, copy=False)
    out = np.empty_like(flat)
    for start in range(0, flat.size, BLOCK):
        out[start : start + BLOCK] = body(flat[start : start + BLOCK])
    return out.reshape(x.shape).astype(x.dtype, copy=False)


# ---------------------------------------------------------------------------------------------------- operations


@op(elementwise, vjp=[lambda g, input: g * SLOPE * ops.exp(-(input * input))], scalar="erf(input)",
    samples=[real(3, 4)],
    aliases=["special.erf"], onnx="Erf")  # fmt: skip
def erf(input):
    """Error function: 2 / sqrt(pi) times the integral of exp(-t**2) from 0 to the element."""
    return erf_array(input)


@op(elementwise, vjp=[lambda g, input: -g * SLOPE * ops.exp(-(input * input))], scalar="erfc(input)",
    samples=[real(3, 4)],
    aliases=["special.erfc"])  # fmt: skip
def erfc(input):
    """Complementary error function: 1 - erf(input), exact also where erf is near 1."""
    return of_small("erfc", input)


@op(elementwise, vjp=[lambda g, out: g * ops.exp(out * out) / SLOPE], samples=[real(3, 4, low=-0.95, high=0.95)],
    scalar="erfinv(input)", aliases=["special.erfinv"])  # fmt: skip
def erfinv(input):
    """Inverse of the error function, on [-1, 1]."""
    return of_small("erfinv", input)


@op(elementwise, vjp=[lambda g, input, out: g * (2 * input * out - SLOPE)], samples=[real(3, 4)], namespace="special",
    scalar="erfcx(input)")  # fmt: skip
def erfcx(input):
    """Scaled complementary error function: exp(input**2) * erfc(input)."""
    return of_small("erfcx", input)


@op(elementwise, vjp=[lambda g, input: g * ops.exp(-0.5 * (input * input)) / ROOT_TWO_PI], samples=[real(3, 4)],
    namespace="special", scalar="ndtr(input)")  # fmt: skip
def ndtr(input):
    """Normal distribution function: the chance that a standard normal variable lies below the element."""
    return of_small("ndtr", input)


def _log_ndtr_slope(g, input, out):
    below = SLOPE * ROOT_HALF / erfcx(-ROOT_HALF * ops.clamp_max(input, 0))
    above = ops.exp(-0.5 * (input * input) - out) / ROOT_TWO_PI
    return g * ops.where(input < 0, below, above)


@op(elementwise, vjp=[_log_ndtr_slope], namespace="special", scalar="log_ndtr(input)",
    samples=[real(3, 4), sample(real(3, low=-30.0, high=-5.0))])  # fmt: skip
def log_ndtr(input):
    """Logarithm of the normal distribution function, exact also where that underflows."""
    return of_small("log_ndtr", input)
