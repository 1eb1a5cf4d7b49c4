"""Gamma, Bessel and zeta functions, and the quantiles of the normal distribution.

Large arrays are worked on in loops (`kernels.vmath_gamma`, `vmath_incomplete`, `vmath_bessel`, `vmath_error`), small
ones by SciPy; where that is not installed, loops serve arrays of all sizes.
"""

from __future__ import annotations

import math
from functools import cache, partial

import numpy as np

from .. import ops
from ..inplace import in_place
from ..registry import composite, elementwise, op
from ..shapes import promote_to_float
from ..tensor import Tensor
from .arithmetic import all_arrays, tensors
from .samples import distinct, positive, real, sample

ROOT_TWO_PI = math.sqrt(2 * math.pi)


SCIPY = {"lgamma": "gammaln", "digamma": "psi", "igamma": "gammainc", "igammac": "gammaincc"}
"""SciPy's names, where they are others."""


def of_small(known, *arrays):
    """The function of that name in the type of its (last) array: by SciPy if it is installed, else by a loop."""
    found = np.asarray(_small(known)(*arrays))
    return found if found.dtype == arrays[-1].dtype else found.astype(arrays[-1].dtype)


@cache
def _small(known):
    try:
        from scipy import special
    except ImportError:
        return partial(_by_loop, known)
    return getattr(special, SCIPY.get(known, known))


def _by_loop(known, *arrays):
    from ..kernels.elementwise import plan_loop
    from ..kernels.plan import execute
    from ..symbolic import loop_from_text

    kind, names = "float64" if arrays[-1].dtype == np.float64 else "float32", ("x", "y")[: len(arrays)]
    loop = loop_from_text(f"found = {known}({', '.join(names)})", dict.fromkeys(names, kind), {}, ["found"])
    return execute(partial(plan_loop, loop=loop), [np.asarray(a, kind) for a in arrays])


def _no_rule(known):
    def rule(g):
        raise NotImplementedError(f"{known}: no gradient for its first argument, which has no closed form")

    return rule


# ---------------------------------------------------------------------------------------------------- gamma


@op(elementwise, vjp=[lambda g, input: g * ops.digamma(input)],
    samples=[positive(3, 4), sample(real(3, low=-0.9, high=-0.1))],
    aliases=["special.gammaln"], scalar="lgamma(input)")  # fmt: skip
def lgamma(input):
    """Logarithm of the absolute value of the gamma function."""
    found = of_small("lgamma", input)
    np.copyto(found, np.inf, where=input == -np.inf)
    return found


@op(elementwise, vjp=[lambda g, input: g * ops.polygamma(1, input)], samples=[positive(3, 4)],
    aliases=["special.digamma", "special.psi"], scalar="digamma(input)")  # fmt: skip
def digamma(input):
    """Derivative of `lgamma`."""
    return of_small("digamma", input)


def _order(arrays, settings):
    n = settings["n"]
    if not isinstance(n, int) or n < 0:
        raise RuntimeError(f"n must be an int that is not negative, got {n!r}")
    return settings


def _trigamma(x):
    """polygamma(1, x) of float64: twenty terms and the asymptotic series, left of 0 by reflection.

    Abramowitz & Stegun, Handbook of Mathematical Functions, 6.4.6, 6.4.7 and 6.4.12.
    """
    z = np.where(x < 0, 1 - x, x) if (x < 0).any() else x
    steps, r = z[..., None] + np.arange(20.0), 1 / (z + 20)
    square = r * r
    series = 1 / 6 - square * (1 / 30 - square * (1 / 42 - square * (1 / 30 - square * (5 / 66))))
    found = (1 / (steps * steps)).sum(-1) + (r + square * (0.5 + r * series))
    if z is x:
        return found
    wave = math.pi / np.sin(math.pi * (x - np.rint(x)))
    return np.where(x < 0, wave * wave - found, found)


@op(elementwise, signature="n, input", prepare=_order, vjp=[lambda g, n, input: g * ops.polygamma(n + 1, input)],
    samples=[sample(1, positive(3, 4)), sample(0, positive(3)), sample(3, positive(3))],
    scalar="trigamma(input) if n == 1 else digamma(input) if n == 0 else polygamma(n, input)",
    aliases=["special.polygamma"])  # fmt: skip
def polygamma(input, *, n):
    """The ``n``-th derivative of `digamma`."""
    if n == 0:
        return of_small("digamma", input)
    if n == 1:
        return _trigamma(input.astype(np.float64)).astype(input.dtype)
    sign = 1.0 if n % 2 else -1.0
    return of_small("zeta", np.float64(n + 1), input) * (sign * math.factorial(n))


def _polygamma_method(self, n):
    """The ``n``-th derivative of `digamma`; see `polygamma`."""
    return polygamma(n, self)


Tensor.polygamma = _polygamma_method  # type: ignore[attr-defined]
Tensor.polygamma_ = in_place(_polygamma_method, "polygamma")  # type: ignore[attr-defined]


