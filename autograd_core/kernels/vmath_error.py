"""The error function's kin on vectors: erfc, erfcx, the normal distribution function, its logarithm, the inverses.

Errors are the largest found over the whole domain, in units in the last place (ulp) of the true value. Tails keep all
their digits, down to denormal numbers. Polynomials are near-minimax fits made in 45 digits.
"""
# Bodies are typed by Numba, not by annotations.
# mypy: ignore-errors
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels import simd
from autograd_core.kernels.simd import absolute, any_lane, copysign, fma, sqrt, where
from autograd_core.kernels.vmath import exponential, log, log1p, polynomial, published

# ------------------------------------------------------------------------------------------------------- coefficients

SCALED = {
    "float32": (2.5, (
        1.0540318489074707, 0.8046519160270691, 0.4539144039154053, 0.17124968767166138, 0.028357606381177902,
        -0.00838387943804264, -0.004799955990165472, 0.00041496349149383605, 0.0006622325163334608,
        -2.7485239115776494e-05, -7.132448808988556e-05,
    )),
    "float64": (3.0, (
        1.0740069070883398, 0.8833944531698836, 0.5902283571041065, 0.31046726190056695, 0.11952776128705916,
        0.02682723462448373, -0.0012124166227875301, -0.003034062001344701, -0.0005483097349534881,
        0.00027677784983344176, 0.00010756173398955031, -3.039819944309208e-05, -1.747146339300272e-05,
        4.749419573836888e-06, 2.7675431767912983e-06, -9.99494744731636e-07, -4.114357954098002e-07,
        2.346180078861496e-07, 4.977024118637808e-08, -5.172308199000667e-08, -3.488450819582279e-09,
        8.911573910322313e-09, -7.6545132140247e-12, -8.491870574924439e-10,
    )),
}  # fmt: skip
"""c, and (c + z) erfcx(z) by powers of (c - z) / (c + z), for z >= 0.

The variable is that of Shepherd & Laframboise, Chebyshev approximation of (1 + 2 x) exp(x**2) erfc x in 0 <= x < oo
(Mathematics of Computation 36, 1981).
"""

SCALED_NEAR = {
    "float32": (2.0, (
        1.0215827226638794, 0.6871609687805176, 0.2794696092605591, 0.036435242742300034, -0.021483466029167175,
        -0.006437642965465784, 0.002978991251438856, 0.0007552554016001523, -0.0004617953090928495,
    )),
    "float64": SCALED["float64"],
}  # fmt: skip
"""The same up to where erfc becomes 0."""

CENTRE = {
    "float32": (
        1.5014094114303589, 0.6166006922721863, -0.026108667254447937, -0.019574090838432312, 0.00852908007800579,
        -0.00048470200272277, -0.0008453871705569327, 0.0002845278650056571, 3.545037907315418e-05,
        -3.35350887326058e-05,
    ),
    "float64": (
        1.5014093511107918, 0.616600691860417, -0.026108235777386822, -0.01957356105950636, 0.008525400950546878,
        -0.00048789839927143895, -0.0008341356381122316, 0.0002921906950215861, 2.0472377093495505e-05,
        -4.143212772593213e-05, 8.652895839444063e-06, 2.851844021796449e-06, -1.8543344897252525e-06,
        1.35428939651557e-07, 2.00335216144091e-07, -7.035920677123019e-08, -7.586359644402246e-09,
        1.0601645353930193e-08, -1.3856567293928538e-09, -7.767989096401059e-10, 2.1281131887007865e-10,
    ),
}  # fmt: skip
"""erfinv(x) / x by powers of 0.4 w - 1, for w = -log(1 - x**2) <= 5.

That w is the right variable, and its root beyond 5, is from Giles, Approximating the erfinv function (GPU Computing
Gems, 2011).
"""

