"""Elementary functions on explicit vectors of float32 and float64: polynomials, as libm takes one element at a time.

Errors are the largest found over dense grids, in units in the last place (ulp) of the true value; infinities, NaN,
denormal numbers and both zeros come out as in IEEE 754. Every function takes a vector, or one floating-point number.
Polynomials are near-minimax fits (relative error below a tenth of an ulp) made in 40 digits.

Only ``a * b + c`` is used where a fused multiply-add pays: the compiler fuses it where the processor can, and range
reductions are exact either way, as their constants leave room for the product.
"""
# Bodies are typed by Numba, not by annotations.
# mypy: ignore-errors
from __future__ import annotations

import functools
import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.extending import intrinsic, overload

from autograd_core.kernels import host, simd
from autograd_core.kernels.runner import FAST
from autograd_core.kernels.simd import Vector, absolute, bitcast, convert, copysign, full, lane, rint, sqrt, where

# ------------------------------------------------------------------------------------------------------- coefficients

EXP = {
    "float32": (0.4999999403953552, 0.1666651964187622, 0.04166838899254799, 0.008368773385882378,
                0.0013814803678542376),
    "float64": (0.5000000000000011, 0.1666666666666641, 0.04166666666652917, 0.008333333333495207,
                0.0013888888943927118, 0.00019841269505705984, 2.480149275907953e-05, 2.755758647340288e-06,
                2.763037966461162e-07, 2.500024779875111e-08),
}
"""(exp(r) - 1 - r) / r**2 by powers of r, for |r| <= log(2) / 2."""

LOG = {
    "float32": (0.3333331346511841, -0.25000008940696716, 0.2000211775302887, -0.16667991876602173,
                0.14219561219215393, -0.12405648082494736, 0.1188814714550972, -0.1167529746890068,
                0.06746253371238708),
    "float64": (0.6666666666666735, 0.39999999999413166, 0.2857142874275819, 0.22222198531810217, 0.18183566639717463,
                0.15313987416338426, 0.14796618917203158),
}
"""float32: (log(1 + f) - f + f**2 / 2) / f**3 by powers of f, for sqrt(1/2) <= 1 + f <= sqrt(2). float64:
(log((1 + s) / (1 - s)) / s - 2) / s**2 by powers of s**2, for the same range of (1 + s) / (1 - s)."""

ERF = (
    1.1283791670955126, -0.3761263890318375, 0.11283791670954857, -0.026866170645072893, 0.005223977624780861,
    -0.0008548326978742209, 0.0001205533103690994, -1.4925593507346627e-05, 1.6460972827250472e-06,
    -1.6350025358130944e-07, 1.4657880914870841e-08, -1.136567066366635e-09, 5.94527054202034e-11,
)
"""float64: erf(x) / x by powers of x**2, for |x| <= 1."""

ERF_TAIL = (
    0.2079832913334287, 0.15436117429436816, 0.0496984454034495, 0.012713147695383602, 0.0024793146966358196,
    0.0003316029690992338, 1.9563557889475494e-05, -2.4255496950655356e-06, -5.540058641412177e-07,
    4.19833937373004e-09, 1.1751946641082603e-08, -8.997366782634346e-12, -1.801769084576237e-10,
)
"""float64: exp(a**2) * (1 - erf(a)) by powers of 14.4 / (a + 3) - 2.6, for 1 <= a <= 6."""

ERF_SINGLE = (
    1.6279070377349854, 0.9184434413909912, 0.14832986891269684, -0.027875443920493126, 0.00029691634699702263,
    0.0018058179412037134, -0.000549651391338557, 5.872789552086033e-05,
)
"""float32: -log2(1 - erf(a)) / a by powers of a, for 0 <= a <= 3.95, where erf becomes 1."""

EXP2_SINGLE = (0.6931471824645996, 0.24022649228572845, 0.05550357326865196, 0.009618237614631653,
               0.0013390848180279136, 0.00015403531142510474)
"""float32: (2**r - 1) / r by powers of r, for |r| <= 1 / 2."""

