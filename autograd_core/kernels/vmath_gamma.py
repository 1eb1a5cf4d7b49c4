"""The gamma function's kin on vectors: lgamma, digamma, trigamma, polygamma and Hurwitz's zeta.

Everything is worked out in float64, also for float32, whose results are rounded ones (error: 0.5 ulp). Errors in
float64 are the largest found over the whole domain, in units in the last place (ulp) of the true value; left of zero
digits are lost near the roots of lgamma and digamma. Polynomials are near-minimax fits made in 45 digits, for the
expansions of Abramowitz & Stegun, Handbook of Mathematical Functions, 6.1.41, 6.3.18, 6.4.12 and 23.1.30.
"""
# Bodies are typed by Numba, not by annotations.
# mypy: ignore-errors
from __future__ import annotations

import functools
import math

import numpy as np
from llvmlite import ir
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from autograd_core.kernels import simd
from autograd_core.kernels.simd import absolute, any_lane, convert, floor, rint, where
from autograd_core.kernels.vmath import cos, exp, libm_pow, log, log1p, polynomial, published, sin

# ------------------------------------------------------------------------------------------------------- coefficients

LGAMMA = (
    0.42278433509846713, 0.3224670334241133, -0.06735230105319576, 0.020580808427765995, -0.007385551028925216,
    0.0028905103318398345, -0.0011927539013286263, 0.0005096694951568861, -0.00022315497227449042,
    9.945794361789982e-05, -4.492377182250784e-05, 2.0503548146471874e-05, -9.456079362466218e-06,
    4.393503273463854e-06, -1.974825378067207e-06, 8.999411193910732e-07, -5.806132182637265e-07,
    2.976695035088436e-07,
)  # fmt: skip
"""lgamma(2 + d) / d by powers of d, for |d| <= 1 / 2."""

STIRLING = (
    0.0833333333333247, -0.002777777774147077, 0.0007936502349568842, -0.000595194047523195, 0.0008397043993844346,
    -0.0018572347060441335, 0.005232374474032491, -0.013665964934982344, 0.02060260488311741,
)  # fmt: skip
"""(lgamma(x) - (x - 1 / 2) (log(x) - 1) - (log(2 pi) - 1) / 2) x by powers of 1 / x**2, for x >= 3.5."""

DIGAMMA = (
    0.08333333333331926, -0.00833333332496872, 0.003968252186114674, -0.004166474938828163, 0.007563742829779217,
    -0.020620682863196425, 0.0712017660981799, -0.23276661856485814, 0.4494845990774667,
)  # fmt: skip
"""(log(x) - 1 / (2 x) - digamma(x)) x**2 by powers of 1 / x**2, for x >= 4."""

DIGAMMA_ROOT = (
    0.951055876031833, -0.4236274212814606, 0.24054248424077398, -0.14840492305389008, 0.09498872445497288,
    -0.06192213327469405, 0.04076083381078909, -0.02697579669131723, 0.017907252482099296, -0.011908219418232767,
    0.007926944006575091, -0.00527994627005128, 0.0035190122416009343, -0.002345420693096975, 0.0015565987727899305,
    -0.0010368424856504429, 0.0007234390923294096, -0.00048472955539973113, 0.0002270208747776147,
    -0.00014697851919671473, 0.00025985508689012826, -0.0001765627428565856,
)  # fmt: skip
"""digamma(x) / (x - ROOT) by powers of x - 1.5, for 1 <= x <= 2."""

ROOT = (1.4616321449683622, 9.549995429965697e-17)
"""Where digamma is 0, in two parts."""

TRIGAMMA = (
    0.1666666666666498, -0.03333333331943552, 0.02380951983798889, -0.03333276774894463, 0.07571070572505263,
    -0.2506565344436375, 1.0809594046254196, -5.027487932297854, 19.080950027508074, -38.887581422161475,
)  # fmt: skip
"""(trigamma(x) - 1 / x - 1 / (2 x**2)) x**3 by powers of 1 / x**2, for x >= 4."""

