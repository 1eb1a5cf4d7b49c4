"""Gaussian elimination: LU factors and what they give, solutions of linear systems, inverses and determinants."""

from __future__ import annotations

from collections import namedtuple
from math import prod

import numpy as np

from .. import ops
from ..errors import LinAlgError
from ..inplace import write_out
from ..registry import Kernel, composite, contraction, op
from .samples import definite, positive, real, sample
from .triangles import by_kernel, matrices, one_kind, square, turned

SQUARE = [definite(3, 3), definite(2, 3, 3)]
SHAPES = [real(3, 3), real(4, 3), real(2, 3, 4)]
SMALL = 512  # elements of the matrices below which LAPACK, where NumPy hands it out, is done before a kernel has begun


# ---------------------------------------------------------------------------------------------------- LU


def _lu_square(gL, gU, L, U):
    """The gradient of A = L U for a square U: L^-T (tril(L^T gL, -1) + triu(gU U^T)) U^-T."""
    parts = [] if gL is None else [ops.tril(ops.matmul(turned(L), gL), -1)]
    parts += [] if gU is None else [ops.triu(ops.matmul(gU, turned(U)))]
    left = ops.solve_substitution(turned(L), sum(parts[1:], parts[0]), upper=True, unit=True)
    return ops.solve_substitution(turned(U), left, upper=False, unit=False, left=False)


def lu_gradient(gL, gU, L, U):
    """The gradient of the row-permuted matrix: the square case, and what lies to the right of it or below."""
    rows, columns = L.shape[-2], U.shape[-1]
    if rows == columns:
        return _lu_square(gL, gU, L, U)
    gL = ops.zeros_like(L) if gL is None else gL
    gU = ops.zeros_like(U) if gU is None else gU
    if rows < columns:  # U2 = L^-1 A2
        g2 = ops.solve_substitution(turned(L), gU[..., rows:], upper=True, unit=True)
        gL = gL - ops.matmul(g2, turned(U[..., rows:]))
        return ops.cat([_lu_square(gL, gU[..., :rows], L, U[..., :rows]), g2], -1)
    g2 = ops.solve_substitution(turned(U), gL[..., columns:, :], upper=False, unit=False, left=False)  # L2 = A2 U^-1
    gU = gU - ops.matmul(turned(L[..., columns:, :]), g2)
    return ops.cat([_lu_square(gL[..., :columns, :], gU, L[..., :columns, :], U), g2], -2)


def _packed(gs, LU_shape):
    """The gradient of the packed factors from those of L and U."""
    gL, gU = gs
    rows, columns = LU_shape[-2:]
    count = min(rows, columns)
    if gU is None:
        lower = ops.tril(gL, -1)
        return (lower if rows >= columns else ops.pad(lower, (0, columns - rows)),)
    upper = ops.triu(gU)
    if gL is None:
        return (upper if rows <= columns else ops.pad(upper, (0, 0, 0, rows - columns)),)
    lower = ops.tril(gL, -1)
    if rows > columns:
        return (ops.cat([lower[..., :count, :] + upper, lower[..., count:, :]], -2),)
    return (lower + upper if rows == columns else ops.cat([lower + upper[..., :count], upper[..., count:]], -1),)


@op(contraction, namespace="internal", outputs="L U", vjp=_packed, samples=SHAPES,
    kernel=Kernel("factors:unpack", above=0))  # fmt: skip
def unpack_factors(LU):
    """(L, U) of a packed factorisation."""
    if LU.dtype.char in "fd":
        return by_kernel("factors:unpack", LU)
    rows, columns = LU.shape[-2:]
    lower = np.tril(LU[..., :columns], -1)[..., : min(rows, columns)]
    return lower + np.eye(rows, lower.shape[-1], dtype=LU.dtype), np.triu(LU[..., :columns, :])


def _row_order(pivots, rows):
    """The order of rows that a sequence of LAPACK's exchanges, counted from 1, leads to."""
    return by_kernel("factors:order", np.ascontiguousarray(pivots), rows=rows)