GELU_SLOPE = (
    0.5, -0.7978806495666504, 0.24993102252483368, -0.13256259262561798, 0.061244383454322815, -0.024410134181380272,
    0.008002670481801033, -0.0020003081299364567, 0.00034598683123476803, -3.604039375204593e-05,
    1.6782489637989784e-06,
)
"""float32: exp(a**2 / 2) times the slope of GELU at -a by powers of a, for 0 <= a <= 5.8."""

SIN = {
    "float32": (-0.16666655242443085, 0.008332176133990288, -0.0001951699232449755),
    "float64": (-0.16666666666666632, 0.008333333333322368, -0.0001984126982976961, 2.7557313678200296e-06,
                -2.5050755897090512e-08, 1.5896663162828888e-10),
}
"""(sin(r) / r - 1) / r**2 by powers of r**2, for |r| <= pi / 4."""

COS = {
    "float32": (0.04166664555668831, -0.0013887365348637104, 2.4438237232971005e-05),
    "float64": (0.0416666666666666, -0.0013888888888874062, 2.480158728944185e-05, -2.7557314340190823e-07,
                2.08757215626958e-09, -1.1359556369724121e-11),
}
"""(cos(r) - 1 + r**2 / 2) / r**4 by powers of r**2, for |r| <= pi / 4."""

TAN = {
    "float32": (0.33333349227905273, 0.1333264410495758, 0.05406222864985466, 0.02126987837255001, 0.010868653655052185,
                4.676430035033263e-05, 0.004397915210574865),
    "float64": (0.33333333333332743, 0.13333333333419398, 0.05396825392438883, 0.021869489663580724,
                0.008863218395942021, 0.0035922960069380483, 0.0014547158881412824, 0.0005952418127121875,
                0.00022185740054755918, 0.00013760277187495188, -2.7906554577240383e-05, 9.085170580166803e-05,
                -4.5633167905751594e-05, 2.1045512247995902e-05),
}
"""(tan(r) / r - 1) / r**2 by powers of r**2, for |r| <= pi / 4."""

TANH = (-0.3333328068256378, 0.1333143562078476, -0.053739115595817566, 0.020637042820453644, -0.0057026082649827)
"""float32: (tanh(x) / x - 1) / x**2 by powers of x**2, for |x| <= 0.625."""

LN2 = {"float32": (0.693145751953125, 1.4286068203094173e-06), "float64": (0.6931471805598903, 5.497923018708371e-14)}
"""log(2) in two parts; the first has so few bits that its product with an exponent is exact."""

LOG10_2 = {"float32": (0.301025390625, 4.605038981195214e-06), "float64": (0.30102999566395283, 2.8363394551044964e-14)}
"""log10(2) in two parts of the same kind."""

LOG2_E, LOG10_E, LOG10_E_REST = 1 / math.log(2), 0.4342944819032518, 1.098319650216765e-17
"""Logarithms of e with base 2 and 10, and what float64 lacks of the latter."""

QUARTER = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)
"""pi / 2 in three parts of float64; the products of the first two with a number below 2**20 are exact."""

QUARTER_SINGLE = (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15)
"""pi / 2 in three parts of float32."""

BITS = {"float32": (np.int32, 23, 127), "float64": (np.int64, 52, 1023)}
"""Integers of the same size, bits of the mantissa, bias of the exponent."""

EXP_RANGE = {"float32": (-104.0, 89.0), "float64": (-746.0, 710.0)}
"""Where exp is neither 0 nor infinite, and a little more."""


# ---------------------------------------------------------------------------------------------------- how it is built


def polynomial(coefficients):
    """Intrinsic that evaluates the polynomial with these coefficients, lowest power first, by Horner's rule."""

    @intrinsic
    def evaluated(typingctx, x):
        def codegen(context, builder, sig, args):
            kind = args[0].type
            scalars = [ir.Constant(kind, [float(c)] * kind.count) for c in coefficients]
            total = scalars[-1]
            for c in scalars[-2::-1]:
                total = builder.fadd(builder.fmul(total, args[0], flags=simd.EXACT), c, flags=simd.EXACT)
            return total

        return signature(x, x), codegen

    return evaluated