MIDDLE = {
    "float32": (
        2.9513285160064697, 0.8851584792137146, 0.005570231471210718, -0.0037098978646099567, 0.002341918181627989,
        -0.0013748136116191745, 0.0006241169176064432, -0.00012988703383598477, -6.653196760453284e-05,
        4.1642222640803084e-05,
    ),
    "float64": (
        2.951328578343118, 0.8851584844828521, 0.005569334212014472, -0.003710135803629257, 0.0023495624604316337,
        -0.0013730404067801546, 0.000600835966854159, -0.00013425954177306425, -3.5957748811481254e-05,
        4.527361234054259e-05, -1.6797319998696478e-05, 3.0293147573009526e-07, 2.651964440880375e-06,
        -1.2409820853780623e-06, 1.4152410069256538e-07, 1.2236539132451996e-07, -7.65852906295966e-08,
        1.589039078072708e-08, 6.106990492628128e-09, -4.616530152108935e-09, 2.158425482470114e-10,
        3.402093948819209e-10,
    ),
}  # fmt: skip
"""erfinv(x) / x by powers of sqrt(w) scaled from [sqrt(5), 4] to [-1, 1]."""

FAR = {
    "float32": (((4.0, 10.25), (
            0.0551319494843483, -0.002453833818435669, -0.0002667276712600142, -0.00013495473831426352,
            4.993493348592892e-06,
    )),),
    "float64": (((4.0, 9.0), (
            0.05491160879207039, -0.0022810650030563196, -0.00025140858544010053, -0.0001032738216516252,
            4.483618285906506e-06, 1.5368623074065877e-06, -4.5055388902634224e-07, 1.1047100671095445e-07,
            -3.31919097009797e-08, 5.815692257442519e-09, -6.8764835155484496e-09, -2.2312108745273234e-09,
            -3.643804146811275e-10, 1.0079573682457916e-09, 1.4273226442408766e-10, -9.737478269467143e-11,
    )), ((9.0, 27.4), (
            0.05820104148643347, -0.0011919825216502413, 4.2724555172495906e-05, 3.763222565827005e-07,
            -6.993182938230697e-06, 2.230725743903533e-06, -6.85249770411498e-07, 2.252416238680178e-07,
            -7.836440344402664e-08, 2.9171658891211e-08, -1.0675681134978449e-08, 3.045930601858887e-09,
            -1.3899333665878379e-09, 1.285249497062924e-09, -4.723888918351742e-10,
    ))),
}  # fmt: skip
"""(erfinv(x) - s + log(s) / (2 s)) s by powers of 1 / s for s = sqrt(w), scaled from each range of s to [1, -1].

What is taken away is how erfinv begins for large s. The last ranges are those of quantiles near 0.
"""

LAST = {"float32": (10.1, 14.3), "float64": (27.3, 38.6)}
"""Where erfc becomes 0, and the normal distribution function of the negative."""

# ---------------------------------------------------------------------------------------------------- tails of the bell


def _quotient(shift, coefficients):
    curve = polynomial(coefficients)

    @simd.device
    def quotient(z, finite):
        """erfcx(z); ``finite`` is z where that is finite."""
        q = 1 / (z + shift)
        return q * curve((shift - finite) * q)

    return quotient