@op(contraction, namespace="internal", samples=[sample(np.array([2, 3, 3], np.int32), rows=3)])
def permutation_of(pivots, *, rows):
    """P with A = P L U, given LAPACK's exchanges of rows (counted from 1)."""
    return _permutation(pivots, rows, np.float64)


def _permutation(pivots, rows, dtype):
    order = _row_order(pivots, rows)
    P = np.zeros((*order.shape, rows), dtype)
    np.put_along_axis(P, order[..., None, :], 1, -2)
    return P


@op(contraction, namespace="internal", promote=False,
    vjp=[lambda g, pivots, back: ops.exchange_rows(g, pivots, back=not back), None],
    samples=[sample(real(3, 2), np.array([2, 3, 3], np.int32), back=False),
             sample(real(3, 2), np.array([2, 3, 3], np.int32), back=True)])  # fmt: skip
def exchange_rows(input, pivots, *, back):
    """P^T @ input for the permutation P of LAPACK's exchanges of rows; P @ input with ``back``."""
    order = _row_order(pivots, input.shape[-2])
    if order.ndim == 1 and not back:
        return input.take(order, -2)
    out = np.empty(input.shape, input.dtype)
    if order.ndim == 1:
        out[..., order, :] = input
    elif back:
        np.put_along_axis(out, order[..., None], input, -2)
    else:
        out = np.take_along_axis(input, order[..., None], -2)
    return out


def _lu_factor_gradient(gs, LU, pivots):
    count, g = min(LU.shape[-2:]), gs[0]
    L, U = ops.unpack_factors(LU)
    inner = lu_gradient(ops.tril(g[..., :count], -1), ops.triu(g[..., :count, :]), L, U)
    return (ops.exchange_rows(inner, pivots, back=True),)


def _with_pivots(name, A, pivot):
    matrices(name, A)
    if not pivot:
        raise RuntimeError(f"{name}: LU without pivoting is not implemented on the CPU")


@op(contraction, namespace="linalg", outputs="LU pivots", vjp=_lu_factor_gradient, signature="A, *, pivot=True",
    samples=SHAPES)  # fmt: skip
def lu_factor(A, *, pivot):
    """L and U in one matrix, and LAPACK's exchanges of rows, counted from 1."""
    _with_pivots("linalg.lu_factor", A, pivot)
    return by_kernel("factors:factor", A)


LUParts = namedtuple("LUParts", "P L U")


def _lu_gradient(gs, L, U, pivots):
    if gs[1] is None and gs[2] is None:
        return (None,)
    return (ops.exchange_rows(lu_gradient(gs[1], gs[2], L, U), pivots, back=True),)


@op(contraction, namespace="linalg", outputs="P L U", hidden=("pivots",), constant_outputs=(0,), vjp=_lu_gradient,
    signature="A, *, pivot=True", samples=SHAPES)  # fmt: skip
def lu(A, *, pivot):
    """A = P L U with a permutation P, unit lower triangular L and upper triangular U."""
    _with_pivots("linalg.lu", A, pivot)
    LU, pivots = by_kernel("factors:factor", A)
    return _permutation(pivots, A.shape[-2], A.dtype), *by_kernel("factors:unpack", LU), pivots


@op(composite, out=True, method=False,
    samples=[sample(real(3, 3), np.array([2, 3, 3], np.int32)),
             sample(real(3, 2), np.array([3, 3], np.int32))])  # fmt: skip
def lu_unpack(LU_data, LU_pivots, unpack_data=True, unpack_pivots=True):
    """(P, L, U) of what `linalg.lu_factor` gives; the parts not asked for are empty."""
    if str(LU_pivots.dtype).rpartition(".")[2] != "int32":
        raise RuntimeError(f"lu_unpack: LU_pivots must be int32, got {LU_pivots.dtype}")
    empty = ops.zeros_like(ops.reshape(LU_data, (-1,))[:0])
    L, U = ops.unpack_factors(LU_data) if unpack_data else (empty, empty)
    P = ops.to(ops.permutation_of(LU_pivots, rows=LU_data.shape[-2]), dtype=LU_data.dtype) if unpack_pivots else empty
    return LUParts(P, L, U)