_INLINE = {"fastmath": FAST, "error_model": "numpy", "forceinline": True}


def published(build, count=1):
    """Publish what ``build(precision name)`` returns, functions of ``count`` arguments, for vectors and for numbers."""
    made = {name: build(name) for name in ("float32", "float64")}

    def publish(stub):
        def chosen(*given):
            kind = simd._common(*given)
            real = simd._base(kind) if kind else None
            body = made[real.name][stub.__name__] if isinstance(real, types.Float) else None
            return body, kind if isinstance(kind, Vector) else Vector(real, 1), isinstance(kind, Vector)

        def of_one(x):
            body, kind, vector = chosen(x)
            if body is None:
                return None
            return (lambda x: body(x)) if vector else lambda x: lane(body(full(x, kind)), 0)  # noqa: PLW0108

        def of_two(x, y):
            body, kind, vector = chosen(x, y)
            if body is None:
                return None
            if vector:
                return lambda x, y: body(full_like(x, kind), full_like(y, kind))
            return lambda x, y: lane(body(full(x, kind), full(y, kind)), 0)

        overload(stub, jit_options=_INLINE)(of_one if count == 1 else of_two)
        return stub

    return publish


def _times_power(fallback):
    """Intrinsic ``x * 2**n`` of vectors, n whole and in range: one instruction with AVX-512, else ``fallback``."""

    @intrinsic
    def one_instruction(typingctx, x, n):
        def codegen(context, builder, sig, args):
            kind, single = args[0].type, x.dtype == types.float32
            mask = ir.Constant(ir.IntType(kind.count), -1)
            rounding = ir.Constant(simd.I32, 4)  # that of the processor's state
            name = f"llvm.x86.avx512.mask.scalef.{'ps' if single else 'pd'}.512"
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(kind, [kind, kind, kind, mask.type, rounding.type]), name)
            return builder.call(function, [*args, ir.Constant(kind, ir.Undefined), mask, rounding])

        return signature(x, x, n), codegen

    def times_power(x, n):
        raise NotImplementedError

    @overload(times_power, jit_options=_INLINE)
    def choose(x, n):
        if x.lanes * x.dtype.bitwidth == 512 and "+avx512f" in host.cpu()[1].split(","):
            return lambda x, n: one_instruction(x, n)  # noqa: PLW0108 (Numba asks for this signature)
        return lambda x, n: fallback(x, n)  # noqa: PLW0108 (as above)

    return times_power


# ---------------------------------------------------------------------------- exponentials and what uses them


@functools.cache
def exponential(name):
    """exp, exp2, moderate_exp and expm1 of one precision, and ``scaled_exp(x, rest, factor)``.

    That is factor * exp(x + rest) for a small rest and results that may be denormal: they are rounded once.
    """
    integer, mantissa, bias = BITS[name]
    to_bits, to_real = simd.scalar(integer), simd.scalar(name)
    low, high = EXP_RANGE[name]
    ln2_high, ln2_low = LN2[name]
    curve = polynomial(EXP[name])
    magic = 1.5 * 2.0**mantissa  # a number of this size has no bits left behind the point: adding it rounds
    offset = int(np.dtype(name).type(magic).view(integer))
    ln2 = math.log(2)
    log2_e, tiny, least, most = 1 / ln2, -ln2 * (mantissa + 3), low / ln2, high / ln2  # expm1 is -1 below ``tiny``
    largest = (bias + 1.45) * math.log(2)  # beyond what expm1 can return, and its factor does not overflow yet

    @simd.device
    def reduced(x):
        """(n + magic, n, r, exp(r) - 1 - r) with x = n * log(2) + r and n a whole number."""
        shifted = x * log2_e + magic
        n = shifted - magic
        r = x - n * ln2_high - n * ln2_low
        return shifted, n, r, r * r * curve(r)

    @simd.device
    def power(n):
        return bitcast((n + bias) << mantissa, to_real)

    @simd.device
    def in_two_steps(x, n):
        n = bitcast(n + magic, to_bits) - offset
        half = n >> 1  # so that neither factor overflows, and denormal results are rounded once
        return x * power(half) * power(n - half)

    times_power = _times_power(in_two_steps)

    @simd.device
    def moderate_exp(x):
        _, n, r, rest = reduced(x)
        return times_power(r + rest + 1, n)

    @simd.device
    def scaled_exp(x, rest, factor):
        n = x * log2_e + magic - magic
        r = x - n * ln2_high - n * ln2_low + rest
        return times_power((r * r * curve(r) + r + 1) * factor, n)

    @simd.device
    def exp(x):
        return moderate_exp(where(x > high, high, where(x < low, low, x)))

    @simd.device
    def expm1(x):
        shifted, n, r, rest = reduced(where(x > largest, largest, where(x < tiny, tiny, x)))
        factor = power(bitcast(shifted, to_bits) - (offset + 1))
        whole = ((r + rest) * factor + (factor - 0.5)) * 2
        return copysign(where(n == 0, r + rest, whole), x)

    @simd.device
    def exp2(x):
        x = where(x > most, most, where(x < least, least, x))
        n = x + magic - magic
        r = (x - n) * ln2
        return times_power(r + r * r * curve(r) + 1, n)

    return {"exp": exp, "moderate_exp": moderate_exp, "expm1": expm1, "scaled_exp": scaled_exp, "exp2": exp2}