@op(composite, out=True, samples=[sample(positive(3, 4, low=1.5), 2), sample(positive(3), 1)], inplace=True,
    aliases=["special.multigammaln"])  # fmt: skip
def mvlgamma(input, p):
    """Logarithm of the ``p``-variate gamma function: p (p - 1) / 4 log(pi) + sum of lgamma(input - j / 2), j < p."""
    if p < 1:
        raise RuntimeError(f"mvlgamma: p must be at least 1, got {p}")
    total = ops.lgamma(input)
    for j in range(1, p):
        total = total + ops.lgamma(input - j / 2)
    return total + p * (p - 1) / 4 * math.log(math.pi)


def _gamma_density(input, other):
    return ops.exp((input - 1) * ops.log(other) - other - ops.lgamma(input))


@op(elementwise, vjp=[_no_rule("igamma"), lambda g, input, other: g * _gamma_density(input, other)],
    promote=tensors("igamma", 0, 1, then=promote_to_float), samples=[sample(positive(3, 4), positive(4))],
    scalar="igamma(input, other)",
    aliases=["special.gammainc"])  # fmt: skip
def igamma(input, other):
    """Regularised lower incomplete gamma function: the gamma distribution of shape ``input`` up to ``other``."""
    return of_small("igamma", input, other)


@op(elementwise, vjp=[_no_rule("igammac"), lambda g, input, other: -g * _gamma_density(input, other)],
    promote=tensors("igammac", 0, 1, then=promote_to_float), samples=[sample(positive(3, 4), positive(4))],
    scalar="igammac(input, other)",
    aliases=["special.gammaincc"])  # fmt: skip
def igammac(input, other):
    """Regularised upper incomplete gamma function: 1 - igamma(input, other)."""
    a, x = np.broadcast_arrays(np.asarray(input, np.float64), np.asarray(other, np.float64))
    found = np.asarray(1 - of_small("igamma", a, x))
    few = ~(found > 0.1)  # SciPy's own function, which is needed there, is ten times as slow
    if few.any():
        found[few] = of_small("igammac", a[few], x[few])
    return found.astype(other.dtype, copy=False)


@op(elementwise, vjp=[_no_rule("zeta"), lambda g, input, other: g * -input * ops.special.zeta(input + 1, other)],
    promote=all_arrays, samples=[sample(positive(3, 4, low=1.5), positive(4))], namespace="special",
    scalar="zeta(input, other)")  # fmt: skip
def zeta(input, other):
    """Hurwitz zeta function: the sum of (k + other) ** -input over k = 0, 1, 2 ..."""
    return of_small("zeta", input, other)


# ---------------------------------------------------------------------------------------------------- Bessel


@op(elementwise, vjp=[lambda g, input: g * ops.special.i1(input)], samples=[real(3, 4)], aliases=["special.i0"],
    scalar="i0(input)")
def i0(input):
    """Modified Bessel function of the first kind and order 0."""
    return of_small("i0", input)


@op(elementwise, vjp=[lambda g, input, out: g * (ops.special.i1e(input) - ops.sign(input) * out)],
    samples=[distinct(3, 4)], namespace="special", scalar="i0e(input)")  # fmt: skip
def i0e(input):
    """exp(-|input|) * i0(input)."""
    return of_small("i0e", input)


def _over(out, input):
    """out / input with its limit at zero, 0.5, as i1(x) is x / 2 there."""
    at_zero = input == 0
    return ops.where(at_zero, 0.5, out / ops.where(at_zero, 1.0, input))


@op(elementwise, vjp=[lambda g, input, out: g * (ops.i0(input) - _over(out, input))], samples=[distinct(3, 4)],
    namespace="special", scalar="i1(input)")  # fmt: skip
def i1(input):
    """Modified Bessel function of the first kind and order 1."""
    return of_small("i1", input)


@op(elementwise, samples=[distinct(3, 4)], namespace="special", scalar="i1e(input)",
    vjp=[lambda g, input, out: g * (ops.special.i0e(input) - ops.sign(input) * out - _over(out, input))])  # fmt: skip
def i1e(input):
    """exp(-|input|) * i1(input)."""
    return of_small("i1e", input)


# ---------------------------------------------------------------------------------------------------- others


@op(elementwise, vjp=[lambda g, out: g * ROOT_TWO_PI * ops.exp(0.5 * (out * out))], namespace="special",
    samples=[positive(3, 4, low=0.05, high=0.95)], scalar="ndtri(input)")  # fmt: skip
def ndtri(input):
    """Inverse of the normal distribution function, on [0, 1]."""
    return of_small("ndtri", input)


@op(elementwise, vjp=[lambda g, input: g * (-ops.log(input) - 1)], samples=[positive(3, 4)], namespace="special",
    scalar="-input * log(input) if input > 0 else 0 if input == 0 else -inf if input < 0 else input")  # fmt: skip
def entr(input):
    """Entropy of an element: -input * log(input), 0 at zero, -inf below."""
    found = np.where(input > 0, -input * np.log(input), np.where(input == 0, 0, -np.inf))
    return np.where(np.isnan(input), input, found).astype(input.dtype, copy=False)