# ---------------------------------------------------------------------------------------------------- systems


def _factored_gradient(g, LU, pivots, out, left, adjoint, needs):
    """From A = P L U: tril(P^T gA U^T, -1) and triu(L^T P^T gA), where gA = -Y X^T; B's gradient is Y = A^-T G."""
    gB = ops.solve_factored(LU, pivots, g, left=left, adjoint=not adjoint)
    if not needs[0]:
        return None, None, gB
    first, second = (gB, out) if left else (turned(gB), turned(out))
    if adjoint == left:
        first, second = second, first
    L, U = ops.unpack_factors(LU)
    rows = ops.exchange_rows(first, pivots, back=False)
    lower = ops.tril(ops.matmul(rows, turned(ops.matmul(U, second))), -1)
    return -(lower + ops.triu(ops.matmul(ops.matmul(turned(L), rows), turned(second)))), None, gB


@op(contraction, namespace="internal", promote=False, vjp=_factored_gradient,
    kernel=Kernel("triangular:solve_factored", above=0),
    samples=[sample(definite(3, 3), np.array([2, 3, 3], np.int32), real(3, 2), left=True, adjoint=False),
             sample(definite(3, 3), np.array([2, 3, 3], np.int32), real(3, 2), left=True, adjoint=True)])  # fmt: skip
def solve_factored(LU, pivots, B, *, left, adjoint):
    """X with A @ X = B (X @ A = B), or with A transposed, given A's packed factors and exchanges of rows."""
    return by_kernel("triangular:solve_factored", LU, pivots, B, left=left, adjoint=adjoint)


@op(composite, namespace="linalg", samples=[sample(definite(3, 3), np.array([2, 3, 3], np.int32), real(3, 2)),
                                            sample(definite(3, 3), np.array([1, 3, 3], np.int32),
                                            real(3, 2), adjoint=True)])  # fmt: skip
def lu_solve(LU, pivots, B, *, left=True, adjoint=False, out=None):
    """X with A @ X = B, given `lu_factor` of A; ``left=False``: X @ A = B; ``adjoint``: with A transposed."""
    shape, exchanges, sides = square("linalg.lu_solve", LU), tuple(pivots.shape), tuple(B.shape)
    if len(sides) < 2 or sides[-2 if left else -1] != shape[-1] or exchanges != shape[:-1]:
        raise RuntimeError(f"linalg.lu_solve: shapes LU {list(shape)}, pivots {list(exchanges)} and B {list(sides)} do "
                           "not fit together")  # fmt: skip
    result = ops.solve_factored(LU, pivots, B, left=bool(left), adjoint=bool(adjoint))
    return result if out is None else write_out(out, result)


def _singular(LU):
    """Whether an exact zero stands on the diagonal of U."""
    return (LU.diagonal(0, -2, -1) == 0).any(-1)


@op(contraction, namespace="internal", outputs="LU pivots", samples=SQUARE)
def factors_of(A):
    """Factors for `solve_with`, of which no gradient is asked."""
    matrices("linalg.solve", A, squares=True)
    LU, pivots = by_kernel("factors:factor", A)
    if _singular(LU).any():
        raise LinAlgError("linalg.solve: the solver failed because the input matrix is singular")
    return LU, pivots


def _solve_gradient(g, A, LU, pivots, out, left, adjoint, vector, needs):
    """For A X = B: B's is Y = A^-T G, by the same factors, and A's is -Y X^T."""
    gB = ops.solve_with(A, g, LU, pivots, left=left, adjoint=not adjoint, vector=vector)
    if not needs[0]:
        return None, gB, None, None
    if vector:
        first, second = ops.unsqueeze(gB, -1), ops.unsqueeze(out, -2)
        return -(first * second if not adjoint else turned(first) * turned(second)), gB, None, None
    first, second = (gB, turned(out)) if left else (turned(out), gB)
    gA = -ops.matmul(first, second)
    return turned(gA) if adjoint else gA, gB, None, None