_publish = published(exponential)


@_publish
def exp(x):
    """Exponential. Error: 1.0 ulp."""


@_publish
def exp2(x):
    """2 to the power x. Error: 1.5 ulp."""


@_publish
def moderate_exp(x):
    """exp(x) where neither 0 nor infinity comes out; quicker than `exp` by a few instructions."""


@_publish
def expm1(x):
    """exp(x) - 1, exact also near zero. Error: 2 ulp."""


def _sigmoidal(name):
    """sigmoid and tanh of one precision."""
    (low, _), near = EXP_RANGE[name], polynomial(TANH)

    @simd.device
    def sigmoid(x):
        size = absolute(x)
        small = moderate_exp(-where(size > -low, -low, size))
        whole = small + 1
        lost = small - (whole - 1)
        found = where(x < 0, small, 1) / whole  # small in the numerator: exact to the end of the denormals
        return found - found * where(x < 0, 1 - found, found) * lost

    @simd.device
    def by_polynomial(x):
        size, square = absolute(x), x * x
        far = 1 - 2 / (moderate_exp(where(size > 20, 20, size) * 2) + 1)
        return copysign(where(size < 0.625, size + size * square * near(square), far), x)

    @simd.device
    def by_difference(x):
        grown = expm1(absolute(x) * 2)
        bounded = where(grown > 1e18, 1e18, grown)  # so that infinity does not become NaN
        return copysign(bounded / (bounded + 2), x)

    return {"sigmoid": sigmoid, "tanh": by_polynomial if name == "float32" else by_difference}


_publish = published(_sigmoidal)


@_publish
def sigmoid(x):
    """Logistic function 1 / (1 + exp(-x)). Error: 2 ulp."""


@_publish
def tanh(x):
    """Hyperbolic tangent. Error: 4 ulp."""


# --------------------------------------------------------------------------------------------------------- logarithms


