"""Modified Bessel functions of the first kind on vectors: orders 0 and 1, as they are and times exp(-|x|).

Errors are the largest found over the whole domain, in units in the last place (ulp) of the true value. Polynomials are
near-minimax fits made in 45 digits: of x**2 near zero, of 1 / x far from it (Abramowitz & Stegun, Handbook of
Mathematical Functions, 9.6.10 and 9.7.1).
"""
# Bodies are typed by Numba, not by annotations.
# mypy: ignore-errors
from __future__ import annotations

from autograd_core.kernels import simd
from autograd_core.kernels.simd import absolute, any_lane, copysign, sqrt, where
from autograd_core.kernels.vmath import exp, polynomial, published

# ------------------------------------------------------------------------------------------------------- coefficients

BORDER = {"float32": 8.0, "float64": 12.0}
"""What is near, and what is far."""

NEAR_0 = {
    "float32": (
        1.0, 0.2500000596046448, 0.015624948777258396, 0.0004340438172221184, 6.779313025617739e-06,
        6.800500074177762e-08, 4.623509075596388e-10, 2.6342086064529147e-12, 5.815427095635277e-15,
        5.716160154642773e-17,
    ),
    "float64": (
        1.0, 0.25000000000000044, 0.015624999999999374, 0.00043402777777809873, 6.781684027696566e-06,
        6.781684028960618e-08, 4.709502786187195e-10, 2.4028076166921087e-12, 9.385964090626481e-15,
        2.896912396304597e-17, 7.242053661758033e-20, 1.4966791197621794e-22, 2.593500544242135e-25,
        3.8824607577456482e-28, 4.638403958573291e-31, 6.6707579991442975e-34, 1.5992921266727746e-37,
        1.0949000614377915e-39,
    ),
}  # fmt: skip
"""I0(x) by powers of x**2, for |x| up to the border."""

NEAR_1 = {
    "float32": (
        0.5, 0.0625000074505806, 0.002604162786155939, 5.425457493402064e-05, 6.780216494917113e-07,
        5.662105451165189e-09, 3.318281413533519e-11, 1.617830354275554e-13, 3.5044378830046893e-16,
        2.750505610890141e-18,
    ),
    "float64": (
        0.5, 0.06250000000000003, 0.0026041666666666258, 5.4253472222240454e-05, 6.781684027736614e-07,
        5.651403357025616e-09, 3.363930564729576e-11, 1.5017547448910521e-13, 5.214425034474218e-16,
        1.4484548419035153e-18, 3.2918675684491112e-21, 6.235823477768653e-24, 9.978389611487279e-27,
        1.3841446131208e-29, 1.5585939911093898e-32, 2.0423286636483986e-35, 5.5622130095602756e-39,
        2.96258174556395e-41,
    ),
}  # fmt: skip
"""I1(x) / x by powers of x**2, for |x| up to the border."""

FAR_0 = {
    "float32": (
        0.40217649936676025, 0.00336055806837976, 0.00013615652278531343, 1.110286575567443e-05, 1.638629214539833e-06,
        3.700056367961224e-07,
    ),
    "float64": (
        0.4010710650668474, 0.0021821681721168073, 5.5984825333624914e-05, 2.797707025345625e-06,
        2.1716050367566806e-07, 2.3688343119325343e-08, 3.44342634641548e-09, 6.486572018877369e-10,
        1.5625877429205921e-10, 4.592286069501095e-11, 1.866257187855247e-11, 1.5401200039927922e-11,
        8.748143938778252e-12, -2.9965625391558364e-12, -4.785304028285568e-12, -2.5404701179657463e-13,
        6.533610537141859e-13,
    ),
}  # fmt: skip
"""sqrt(x) exp(-x) I0(x) by powers of 2 border / x - 1, for x beyond the border."""

FAR_1 = {
    "float32": (
        0.389398455619812, -0.009749584831297398, -0.00021916875266470015, -1.4990907402534503e-05,
        -2.0091169972147327e-06, -4.3139959871041356e-07,
    ),
    "float64": (
        0.39262449420411655, -0.006405453603482231, -9.124755355069594e-05, -3.827951361675543e-06,
        -2.726845492968605e-07, -2.8253607565432324e-08, -3.967539355721949e-09, -7.287985617933571e-10,
        -1.7220945950282802e-10, -4.990754568869354e-11, -1.9903817072090532e-11, -1.618229753798133e-11,
        -9.305122575708538e-12, 2.9806183113974237e-12, 4.986843821376795e-12, 2.9992500236377766e-13,
        -6.723149311745977e-13,
    ),
}  # fmt: skip
"""sqrt(x) exp(-x) I1(x) by powers of 2 border / x - 1, for x beyond the border."""

# ----------------------------------------------------------------------------------------------------------- functions


def _bessel(name):
    """i0, i0e, i1 and i1e of one precision."""
    border = BORDER[name]

    def of_order(order):
        near, far = polynomial((NEAR_0, NEAR_1)[order][name]), polynomial((FAR_0, FAR_1)[order][name])

        @simd.device
        def beyond(a):
            """exp(-a) times the function of a > border."""
            q = 1 / a
            return sqrt(q) * far(q * (2 * border) - 1)

        @simd.device
        def close(a):
            """The function of a <= border."""
            return a * near(a * a) if order else near(a * a)

        @simd.device
        def plain(x):
            a = absolute(x)
            found = close(a)
            if any_lane(a > border):
                half = exp(a * 0.5)  # exp(a) may overflow too early
                found = where(a > border, half * (half * beyond(a)), found)
            return copysign(found, x) if order else found

        @simd.device
        def scaled(x):
            a = absolute(x)
            found = exp(-a) * close(where(a > border, border, a))
            if any_lane(a > border):
                found = where(a > border, beyond(a), found)
            return copysign(found, x) if order else found

        return plain, scaled

    (i0, i0e), (i1, i1e) = of_order(0), of_order(1)
    return {"i0": i0, "i0e": i0e, "i1": i1, "i1e": i1e}


_publish = published(_bessel)


@_publish
def i0(x):
    """Order 0. Error: 4 ulp in float32, 6 ulp in float64."""


@_publish
def i0e(x):
    """exp(-|x|) * i0(x). Error: 4 ulp in float32, 7 ulp in float64."""


@_publish
def i1(x):
    """Order 1. Error: 4 ulp in float32, 6 ulp in float64."""


@_publish
def i1e(x):
    """exp(-|x|) * i1(x). Error: 3 ulp in float32, 7 ulp in float64."""
