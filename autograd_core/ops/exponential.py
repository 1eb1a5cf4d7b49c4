"""The matrix exponential and its derivative, by Padé approximants, scaling and squaring.

What is worked on is a tuple of one or two arrays, a matrix X and a change dX of it, under the rules of differentials:
d(XY) = X dY + dX Y, d(Q^-1 P) = Q^-1 (dP - dQ Q^-1 P). Higham, "The scaling and squaring method for the matrix
exponential revisited", 2005; Al-Mohy and Higham, "Computing the Fréchet derivative of the matrix exponential", 2009.
"""

from __future__ import annotations

from functools import cache
from math import factorial

import numpy as np

from .. import ops
from ..registry import contraction, op
from .elimination import SMALL
from .samples import real, sample
from .triangles import by_kernel, matrices, turned

LIMITS = {
    "f": {3: 4.258730016922831e-1, 5: 1.880152677804762, 7: 3.925724783138660},
    "d": {3: 1.495585217958292e-2, 5: 2.539398330063230e-1, 7: 9.504178996162932e-1, 9: 2.097847961257068,
          13: 5.371920351148152},
}  # fmt: skip
"""The norm up to which the approximant of a degree is as exact as its type of floats."""


@cache
def _coefficients(degree):
    """Those of the numerator: (2m - j)! m! / ((2m)! (m - j)! j!)."""
    m = degree
    return [factorial(2 * m - j) * factorial(m) / (factorial(2 * m) * factorial(m - j) * factorial(j))
            for j in range(m + 1)]  # fmt: skip


def _times(x, y):
    """The product, and its change."""
    product = ops.matmul(x[0], y[0])
    return (product,) if len(x) == 1 else (product, ops.matmul(x[0], y[1]) + ops.matmul(x[1], y[0]))


def _plus(x, y):
    return tuple([a + b for a, b in zip(x, y, strict=True)])


def _minus(x, y):
    return tuple([a - b for a, b in zip(x, y, strict=True)])


def _combined(factors, powers, constant=0.0):
    """The sum of powers with factors, and a multiple of the identity."""
    sums = []
    for parts in zip(*powers, strict=True):
        total = parts[0] * factors[0]
        for factor, part in zip(factors[1:], parts[1:], strict=True):
            total += part * factor
        sums.append(total)
    n = sums[0].shape[-1]
    sums[0].reshape(*sums[0].shape[:-2], n * n)[..., :: n + 1] += constant
    return tuple(sums)


def _odd_and_even(x, degree):
    """The numerator's odd and even part."""
    b = _coefficients(degree)
    squares = [_times(x, x)]
    while 2 * len(squares) < min(degree - 1, 6 if degree == 13 else degree):
        squares.append(_times(squares[-1], squares[0]))
    if degree < 13:
        return _times(x, _combined(b[3::2], squares, b[1])), _combined(b[2::2], squares, b[0])
    odd = _plus(_times(squares[2], _combined(b[9::2], squares)), _combined(b[3:9:2], squares, b[1]))
    even = _plus(_times(squares[2], _combined(b[8::2], squares)), _combined(b[2:8:2], squares, b[0]))
    return _times(x, odd), even


def _divided(q, p):
    """Q^-1 P, and its change."""
    if q[0].size < SMALL:

        def solve(right):
            return np.linalg.solve(q[0], right)
    else:
        LU, pivots = by_kernel("factors:factor", q[0])

        def solve(right):
            return by_kernel("triangular:solve_factored", LU, pivots, right, left=True, adjoint=False)

    quotient = solve(p[0])
    return (quotient,) if len(q) == 1 else (quotient, solve(p[1] - ops.matmul(q[1], quotient)))


def _exponential(x):
    """exp(X), and its change; NaN where X is not finite."""
    limits = LIMITS[x[0].dtype.char]
    norms = np.abs(x[0]).sum(-2).max(-1)
    wrong = ~np.isfinite(norms)
    if wrong.any():
        x, norms = tuple([np.where(wrong[..., None, None], 0, part) for part in x]), np.where(wrong, 0, norms)
    degree = next((m for m, limit in limits.items() if norms.max() <= limit), max(limits))
    halvings = np.ceil(np.log2(np.maximum(norms / limits[max(limits)], 1))).astype(np.int32)
    if halvings.any():
        x = tuple([np.ldexp(part, -halvings[..., None, None]) for part in x])
    odd, even = _odd_and_even(x, degree)
    result = _divided(_minus(even, odd), _plus(even, odd))
    for done in range(halvings.max()):
        squared, more = _times(result, result), (halvings > done)[..., None, None]
        result = squared if more.all() else tuple([np.where(more, y, z) for y, z in zip(squared, result, strict=True)])
    return tuple([np.where(wrong[..., None, None], np.nan, part) for part in result]) if wrong.any() else result


def _in_a_corner(A, G):
    """exp [[A, G], [0, A]] = [[., L], [0, .]]."""
    n = A.shape[-1]
    block = ops.cat([ops.cat([A, G], -1), ops.cat([ops.zeros_like(A), A], -1)], -2)
    return ops.matrix_exp(block)[..., :n, n:]


@op(contraction, namespace="internal", vjp=(), composite=_in_a_corner, samples=[sample(real(3, 3), real(3, 3))])
def exponential_change(A, G):
    """The derivative of the exponential at ``A`` in the direction ``G``."""
    return _exponential((A, G))[1] if A.size else A.copy()


@op(contraction, aliases=["linalg.matrix_exp"], samples=[real(3, 3), real(2, 3, 3)],
    vjp=[lambda g, input: ops.exponential_change(turned(input), g)])  # fmt: skip
def matrix_exp(input):
    """Matrix exponential, by Padé approximants, scaling and squaring.

    The error grows with the norm that is scaled away. Measured for 192 rows of normal numbers, next to the largest
    element of the result: 11 eps where their deviation is 0.1 / sqrt(192), 110 eps where it is 20 / sqrt(192).
    """
    matrices("linalg.matrix_exp", input, squares=True)
    return _exponential((input,))[0] if input.size else input.copy()
