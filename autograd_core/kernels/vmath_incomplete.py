"""The regularised incomplete gamma functions on vectors.

Each lane goes one of four ways, and a vector all those that its lanes go: the power series left of the peak and the
continued fraction right of it (Abramowitz & Stegun, Handbook of Mathematical Functions, 6.5.29 and 6.5.31), the
difference of a series from 1 for small arguments, and around the peak of large orders Temme's uniform expansion (The
asymptotic expansion of the incomplete gamma functions, SIAM Journal on Mathematical Analysis 10, 1979).

Series and fractions are kept as numerators and denominators, which spares a division for each term. All is worked out
in float64, also for float32, whose results are rounded ones (error: 0.5 ulp). In float64 the error is 40 ulp for values
above 1e-10, and some multiple of their logarithm below (700 ulp at 1e-160), which exponents of that size cost.
"""
# Bodies are typed by Numba, not by annotations.
# mypy: ignore-errors
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels import simd
from autograd_core.kernels.simd import absolute, any_lane, copysign, sqrt, where
from autograd_core.kernels.vmath import LOG, exp, expm1, log, log1p, polynomial, published
from autograd_core.kernels.vmath_error import erfc
from autograd_core.kernels.vmath_gamma import LGAMMA, in_double, logarithmic

UNIFORM = (
    (-0.3333333333333333, 0.08333333333333333, -0.014814814814814815, 0.0011574074074074073, 0.0003527336860670194,
      -0.0001787551440329218, 3.919263178522438e-05, -2.185448510679992e-06, -1.85406221071516e-06,
      8.296711340953087e-07, -1.7665952736826078e-07, 6.707853543401498e-09, 1.0261809784240309e-08,
      -4.382036018453353e-09, 9.14769958223679e-10, -2.5514193994946248e-11, -5.830772132550426e-11),
    (-0.001851851851851852, -0.003472222222222222, 0.0026455026455026454, -0.0009902263374485596,
      0.00020576131687242798, -4.018775720164609e-07, -1.8098550334489977e-05, 7.64916091608111e-06,
      -1.6120900894563446e-06, 4.647127802807434e-09, 1.378633446915721e-07, -5.752545603517705e-08,
      1.1951628599778148e-08),
    (0.004133597883597883, -0.0026813271604938273, 0.0007716049382716049, 2.0093878600823047e-06,
      -0.0001073665322636516, 5.2923448829120125e-05, -1.2760635188618728e-05, 3.423578734096138e-08,
      1.3721957309062934e-06, -6.298992138380055e-07, 1.4280614206064242e-07),
    (0.0006494341563786008, 0.00022947209362139917, -0.0004691894943952557, 0.00026772063206283885,
      -7.561801671883977e-05, -2.396505113867297e-07, 1.1082654115347302e-05, -5.6749528269915965e-06,
      1.4230900732435883e-06),
    (-0.0008618882909167117, 0.0007840392217200666, -0.0002990724803031902, -1.4638452578843418e-06,
      6.641498215465122e-05, -3.968365047179435e-05, 1.1375726970678419e-05),
    (-0.00033679855336635813, -6.972813758365857e-05, 0.0002772753244959392, -0.00019932570516188847),
)  # fmt: skip
"""For each power of 1 / a the Taylor polynomial in eta of its coefficient in Temme's expansion."""

LARGE_ORDER, NEAR_PEAK = 200.0, 0.3
"""From which order on the expansion holds, and how far from the peak, as a part of the order."""

TOLERANCE = {"float32": (1e-10, 1e-10), "float64": (1e-17, 4e-16)}
"""What a further term of the series, and of the fraction, may change; rounding errors of the latter are above 1e-16."""

MOST_TERMS = 1000  # never met: orders for which it would be are near their peak, or nothing is left of them
HUGE, TINY = 2.0**332, 2.0**-332


def _peak():
    """``distance(a, x, mu)``, mu - log(1 + mu) of mu = (x - a) / a, and ``peak(a, x, phi)`` of this distance phi."""
    curve, of_positive, stirling = polynomial(LOG["float64"]), logarithmic()["of_positive"], logarithmic()["stirling"]

    @simd.device
    def distance(a, x, mu):
        s, half = mu / (mu + 2), mu * mu * 0.5
        square = s * s
        return where((mu > -0.29) & (mu < 0.41), half - s * (half + square * curve(square)), mu - log(x / a))

    @simd.device
    def peak(a, x, phi):
        """x**a exp(-x) / gamma(a + 1)."""
        r = 1 / a
        large = exp(-a * phi - r * stirling(r * r)) * sqrt(r * (0.5 / math.pi))
        return where(a < 3.5, exp(a * log(x) - x - of_positive(a + 1)), large)

    return distance, peak