def _tails(name):
    """erfc, erfcx, ndtr and log_ndtr of one precision."""
    quotient, quotient_near, root_half = _quotient(*SCALED[name]), _quotient(*SCALED_NEAR[name]), math.sqrt(0.5)
    scaled_exp, (end, end_normal) = exponential(name)["scaled_exp"], LAST[name]
    tiny, largest = float(np.finfo(name).eps), float(np.finfo(name).max)

    @simd.device
    def scaled(z):
        """erfcx of what is not negative."""
        return quotient(z, where(z > largest, largest, z))

    @simd.device
    def square(a):
        """a**2 as the sum of two numbers: its rounding error would grow with it in an exponential."""
        whole = a * a
        return whole, fma(a, a, -whole)

    @simd.device
    def erfc(x):
        a = absolute(x)
        a = where(a > end, end, a)
        high, low = square(a)
        tail = scaled_exp(-high, -low, quotient_near(a, a))
        return where(x < 0, 2 - tail, tail)

    @simd.device
    def erfcx(x):
        a = absolute(x)
        tail = scaled(a)
        if any_lane(x < 0):
            high, low = square(where(a > end, end, a))
            tail = where(x < 0, scaled_exp(high, low, 2) - tail, tail)
        return tail

    @simd.device
    def lower(a):
        """ndtr(-a) for a >= 0."""
        a = where(a > end_normal, end_normal, a)
        high, low = square(a)
        return scaled_exp(high * -0.5, low * -0.5, quotient_near(a * root_half, a * root_half) * 0.5)

    @simd.device
    def ndtr(x):
        tail = lower(absolute(x))
        return where(x < 0, tail, 1 - tail)

    @simd.device
    def log_ndtr(x):
        a = absolute(x)
        part = scaled(a * root_half) * 0.5
        near = where(part < tiny, tiny, part) - 1  # so small a part is nothing beside the square
        return log1p(where(x < 0, near, -lower(a))) - where(x < 0, x * (x * 0.5), 0)

    return {"erfc": erfc, "erfcx": erfcx, "ndtr": ndtr, "log_ndtr": log_ndtr}


_publish = published(_tails)


@_publish
def erfc(x):
    """Complementary error function, 1 - erf(x). Error: 4 ulp in float32, 5 ulp in float64."""


@_publish
def erfcx(x):
    """exp(x**2) * erfc(x). Error: 4 ulp."""


@_publish
def ndtr(x):
    """Normal distribution function. Error: 4 ulp in float32, 5 ulp in float64."""


@_publish
def log_ndtr(x):
    """Logarithm of the normal distribution function. Error: 7 ulp."""


# ------------------------------------------------------------------------------------------------------------ inverses


def _inverses(name):
    """erfinv and ndtri of one precision."""
    centre, middle = polynomial(CENTRE[name]), polynomial(MIDDLE[name])
    far = [(polynomial(coefficients), *_onto(1 / high, 1 / low)) for (low, high), coefficients in FAR[name]]
    (far, factor, offset), (last, last_factor, last_offset) = far[0], far[-1]
    beyond, limit, double = FAR[name][-1][0][0] ** 2, FAR[name][-1][0][1] ** 2, len(FAR[name]) > 1
    root_factor, root_offset = _onto(math.sqrt(5), 4)

    @simd.device
    def far_away(w):
        w = where(w < 16, 16, where(w > limit, limit, w))
        s = sqrt(w)
        q = 1 / s
        rest = far(q * factor + offset)
        if double and any_lane(w > beyond):
            rest = where(w > beyond, last(q * last_factor + last_offset), rest)
        return s + (rest - log(w) * 0.25) * q

    @simd.device
    def inverse(x, w):
        """erfinv(x) for w = -log(1 - x**2), which is known more exactly than x where that is near 1."""
        found = x * centre(w * 0.4 - 1)
        if any_lane(w > 5):
            s = sqrt(where(w < 5, 5, w))
            found = where(w > 5, x * middle(s * root_factor + root_offset), found)
            if any_lane(w > 16):
                found = where(w > 16, copysign(far_away(w), x), found)
        return found

    @simd.device
    def erfinv(x):
        a = absolute(x)
        found = inverse(x, -log((1 - a) * (1 + a)))
        return where(a == 1, x * np.inf, found)

    @simd.device
    def ndtri(p):
        rest = 1 - p
        found = inverse(p * 2 - 1, -log(4 * (p * rest))) * math.sqrt(2)
        return where(p * rest == 0, (p - 0.5) * np.inf, found)

    return {"erfinv": erfinv, "ndtri": ndtri}


def _onto(low, high):
    """(factor, offset) of the straight line from [low, high] to [-1, 1]."""
    return 2 / (high - low), -(high + low) / (high - low)


_publish = published(_inverses)


@_publish
def erfinv(x):
    """Inverse of the error function on [-1, 1]. Error: 3 ulp in float32, 5 ulp in float64."""


@_publish
def ndtri(p):
    """Inverse of the normal distribution function on [0, 1]. Error: 4 ulp in float32, 5 ulp in float64."""