@op(contraction, namespace="internal", promote=False, vjp=_solve_gradient,
    samples=[sample(definite(3, 3), real(3, 2), None, None, left=True, adjoint=False, vector=False),
             sample(definite(3, 3), real(3), None, None, left=True, adjoint=True, vector=True),
             sample(definite(2, 3, 3), real(2, 3), None, None, left=False, adjoint=True, vector=False)])  # fmt: skip
def solve_with(A, B, LU, pivots, *, left, adjoint, vector):
    """X with A @ X = B (X @ A = B), or with A transposed, given A and its factors, or None; B may be a vector."""
    if A.dtype is not B.dtype or A.dtype.char not in "fd":
        one_kind("linalg.solve", A, B)
        matrices("linalg.solve", A)
    right = B[..., None] if vector else B
    if LU is not None:
        X = by_kernel("triangular:solve_factored", LU, pivots, right, left=left, adjoint=adjoint)
        return X[..., 0] if vector else X
    try:
        X = np.linalg.solve(A.mT if adjoint == left else A, right if left else right.mT)
    except np.linalg.LinAlgError:
        raise LinAlgError("linalg.solve: the solver failed because the input matrix is singular") from None
    return X[..., 0] if vector else X if left else X.mT


def solution(A, B, left=True, vector=False):
    """What `solve` gives for matrices and right sides that fit."""
    LU, pivots = ops.factors_of(A) if prod(A.shape) >= SMALL else (None, None)
    return ops.solve_with(A, B, LU, pivots, left=left, adjoint=False, vector=vector)


@op(composite, namespace="linalg", samples=[sample(definite(3, 3), real(3, 2)), sample(definite(2, 3, 3), real(2, 3)),
                                            sample(definite(3, 3), real(2, 3), left=False)])  # fmt: skip
def solve(A, B, *, left=True, out=None):
    """X with A @ X = B (X @ A = B with ``left=False``); ``B`` is a vector where its shape is A's but the last dim."""
    shape, sides = square("linalg.solve", A), tuple(B.shape)
    vector = len(sides) == 1 or sides == shape[:-1]
    if vector and not left:
        raise RuntimeError(f"linalg.solve: left=False needs a matrix B, got shape {list(sides)}")
    if not sides or sides[-1 if vector or not left else -2] != shape[-1]:
        raise RuntimeError(f"linalg.solve: shapes A {list(shape)} and B {list(sides)} do not fit together")
    result = solution(A, B, bool(left), vector)
    return result if out is None else write_out(out, result)


@op(contraction, namespace="linalg", name="inv", samples=SQUARE,
    vjp=[lambda g, out: -ops.matmul(turned(out), ops.matmul(g, turned(out)))])  # fmt: skip
def inv(A):
    """Inverses of square matrices; a singular one is an error."""
    matrices("linalg.inv", A, squares=True)
    if A.size >= SMALL:
        LU, pivots = by_kernel("factors:factor", A)
        if not _singular(LU).any():
            return by_kernel("triangular:invert_factored", LU, pivots)
    else:
        try:
            return np.linalg.inv(A)
        except np.linalg.LinAlgError:
            pass
    raise LinAlgError("linalg.inv: the inversion could not be completed because the input matrix is singular")


@op(composite, out=True, samples=SQUARE)
def inverse(input):
    """Inverses of square matrices; a singular one is an error."""
    return inv(input)


# ---------------------------------------------------------------------------------------------------- determinants


def _each(x):
    """One number a matrix, shaped to meet the matrices."""
    return ops.reshape(x, (*x.shape, 1, 1))


def _is_singular(out):
    """Whether a determinant is so small that its matrix counts as singular."""
    array = getattr(out, "array", out)
    return np.abs(array) < 100 * np.finfo(array.dtype).eps