def _sums(name):
    """The power series and the continued fraction, where ``needed``, to the digits of one precision.

    Lanes that have them keep what they have while others go on: a result depends on no neighbour.
    """
    last, last_fraction = TOLERANCE[name]

    @simd.device
    def series(a, x, needed):
        """The sum of x**n / ((a + 1) (a + 2) ... (a + n)) over n = 0, 1 ..."""
        top, bottom, power, n = x * 0 + 1, x * 0 + 1, x, 0
        while n < MOST_TERMS and any_lane(needed):
            n += 1
            top, bottom = where(needed, top * (a + n) + power, top), where(needed, bottom * (a + n), bottom)
            needed = needed & (power > top * last)
            factor = where(bottom > HUGE, TINY, x * 0 + 1)
            top, bottom, power = top * factor, bottom * factor, power * x * factor
        return top / bottom

    @simd.device
    def fraction(a, x, needed):
        """exp(x) x**-a times the integral of exp(-t) t**(a - 1) from x on."""
        y, z, n = 1 - a, x + 2 - a, 0
        top_before, bottom_before, top, bottom = x * 0 + 1, x, x + 1, z * x
        while n < MOST_TERMS and any_lane(needed):
            n += 1
            y += 1
            z += 2
            new_top, new_bottom = top * z - top_before * (y * n), bottom * z - bottom_before * (y * n)
            one, other = new_top * bottom, top * new_bottom
            factor = where(absolute(new_bottom) > HUGE, TINY, x * 0 + 1)
            top_before, bottom_before = top * factor, bottom * factor
            top, bottom = where(needed, new_top * factor, top), where(needed, new_bottom * factor, bottom)
            needed = needed & (absolute(one - other) > absolute(one) * last_fraction)
        return top / bottom

    return series, fraction


def _small():
    """igammac for x <= 1.1, exact also where it is small."""
    near, of_positive = polynomial(LGAMMA), logarithmic()["of_positive"]

    @simd.device
    def small(a, x):
        """1 - x**a / gamma(a + 1) times (1 + a times the sum of (-x)**n / n! / (a + n) over n = 1, 2 ...)."""
        a = where(a > LARGE_ORDER, LARGE_ORDER, a)  # where it is 1 already
        top, bottom, power = x * 0, x * 0 + 1, x * 0 + 1
        for n in range(1, 20):
            power *= x * (-1.0 / n)
            top = top * (a + n) + power * bottom
            bottom *= a + n
        missing = expm1(a * log(x) - where(a < 0.5, a * near(a) - log1p(a), of_positive(a + 1)))
        return -missing - (missing + 1) * a * (top / bottom)

    return small


def _uniform():
    """Temme's expansion of igammac, and with ``sign`` -1 of igamma."""
    c0, c1, c2, c3, c4, c5 = (polynomial(row) for row in UNIFORM)

    @simd.device
    def uniform(a, mu, phi, sign):
        eta, r = copysign(sqrt(2 * phi), mu), 1 / a
        total = ((((c5(eta) * r + c4(eta)) * r + c3(eta)) * r + c2(eta)) * r + c1(eta)) * r + c0(eta)
        rest = exp(-a * phi) * sqrt(r * (0.5 / math.pi)) * total
        return 0.5 * erfc(sign * eta * sqrt(a * 0.5)) + sign * rest

    return uniform


def _incomplete(name):
    """igamma and igammac of one precision."""
    (distance, peak), (series, fraction), small, uniform = _peak(), _sums(name), _small(), _uniform()

    @simd.device
    def both(a, x, upper):
        """igammac where ``upper`` is 1, igamma where it is -1."""
        inside = (a > 0) & (x > 0) & (a < np.inf) & (x < np.inf)
        order, at = where(inside, a, 1), where(inside, x, 1)
        mu, tiny = (at - order) / order, at <= 1.1
        phi = distance(order, at, mu)
        height = peak(order, at, phi)
        central = (order >= LARGE_ORDER) & (absolute(mu) < NEAR_PEAK)
        open = ~central & (height > 0)
        if upper > 0:
            open = open & ~tiny
        left = (at < order) | tiny
        sums = where(left, series(order, at, left & open), order * fraction(order, at, open & ~left))
        found = where(height > 0, height * sums, 0)
        found = where(left, 1 - found, found) if upper > 0 else where(left, found, 1 - found)
        if upper > 0 and any_lane(tiny):
            found = where(tiny, small(order, at), found)
        if any_lane(central):
            found = where(central, uniform(order, mu, phi, upper), found)
        ends = ((a == 0) & (x > 0)) | ((x == np.inf) & (a >= 0) & (a < np.inf))  # nothing lies beyond x
        begins = ((x == 0) & (a > 0)) | ((a == np.inf) & (x >= 0) & (x < np.inf))  # nothing lies before it
        edge = where(begins, at * 0 + (upper > 0), where(ends, at * 0 + (upper < 0), np.nan))
        return where(inside, found, edge)

    @simd.device
    def igamma(a, x):
        return both(a, x, -1)

    @simd.device
    def igammac(a, x):
        return both(a, x, 1)

    return in_double(name, {"igamma": igamma, "igammac": igammac})


_publish = published(_incomplete, 2)


@_publish
def igamma(a, x):
    """Regularised lower incomplete gamma function of order a."""


@_publish
def igammac(a, x):
    """Regularised upper incomplete gamma function of order a."""