EULER_MACLAURIN = (
    1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600,
    -3617 / 10670622842880000, 43867 / 5109094217170944000, -174611 / 802857662698291200000,
    77683 / 14101100039391805440000, -236364091 / 1693824136731743669452800000,
)  # fmt: skip
"""B(2 j) / (2 j)! for j = 1, 2 ..., by Bernoulli's numbers."""

# ------------------------------------------------------------------------------------------------------- one argument

F32, F64 = simd.scalar(np.float32), simd.scalar(np.float64)


def in_double(name, doubles):
    """Functions of float64 by name, for the precision ``name``: numbers of float32 are widened and rounded again."""
    if name == "float64":
        return doubles
    return {key: (_single_of_two if function.py_func.__code__.co_argcount == 2 else _single)(function)
            for key, function in doubles.items()}  # fmt: skip


def _single(function):
    @simd.device
    def single(x):
        return convert(function(convert(x, F64)), F32)

    return single


def _single_of_two(function):
    @simd.device
    def single(x, y):
        return convert(function(convert(x, F64), convert(y, F64)), F32)

    return single


@functools.cache
def logarithmic():
    """``lgamma(x)``, ``of_positive(x)``, the same for x >= 0, and ``stirling(w)``, of float64."""
    near, stirling, constant = polynomial(LGAMMA), polynomial(STIRLING), 0.5 * math.log(2 * math.pi) - 0.5

    @simd.device
    def of_positive(x):
        d = where(x < 1.5, where(x < 0.5, x, x - 1), where(x < 2.5, x - 2, x - 3))  # lgamma(2 + d) is known
        inside = where(x < 1.5, where(x < 0.5, x * (x + 1), x), where(x < 2.5, 1, where(x < 3.5, x - 1, x)))
        logarithm, r = log(inside), 1 / x
        close = d * near(d) + where(x < 1.5, -logarithm, logarithm)
        return where(x < 3.5, close, (x - 0.5) * (logarithm - 1) + (constant + r * stirling(r * r)))

    @simd.device
    def lgamma(x):
        a = absolute(x)
        found = of_positive(a)
        if any_lane(x < 0):
            r = a - rint(a)
            mirrored = log(math.pi / (a * absolute(sin(r * math.pi)))) - found
            mirrored = where((r == 0) | (a > 2.0**52), np.inf, mirrored)
            found = where((x < 0) & (a > 1e-30), mirrored, found)
        return found

    return {"lgamma": lgamma, "of_positive": of_positive, "stirling": stirling}


def _derivatives(name):
    """digamma and trigamma of one precision."""
    first, second, root = polynomial(DIGAMMA), polynomial(TRIGAMMA), polynomial(DIGAMMA_ROOT)
    exact, (upper, lower) = name == "float64", ROOT

    @simd.device
    def digamma(x):
        z = where(x < 0, 1 - x, x)
        y, t = where(z < 4, z + 4, z), z * (z + 3)
        r = 1 / y
        steps = (2 * z + 3) * (2 * t + 2) / (t * (t + 2))  # 1 / z + 1 / (z + 1) + 1 / (z + 2) + 1 / (z + 3)
        found = log(y) - r * (r * first(r * r) + 0.5) - where(z < 4, steps, 0)
        if exact:  # in float32 the digits lost near the root are not seen
            found = where((z > 1) & (z < 2), ((z - upper) - lower) * root(z - 1.5), found)
        if any_lane(x < 0):
            angle = (x - rint(x)) * math.pi
            mirrored = where(angle == 0, np.nan, found - math.pi * cos(angle) / sin(angle))
            found = where(x < 0, mirrored, found)
        return found

    @simd.device
    def trigamma(x):
        z = where(x < 0, 1 - x, x)
        y, t = where(z < 4, z + 4, z), z * (z + 3)
        r, q, p = 1 / y, 1 / t, 1 / (t + 2)
        steps = (2 * t + 9) * q * q + (2 * t + 5) * p * p  # 1 / z**2 + ... + 1 / (z + 3)**2
        found = r + r * r * (r * second(r * r) + 0.5) + where(z < 4, steps, 0)
        if any_lane(x < 0):
            wave = math.pi / sin((x - rint(x)) * math.pi)
            found = where(x < 0, wave * wave - found, found)
        return found

    return in_double(name, {"digamma": digamma, "trigamma": trigamma})