def _logarithm(name):
    """log, log2, log10 and log1p of one precision."""
    integer, mantissa, _ = BITS[name]
    to_bits, to_real = simd.scalar(integer), simd.scalar(name)
    (ln2_high, ln2_low), (ten_high, ten_low) = LN2[name], LOG10_2[name]
    curve, single = polynomial(LOG[name]), name == "float32"
    smallest = float(np.finfo(name).tiny)  # that is not denormal
    lift, lifted = 2.0 ** (mantissa + 2), mantissa + 2
    root = int(np.dtype(name).type(math.sqrt(0.5)).view(integer))
    below_mantissa = (1 << mantissa) - 1

    if single:

        @simd.device
        def near_one(f):
            return f * f * (f * curve(f) - 0.5)
    else:

        @simd.device
        def near_one(f):
            s = f / (f + 2)
            square, half = s * s, f * f * 0.5
            return s * (half + square * curve(square)) - half

    @simd.device
    def parts(x):
        """The exponent e and the fraction f of a normal x = 2**e * (1 + f), 1 + f from sqrt(1/2) to sqrt(2)."""
        bits = bitcast(x, to_bits) - root
        return convert(bits >> mantissa, to_real), bitcast((bits & below_mantissa) + root, to_real) - 1

    @simd.device
    def with_edges(x, value):
        value = where(x == 0, -np.inf, value)
        value = where(x < 0, np.nan, value)
        return where(x < np.inf, value, x + x)  # infinity and NaN themselves

    def logarithm(finish):
        """The logarithm that ``finish(e, f)`` makes of the parts."""

        @simd.device
        def function(x):
            if simd.all_lanes((x >= smallest) & (x < np.inf)):
                e, f = parts(x)
                return finish(e, f)
            denormal = x < smallest
            e, f = parts(where(denormal, x * lift, x))
            return with_edges(x, finish(where(denormal, e - lifted, e), f))

        return function

    @simd.device
    def natural(e, f):
        return e * ln2_high + (f + (near_one(f) + e * ln2_low))

    @simd.device
    def binary(e, f):
        return e + (f + near_one(f)) * LOG2_E

    @simd.device
    def decimal_single(e, f):
        return e * ten_high + ((f + near_one(f)) * LOG10_E + e * ten_low)

    @simd.device
    def decimal_double(e, f):
        near = near_one(f)
        whole = f + near
        lost = ((f - whole) + near) * LOG10_E + whole * LOG10_E_REST
        return e * ten_high + (whole * LOG10_E + (lost + e * ten_low))

    @simd.device
    def log1p(x):
        whole = x + 1
        lost = where(absolute(x) < 1, x - (whole - 1), 1 - (whole - x))
        e, f = parts(whole)
        value = e * ln2_high + (f + (near_one(f) + (e * ln2_low + lost / whole)))
        return where(absolute(x) < smallest, x, with_edges(whole, value))

    return {"log": logarithm(natural), "log2": logarithm(binary), "log1p": log1p,
            "log10": logarithm(decimal_single if single else decimal_double)}  # fmt: skip


_publish = published(_logarithm)


@_publish
def log(x):
    """Natural logarithm. Error: 1 ulp."""


@_publish
def log2(x):
    """Logarithm with base 2, exact at powers of 2. Error: 2 ulp."""


@_publish
def log10(x):
    """Logarithm with base 10. Error: 2 ulp."""


@_publish
def log1p(x):
    """log(1 + x), exact also near zero. Error: 2 ulp."""


# ----------------------------------------------------------------------------------------------------- error function


def _error_function(name):
    """erf of one precision."""
    if name == "float32":
        logarithm, power, end = polynomial(ERF_SINGLE), polynomial(EXP2_SINGLE), 3.95
        to_bits, to_real, magic = simd.scalar(np.int32), simd.scalar(np.float32), 1.5 * 2.0**23
        offset = int(np.float32(magic).view(np.int32)) - 127

        @simd.device
        def erf(x):
            a = absolute(x)
            a = where(a > end, end, a)
            y = -a * logarithm(a)  # 1 - erf(a) is 2**y, and 2**y - 1 is worked out without loss near 0
            shifted = y + magic
            r = y - (shifted - magic)
            factor = bitcast((bitcast(shifted, to_bits) - offset) << 23, to_real)
            return copysign(r * power(r) * factor + (factor - 1), x)
    else:
        near, tail, end = polynomial(ERF), polynomial(ERF_TAIL), 6.0

        @simd.device
        def erf(x):
            a = absolute(x)
            limited = where(a > end, end, a)
            far = copysign(1 - moderate_exp(-limited * limited) * tail(14.4 / (limited + 3) - 2.6), x)
            return where(a < 1, x * near(x * x), far)

    return {"erf": erf}


_publish = published(_error_function)


@_publish
def erf(x):
    """Error function. Error: 4 ulp."""


