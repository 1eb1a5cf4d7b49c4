"""Inverse trigonometric functions on explicit vectors of float32 and float64.

Errors are the largest found over dense grids, in units in the last place; polynomials are near-minimax fits made in 60
digits. Infinities, NaN and both zeros come out as in IEEE 754.
"""
# Bodies are typed by Numba, not by annotations.
# mypy: ignore-errors
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels import simd
from autograd_core.kernels.simd import absolute, copysign, sqrt, where
from autograd_core.kernels.vmath import full_like, polynomial, published
from autograd_core.kernels.vmath_arithmetic import published_pair

ATAN = {
    "float32": (-0.33333316445350647, 0.199984610080719, -0.14243310689926147, 0.10592076927423477,
                -0.060736075043678284),
    "float64": (-0.33333333333333326, 0.19999999999997603, -0.14285714285379988, 0.11111111087696506,
                -0.09090908127761414, 0.07692282391622016, -0.06666221497112212, 0.05876971691552103,
                -0.05218089965361439, 0.04502300666343493, -0.03344601014377358, 0.015166837733860319),
}
"""(atan(t) / t - 1) / t**2 by powers of t**2, for |t| <= tan(pi / 8)."""

ASIN = {
    "float32": (0.16666659712791443, 0.07500505447387695, 0.044516704976558685, 0.03180992603302002,
                0.014429793693125248, 0.037529438734054565),
    "float64": (0.1666666666666676, 0.07499999999970633, 0.044642857174780254, 0.0303819426993197, 0.02237221523620932,
                0.017351607378286154, 0.01398087805684382, 0.01139842643397913, 0.01078305832151985,
                0.003695507629467698, 0.02173469250989485, -0.021038619366934727, 0.03265397520754848),
}
"""(asin(t) / t - 1) / t**2 by powers of t**2, for |t| <= 1 / 2."""

HALF_PI = {"float32": (1.5707963705062866, -4.371139000186243e-08),
           "float64": (1.5707963267948966, 6.123233995736766e-17)}  # fmt: skip
"""pi / 2 in two parts."""


def _arc_tangent(name):
    """atan and atan2 of one precision."""
    curve, (high, low) = polynomial(ATAN[name]), HALF_PI[name]
    first, second = math.tan(math.pi / 8), math.tan(3 * math.pi / 8)

    @simd.device
    def slope(y, x):
        """atan(y / x) for y and x of at least 0: by one of three quotients of at most tan(pi / 8)."""
        steep, middle = y > x * second, y > x * first
        t = where(steep, -x, where(middle, y - x, y)) / where(steep, y, where(middle, x + y, x))
        square = t * t
        quarters = where(steep, 1.0, where(middle, 0.5, full_like(0.0, x)))
        return quarters * high + (t + (t * square * curve(square) + quarters * low))

    @simd.device
    def atan(x):
        size = absolute(x)
        return copysign(slope(size, full_like(1.0, size)), x)

    @simd.device
    def atan2(y, x):
        up, along = absolute(y), absolute(x)
        huge = (up > 1e37) | (along > 1e37)  # so that no sum overflows
        up, along = where(huge, up * 0.25, up), where(huge, along * 0.25, along)
        alike = ((up == 0) & (along == 0)) | ((up == np.inf) & (along == np.inf))
        found = slope(where(alike & (up > 0), 1, up), where(alike, 1, along))
        left = copysign(full_like(1.0, x), x) < 0
        return copysign(where(left, 2 * high - found + 2 * low, found), y)

    return {"atan": atan, "atan2": atan2}


@published(_arc_tangent)
def atan(x):
    """Inverse tangent, in [-pi/2, pi/2]. Error: 2 ulp."""


@published_pair(_arc_tangent)
def atan2(y, x):
    """Angle of the point (x, y), in [-pi, pi]. Error: 2 ulp."""


def _arc_sine(name):
    """asin and acos of one precision."""
    curve, (high, low) = polynomial(ASIN[name]), HALF_PI[name]

    @simd.device
    def near_zero(x):
        """Whether |x| > 1/2; asin(|x|), there asin(sqrt((1 - |x|) / 2)), which is half of acos(|x|)."""
        size = absolute(x)
        far = size > 0.5
        square = where(far, (1 - size) * 0.5, size * size)
        t = where(far, sqrt(square), size)
        return far, t + t * square * curve(square)

    @simd.device
    def asin(x):
        far, t = near_zero(x)
        return copysign(where(far, 2 * (high * 0.5 - t) + low, t), x)

    @simd.device
    def acos(x):
        far, t = near_zero(x)
        signed = copysign(t, x)
        return where(far, where(x > 0, 2 * t, 2 * (high - (t - low))), high - (signed - low))

    return {"asin": asin, "acos": acos}


_publish = published(_arc_sine)


@_publish
def asin(x):
    """Inverse sine, in [-pi/2, pi/2]. Error: 2 ulp."""


@_publish
def acos(x):
    """Inverse cosine, in [0, pi]. Error: 2 ulp."""