_publish = published(lambda name: in_double(name, {"lgamma": logarithmic()["lgamma"]}) | _derivatives(name))


@_publish
def lgamma(x):
    """Logarithm of the absolute value of the gamma function. Error: 4 ulp; left of 0 8e-16 of the value, or of 1."""


@_publish
def digamma(x):
    """Derivative of lgamma. Error: 10 ulp; left of 0 2e-15 of the value, or of 1."""


@_publish
def trigamma(x):
    """Derivative of digamma. Error: 5 ulp."""


# ---------------------------------------------------------------------------------------------------------------- zeta


@intrinsic
def euler_maclaurin(typingctx, s, w):
    """The sum of EULER_MACLAURIN[j] (s + 1) (s + 2) ... (s + 2 j) w**j over j = 0, 1 ..., of vectors."""

    def codegen(context, builder, sig, args):
        kind, flags = args[0].type, {"flags": simd.EXACT}

        def constant(value):
            return ir.Constant(kind, [float(value)] * kind.count)

        total = constant(EULER_MACLAURIN[-1])
        for j in range(len(EULER_MACLAURIN) - 1, 0, -1):
            pair = builder.fmul(builder.fadd(args[0], constant(2 * j - 1)), builder.fadd(args[0], constant(2 * j)))
            step = builder.fmul(pair, args[1], **flags)
            total = builder.fadd(builder.fmul(total, step, **flags), constant(EULER_MACLAURIN[j - 1]), **flags)
        return total

    return signature(s, s, w), codegen


def _zeta(name):
    """zeta and polygamma of one precision."""
    exact = name == "float64"

    @simd.device
    def of_positive(s, q):
        """zeta(s, q) for s > 1 and q > 0: nine terms, as they are beside the first, and the formula for the others."""
        s = where(s > 1e30, 1e30, s)
        total, needed, first, r, k = q * 0, s > 1, log(q), 1 / q, 0
        term = total + 1
        while k < 9 and any_lane(needed):
            k += 1
            term = exp(-s * (log1p(k * r) if exact else log(q + k) - first))
            needed = needed & (term > 1e-17)
            total += where(needed, term, 0)
        a, r = q + k, 1 / (q + k)
        rest = term * (a / (s - 1) - 0.5 + s * r * euler_maclaurin(s, r * r))
        power = libm_pow(q, -s) if exact else exp(s * -first)
        return power + where(power < np.inf, power, 0) * (total + where(needed, rest, 0))

    @simd.device
    def zeta(s, q):
        below = q < 0
        p = -q - floor(-q)  # left of 0 the terms are those of p = 1 - q - 1, ..., -q in the other order, and of 1 - p
        even = rint(s * 0.5) * 2 == s
        given, weight, total, rounds = where(below, 1 - p, q), q * 0 + 1, q * 0, 1
        if any_lane(below):
            rounds = 3
        for part in range(rounds):
            total += weight * of_positive(s, given)
            given = where(below, p, 1) if part == 0 else where(below, 1 - q, 1)
            weight = where(below, where(even, weight * 0 + 1, -1), 0) if part == 0 else -weight
        total = where(below & (rint(s) != s), np.nan, total)
        total = where((q == 0) | (below & ~(p > 0)) | (s == 1), np.inf, total)
        return where(s >= 1, total, np.nan)

    @simd.device
    def polygamma(n, x):
        k, factorial = n * 0 + 2, n * 0 + 1
        most = where(n > 171, 171, n)  # beyond all are infinite
        while any_lane(k <= most):
            factorial *= where(k <= most, k, 1)
            k += 1
        return where(rint(n * 0.5) * 2 == n, -factorial, factorial) * zeta(n + 1, x)

    return in_double(name, {"zeta": zeta, "polygamma": polygamma})


_publish = published(_zeta, 2)


@_publish
def zeta(s, q):
    """Hurwitz's zeta function, the sum of (q + k)**-s over k = 0, 1 ... Error: 5 ulp."""


@_publish
def polygamma(n, x):
    """The n-th derivative of digamma, n > 0. Error: 5 ulp."""