def _cofactor(A, out):
    """The gradient of det: det(A) A^-T, and by singular values where a matrix is (nearly) singular.

    The adjugate of U S V^T is det(U) det(V) V S' U^T with S'_i the product of the other singular values.
    """
    singular = _is_singular(out)
    if not singular.any():
        return _each(out) * turned(inv(A))
    U, S, Vh = ops.svd(A, full_matrices=False)
    sign = np.linalg.det(getattr(U, "array", U)) * np.linalg.det(getattr(Vh, "array", Vh))
    others = ops.products_of_others(S, dim=S.ndim - 1)
    limit = ops.matmul(U * ops.unsqueeze(others * sign[..., None], -2), Vh)
    if singular.all():
        return limit
    mask = singular[..., None, None]
    regular = ops.where(mask, ops.eye(A.shape[-1], dtype=A.dtype), A)
    return ops.where(mask, limit, _each(out) * turned(inv(regular)))


@op(contraction, namespace="internal", promote=False, vjp=(),
    composite=lambda g, A, out, LU, pivots: _each(g) * _cofactor(A, out),
    samples=[sample(positive(), definite(3, 3), positive(), None, None)])  # fmt: skip
def det_gradient(g, A, out, LU, pivots):
    """Cofactors of square matrices with determinants ``out`` and factors ``LU`` (or None), times ``g``."""
    if LU is None or np.any(_is_singular(out)):
        return _each(g) * _cofactor(A, out)
    inverse = by_kernel("triangular:invert_factored", LU, pivots, turned=True)
    return np.multiply(inverse, _each(np.asarray(g * out)), inverse)


def _parities(pivots):
    """-1 for odd permutations."""
    exchanged = np.count_nonzero(pivots != np.arange(1, pivots.shape[-1] + 1), -1)
    return 1 - 2 * (exchanged & 1)


@op(contraction, aliases=["linalg.det"], samples=SQUARE, hidden=("LU", "pivots"),
    vjp=[lambda g, input, out, LU, pivots: ops.det_gradient(g, input, out, LU, pivots)])  # fmt: skip
def det(input):
    """Determinants of square matrices."""
    matrices("linalg.det", input, squares=True)
    if input.size < SMALL:
        return np.linalg.det(input), None, None
    LU, pivots = by_kernel("factors:factor", input)
    product = np.multiply.reduce(LU.diagonal(0, -2, -1), -1, np.float64) * _parities(pivots)
    return product.astype(input.dtype), LU, pivots


@op(contraction, namespace="internal", promote=False,
    samples=[sample(definite(3, 3), None, None), sample(definite(2, 3, 3), None, None)],
    vjp=[lambda g, out: -ops.matmul(out, ops.matmul(turned(g), out)), None, None])  # fmt: skip
def inverse_turned(A, LU, pivots):
    """Transposed inverses, from factors ``LU`` (or None); infinite where singular: log |det| has its pole there."""
    if LU is None:
        try:
            return np.linalg.inv(A).mT
        except np.linalg.LinAlgError:
            LU, pivots = by_kernel("factors:factor", A)
    inverse, singular = by_kernel("triangular:invert_factored", LU, pivots, turned=True), _singular(LU)
    if np.any(singular):
        inverse[singular] = np.inf
    return inverse


def _slogdet_gradient(gs, input, LU, pivots):
    if gs[1] is None:
        return (ops.zeros_like(input),)
    return (_each(gs[1]) * ops.inverse_turned(input, LU, pivots),)


@op(contraction, aliases=["linalg.slogdet"], outputs="sign logabsdet", samples=SQUARE, hidden=("LU", "pivots"),
    vjp=_slogdet_gradient)  # fmt: skip
def slogdet(input):
    """Signs and logarithms of the absolute values of determinants."""
    matrices("linalg.slogdet", input, squares=True)
    if input.size < SMALL:
        return *np.linalg.slogdet(input), None, None
    LU, pivots = by_kernel("factors:factor", input)
    diagonal = LU.diagonal(0, -2, -1)
    sign = np.multiply.reduce(np.sign(diagonal), -1) * _parities(pivots).astype(input.dtype)
    return sign, np.add.reduce(np.log(np.abs(diagonal)), -1), LU, pivots


@op(composite, samples=SQUARE)
def logdet(input):
    """Logarithms of determinants; NaN where negative, -inf where zero."""
    sign, logabsdet = slogdet(input)
    return ops.where(sign == -1, float("nan"), logabsdet)