def _gelu_slope(name):
    """Slope of GELU in one precision."""
    left, root_half, density = polynomial(GELU_SLOPE), math.sqrt(0.5), 1 / math.sqrt(2 * math.pi)

    @simd.device
    def single(x):
        a = absolute(x)
        power = a * a * -0.5
        tail = moderate_exp(where(power < -87, -87, power)) * left(where(a > 5.8, 5.8, a))
        return where(x < 0, tail, 1 - tail)

    @simd.device
    def double(x):
        return 0.5 * (1 + erf(x * root_half)) + x * exp(-0.5 * (x * x)) * density

    return {"gelu_slope": single if name == "float32" else double}


_publish = published(_gelu_slope)


@_publish
def gelu_slope(x):
    """Derivative of GELU, normal_cdf(x) + x * normal_density(x). Error: 2e-7 in float32, 1e-15 in float64."""


# --------------------------------------------------------------------------------------------------------- trigonometry


def _trigonometry(name):
    """sin, cos and tan of one precision."""
    sine, cosine, tangent = polynomial(SIN[name]), polynomial(COS[name]), polynomial(TAN[name])
    wide, to_real, to_bits = simd.scalar(np.float64), simd.scalar(name), simd.scalar(np.int64)
    magic, limit = 1.5 * 2.0**52, 2.0**19 * math.pi
    first, second, third = QUARTER
    single_magic, (near, nearer, nearest) = 1.5 * 2.0**23, QUARTER_SINGLE
    to_short = simd.scalar(np.int32)

    @simd.device
    def reduced(x):
        """(number of the quadrant, angle from its middle, what rounding took from it); float32 by way of float64."""
        x = convert(x, wide)
        shifted = x * (2 / math.pi) + magic  # whose last bits are the number
        n = shifted - magic
        r = x - n * first - n * second - n * third
        found = convert(r, to_real)
        return bitcast(shifted, to_bits), found, convert(r - convert(found, wide), to_real)

    @simd.device
    def begun(x):
        """(number of the quadrant as bits, as a number below 0, x without as many of the first part of pi / 2)."""
        shifted = x * (2 / math.pi) + single_magic
        n = single_magic - shifted
        return bitcast(shifted, to_short), n, simd.fma(n, near, x)  # exact: a multiple of 2**-24, and below 1

    @simd.device
    def rounded_twice(x):
        """As `reduced` in float32 alone, for numbers below 8192."""
        quadrant, n, whole = begun(x)
        r = simd.fma(n, nearest, simd.fma(n, nearer, whole))
        return quadrant, r, r * 0

    @simd.device
    def rounded_once(x):
        """As `rounded_twice`, with what rounding took."""
        quadrant, n, whole = begun(x)
        product = n * nearer
        r = whole + product
        second = r - whole
        lost = (whole - (r - second)) + (product - second)
        return quadrant, r, simd.fma(n, nearest, lost + simd.fma(n, nearer, -product))

    @simd.device
    def wave(quadrant, r, lost):
        square = r * r
        odd = r + r * square * sine(square)
        even = 1 - square * 0.5 + square * square * cosine(square)
        found = where((quadrant & 1) == 0, odd, even)
        return where((quadrant & 2) == 0, found, -found)

    @simd.device
    def slope(quadrant, r, lost):
        square = r * r
        found = r + (r * square * tangent(square) + (square + 1) * lost)
        return where((quadrant & 1) == 0, found, -1 / found)

    def circular(finish, turn, libm, reduced_single):
        """The function that ``finish(quadrant + turn, angle, lost)`` makes of an angle; of huge angles ``libm``."""

        @simd.device
        def any_angle(x):
            if simd.all_lanes(absolute(x) < limit):
                quadrant, r, lost = reduced(x)
                return finish(quadrant + turn, r, lost)
            return libm(x)

        @simd.device
        def with_small_angles(x):
            if simd.all_lanes(absolute(x) < 8192):
                quadrant, r, lost = reduced_single(x)
                return finish(quadrant + turn, r, lost)
            return any_angle(x)

        return with_small_angles if name == "float32" and host.multiplies_and_adds() else any_angle

    odd = circular(wave, 0, libm_sin, rounded_twice)
    through_zero = circular(slope, 0, libm_tan, rounded_once)

    @simd.device
    def sin(x):
        return where(x == 0, x, odd(x))

    @simd.device
    def tan(x):
        return where(x == 0, x, through_zero(x))

    return {"sin": sin, "cos": circular(wave, 1, libm_cos, rounded_twice), "tan": tan}


def _per_lane(name, count):
    """Intrinsic that calls the C library's function of ``count`` float64 for each lane: slow, for what is rare."""

    def typed(args):
        kind = simd._common(*args)
        if not isinstance(simd._base(kind), types.Float):
            return None

        def codegen(context, builder, sig, values):
            values = [simd._as(context, builder, v, k, kind) for v, k in zip(values, args, strict=True)]
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(simd.F64, [simd.F64] * count), name)
            element = simd._element(simd._base(kind))

            def one(*parts):
                single = element == simd.F32
                found = builder.call(function, [builder.fpext(p, simd.F64) if single else p for p in parts])
                return builder.fptrunc(found, element) if single else found

            if not isinstance(kind, Vector):
                return one(*values)
            result = ir.Constant(simd._llvm(kind), ir.Undefined)
            for i in range(kind.lanes):
                place = ir.Constant(simd.I32, i)
                result = builder.insert_element(
                    result, one(*[builder.extract_element(v, place) for v in values]), place)
            return result

        return signature(kind, *args), codegen

    if count == 1:
        def made(typingctx, x):
            return typed((x,))
    else:
        def made(typingctx, x, y):
            return typed((x, y))
    made.__name__ = made.__qualname__ = name
    made.__doc__ = f"The C library's {name}, lane by lane."
    return intrinsic(made)


libm_sin, libm_cos, libm_tan = _per_lane("sin", 1), _per_lane("cos", 1), _per_lane("tan", 1)
libm_pow = _per_lane("pow", 2)
sinh, cosh, asinh, acosh, atanh = (_per_lane(name, 1) for name in ("sinh", "cosh", "asinh", "acosh", "atanh"))

_publish = published(_trigonometry)


@_publish
def sin(x):
    """Sine of an angle in radians. Error: 2 ulp."""


@_publish
def cos(x):
    """Cosine of an angle in radians. Error: 2 ulp."""


@_publish
def tan(x):
    """Tangent of an angle in radians. Error: 3 ulp."""


# ------------------------------------------------------------------------------------------------------ powers, roots


def pow(x, y):
    """``x`` to the power ``y``. Error: 1 ulp (float32, worked out in float64), that of libm in float64."""


@overload(pow, jit_options=_INLINE)
def _choose_pow(x, y):
    kind = simd._common(x, y)
    if not isinstance(kind, Vector) or kind.dtype != types.float32:
        return lambda x, y: libm_pow(x, y)  # noqa: PLW0108 (as above)
    wide, single = simd.scalar(np.float64), types.float32

    def power(x, y):
        x, y = full_like(x, kind), full_like(y, kind)
        size = absolute(x)
        found = convert(exp(convert(y, wide) * log(convert(size, wide))), single)
        whole = rint(y) == y
        odd = whole & (rint(y * 0.5) * 2 != y)
        found = where((x < 0) & (x > -np.inf) & ~whole, np.nan, found)
        found = where(odd, copysign(found, x), found)
        return where((y == 0) | (x == 1) | ((x == -1) & (absolute(y) == np.inf)), 1, found)

    return power


@intrinsic
def full_like(typingctx, value, kind):
    """``value``, a number or a vector, as a vector of type ``kind``."""
    wanted = kind.instance_type if hasattr(kind, "instance_type") else kind

    def codegen(context, builder, sig, args):
        return simd._as(context, builder, args[0], value, wanted)

    return signature(wanted, value, kind), codegen


@simd.device
def rsqrt(x):
    """One over the square root. Error: 1 ulp."""
    return 1 / sqrt(x)
