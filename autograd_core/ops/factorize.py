"""Matrix factorisations: Cholesky, QR, LU, eigenvalues of symmetric matrices, singular values."""

from __future__ import annotations

from collections import namedtuple
from math import prod

import numpy as np

from .. import ops
from ..errors import LinAlgError
from ..inplace import write_out
from ..registry import composite, contraction, op
from .samples import definite, real, sample

SQUARE = [definite(3, 3), definite(2, 3, 3)]
SHAPES = [real(3, 3), real(4, 3), real(2, 3, 4)]


def turned(x):
    """The matrices transposed, as a view."""
    return ops.transpose(x, -2, -1)


def square(name, A):
    """Raise unless ``A`` is a square matrix or a stack of them."""
    if A.ndim < 2 or A.shape[-1] != A.shape[-2]:
        raise RuntimeError(f"{name}: expected square matrices, got shape {list(A.shape)}")


def matrices(name, A, squares=False):
    """Raise unless ``A`` has the dims of a matrix (a square one) and a type for which there is an algorithm."""
    if squares:
        square(name, A)
    if A.ndim < 2:
        raise RuntimeError(f"{name}: the input must have at least 2 dimensions, got shape {list(A.shape)}")
    if A.dtype.kind != "f" or A.dtype.itemsize == 2:
        raise RuntimeError(f"{name}: expected float32 or float64, got {A.dtype}")


# ---------------------------------------------------------------------------------------------------- Cholesky


def _cholesky_gradient(g, out, upper):
    """L^-T P L^-1, symmetrised, with P the lower half of L^T G (Murray, 2016, eq. 9)."""
    L, g = (turned(out), turned(g)) if upper else (out, g)
    P = ops.tril(ops.matmul(turned(L), g))
    half = ops.solve_substitution(turned(L), P + turned(ops.tril(P, -1)), upper=True, unit=False)
    return turned(ops.solve_substitution(turned(L), turned(half), upper=True, unit=False)) * 0.5


@op(contraction, namespace="linalg", signature="A, *, upper=False", vjp=[_cholesky_gradient],
    samples=[*SQUARE, sample(definite(3, 3), upper=True)])  # fmt: skip
def cholesky(A, *, upper):
    """Lower triangular L with A = L L^T (or upper with A = U^T U); an error unless A is positive-definite."""
    matrices("linalg.cholesky", A, squares=True)
    try:
        return np.linalg.cholesky(A, upper=upper)
    except np.linalg.LinAlgError:
        raise LinAlgError("linalg.cholesky: the factorization could not be completed because the input is not "
                          "positive-definite") from None  # fmt: skip


# ---------------------------------------------------------------------------------------------------- QR


def _qr_tall(gQ, gR, Q, R):
    """The gradient for R square: (gQ + Q sym(triu(gR R^T - Q^T gQ))) R^-T; sym adds the transpose, diagonal once."""
    M = ops.matmul(gR, turned(R)) - ops.matmul(turned(Q), gQ)
    M = ops.triu(M)
    M = M + turned(ops.triu(M, 1))
    return turned(ops.solve_substitution(R, turned(gQ + ops.matmul(Q, M)), upper=True, unit=False))


def _qr_gradient(gs, A, Q, R, mode):
    gQ, gR = (ops.zeros_like(v) if g is None else g for g, v in zip(gs, (Q, R), strict=True))
    rows, columns = A.shape[-2:]
    if mode == "r":
        raise RuntimeError("linalg.qr: the derivative is not defined for mode='r'; use mode='reduced'")
    if mode == "complete" and rows > columns:
        raise RuntimeError("linalg.qr: the derivative is not defined for mode='complete' with more rows than columns")
    if rows >= columns:
        return (_qr_tall(gQ, gR, Q, R),)
    # A = Q [R1 R2]: the second part only turns A2, the first is the square case with what A2 says of Q
    R1, gR1, gR2 = R[..., :rows], gR[..., :rows], gR[..., rows:]
    return (ops.cat([_qr_tall(gQ + ops.matmul(A[..., rows:], turned(gR2)), gR1, Q, R1), ops.matmul(Q, gR2)], -1),)


@op(contraction, namespace="linalg", outputs="Q R", vjp=_qr_gradient, signature='A, mode="reduced"', samples=SHAPES)
def qr(A, *, mode):
    """A = Q R with orthonormal columns in Q and R upper triangular; ``mode``: "reduced", "complete", "r" (no Q)."""
    matrices("linalg.qr", A)
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(f"linalg.qr: mode must be 'reduced', 'complete' or 'r', got {mode!r}")
    if mode == "r":
        return np.zeros(0, A.dtype), np.linalg.qr(A, "r")
    return tuple(np.linalg.qr(A, mode))


# ---------------------------------------------------------------------------------------------------- eigenvalues


def _eigh_gradient(gs, eigenvalues, eigenvectors):
    """V (diag(gw) + skew(V^T gV) / 2 (w_j - w_i)) V^T, which is symmetric."""
    gw, gV = gs
    V = eigenvectors
    if gV is None:
        return (ops.matmul(V * ops.unsqueeze(gw, -2), turned(V)),)
    gaps = ops.unsqueeze(eigenvalues, -2) - ops.unsqueeze(eigenvalues, -1)
    identity = ops.eye(V.shape[-1], dtype=V.dtype)
    inner = _skew(ops.matmul(turned(V), gV)) * 0.5 / (gaps + identity)
    if gw is not None:
        inner = inner + ops.diag_embed(gw)
    return (ops.matmul(V, ops.matmul(inner, turned(V))),)


def _uplo(name, UPLO):
    if not isinstance(UPLO, str) or UPLO.upper() not in ("L", "U"):
        raise RuntimeError(f"{name}: UPLO must be 'L' or 'U', got {UPLO!r}")
    return UPLO.upper()


@op(contraction, namespace="linalg", outputs="eigenvalues eigenvectors", vjp=_eigh_gradient, signature='A, UPLO="L"',
    samples=SQUARE)  # fmt: skip
def eigh(A, *, UPLO):
    """Eigenvalues (ascending) and orthonormal eigenvectors (columns) of symmetric matrices, read from one triangle.

    The gradient is that of a symmetric input; it is infinite or NaN for the vectors of equal eigenvalues.
    """
    matrices("linalg.eigh", A, squares=True)
    return tuple(np.linalg.eigh(A, _uplo("linalg.eigh", UPLO)))


@op(composite, namespace="linalg", samples=SQUARE)
def eigvalsh(A, UPLO="L", *, out=None):
    """Eigenvalues (ascending) of symmetric matrices."""
    result = eigh(A, UPLO)[0]
    return result if out is None else write_out(out, result)


# ---------------------------------------------------------------------------------------------------- singular values


def _skew(x):
    return x - turned(x)


def _svd_gradient(gs, A, U, S, Vh, full_matrices):
    """U ((skew(U^T gU) / E) S + S (skew(V^T gV) / E) + diag(gS)) V^T with E_ij = s_j² - s_i², and the rest."""
    gU, gS, gVh = gs
    count, (rows, columns) = S.shape[-1], A.shape[-2:]
    # vectors of the null space are not determined: their gradients are left out
    U, Vh = U[..., :count], Vh[..., :count, :]
    gU, gVh = None if gU is None else gU[..., :count], None if gVh is None else gVh[..., :count, :]
    if gU is None and gVh is None:
        return (ops.matmul(U * ops.unsqueeze(gS, -2), Vh),)
    squares, row, column = S * S, ops.unsqueeze(S, -2), ops.unsqueeze(S, -1)
    identity = ops.eye(count, dtype=S.dtype)
    gaps = ops.unsqueeze(squares, -2) - ops.unsqueeze(squares, -1) + identity
    inner = ops.diag_embed(gS if gS is not None else ops.zeros_like(S))
    if gU is not None:
        inner = inner + _skew(ops.matmul(turned(U), gU)) / gaps * row
    if gVh is not None:
        inner = inner + column * (_skew(ops.matmul(Vh, turned(gVh))) / gaps)
    out = ops.matmul(U, ops.matmul(inner, Vh))
    if gU is not None and rows > count:
        scaled = gU / row
        out = out + ops.matmul(scaled - ops.matmul(U, ops.matmul(turned(U), scaled)), Vh)
    if gVh is not None and columns > count:
        scaled = gVh / column
        out = out + ops.matmul(U, scaled - ops.matmul(ops.matmul(scaled, turned(Vh)), Vh))
    return (out,)


@op(contraction, namespace="linalg", outputs="U S Vh", vjp=_svd_gradient,
    signature="A, full_matrices=True, *, driver=None",
    samples=[sample(real(3, 3), False), sample(real(4, 3), False), sample(real(2, 3, 4), False)])  # fmt: skip
def svd(A, *, full_matrices, driver):
    """A = U diag(S) Vh, singular values descending; U and Vh are square with ``full_matrices``.

    The vectors' gradient is that of a function that does not depend on their signs; infinite or NaN for equal values.
    """
    matrices("linalg.svd", A)
    if driver is not None:
        raise RuntimeError(f"linalg.svd: driver= is for CUDA tensors only, got {driver!r}")
    return tuple(np.linalg.svd(A, full_matrices=full_matrices))


@op(composite, namespace="linalg", samples=SHAPES)
def svdvals(A, *, driver=None, out=None):
    """Singular values of matrices, descending."""
    result = svd(A, False, driver=driver)[1]
    return result if out is None else write_out(out, result)


# ---------------------------------------------------------------------------------------------------- LU


def _lu_square(gL, gU, L, U):
    """The gradient of A = L U for a square U: L^-T (tril(L^T gL, -1) + triu(gU U^T)) U^-T."""
    inner = ops.tril(ops.matmul(turned(L), gL), -1) + ops.triu(ops.matmul(gU, turned(U)))
    left = ops.solve_substitution(turned(L), inner, upper=True, unit=True)
    return turned(ops.solve_substitution(U, turned(left), upper=True, unit=False))


def lu_gradient(gL, gU, L, U):
    """The gradient of the row-permuted matrix: the square case, and what lies to the right of it or below."""
    rows, columns = L.shape[-2], U.shape[-1]
    if rows < columns:  # U2 = L^-1 A2
        g2 = ops.solve_substitution(turned(L), gU[..., rows:], upper=True, unit=True)
        gL = gL - ops.matmul(g2, turned(U[..., rows:]))
        return ops.cat([_lu_square(gL, gU[..., :rows], L, U[..., :rows]), g2], -1)
    if rows > columns:  # L2 = A2 U^-1
        g2 = turned(ops.solve_substitution(U, turned(gL[..., columns:, :]), upper=True, unit=False))
        gU = gU - ops.matmul(turned(L[..., columns:, :]), g2)
        return ops.cat([_lu_square(gL[..., :columns, :], gU, L[..., :columns, :], U), g2], -2)
    return _lu_square(gL, gU, L, U)


def _unpack(LU):
    """(L, U) of a packed factorisation."""
    count = min(LU.shape[-2:])
    lower = ops.tril(LU[..., :count], -1)
    return lower + ops.eye(LU.shape[-2], count, dtype=LU.dtype), ops.triu(LU[..., :count, :])


def _row_order(pivots, rows):
    """The order of rows that a sequence of exchanges leads to."""
    swaps = pivots.reshape(prod(pivots.shape[:-1]), pivots.shape[-1])
    order = np.tile(np.arange(rows), (len(swaps), 1))
    for i in range(swaps.shape[1]):
        each, other = np.arange(len(swaps)), swaps[:, i] - 1
        order[each, i], order[each, other] = order[each, other], order[each, i]
    return order.reshape(*pivots.shape[:-1], rows)


def _permutation(pivots, rows):
    """P with A = P L U, given LAPACK's exchanges of rows (counted from 1)."""
    order = _row_order(pivots, rows)
    P = np.zeros((*order.shape, rows))
    np.put_along_axis(P, order[..., None, :], 1, -2)
    return P


def _lu_factor_gradient(gs, LU, pivots):
    (L, U), g = _unpack(LU), gs[0]
    P = ops.to(ops.permutation_of(pivots, rows=LU.shape[-2]), dtype=LU.dtype)
    count = min(LU.shape[-2:])
    return (ops.matmul(P, lu_gradient(ops.tril(g[..., :count], -1), ops.triu(g[..., :count, :]), L, U)),)


@op(contraction, namespace="internal", samples=[sample(np.array([2, 3, 3], np.int32), rows=3)])
def permutation_of(pivots, *, rows):
    """P with A = P L U, given LAPACK's exchanges of rows (counted from 1)."""
    return _permutation(pivots, rows)


@op(contraction, namespace="linalg", outputs="LU pivots", vjp=_lu_factor_gradient, signature="A, *, pivot=True",
    samples=SHAPES)  # fmt: skip
def lu_factor(A, *, pivot):
    """L and U in one matrix, and LAPACK's exchanges of rows, counted from 1."""
    matrices("linalg.lu_factor", A)
    if not pivot:
        raise RuntimeError("linalg.lu_factor: LU without pivoting is not implemented on the CPU")
    count = min(A.shape[-2:])
    LU, pivots = A.copy(), np.empty((*A.shape[:-2], count), np.int32)
    if A.size:
        from .linalg import scipy_linalg

        getrf = scipy_linalg("linalg.lu_factor").get_lapack_funcs("getrf", dtype=A.dtype)
        for k in np.ndindex(*A.shape[:-2]):
            LU[k], exchanges, _ = getrf(A[k])
            pivots[k] = exchanges + 1
    return LU, pivots


LUParts = namedtuple("LUParts", "P L U")


def lu_parts(LU, pivots):
    """(P, L, U) of a packed factorisation; P of the factors' dtype."""
    P = ops.to(ops.permutation_of(pivots, rows=LU.shape[-2]), dtype=LU.dtype)
    return LUParts(P, *_unpack(LU))


@op(composite, out=True, namespace="linalg", samples=SHAPES)
def lu(A, *, pivot=True):
    """A = P L U with a permutation P, unit lower triangular L and upper triangular U."""
    return lu_parts(*lu_factor(A, pivot=pivot))


@op(composite, out=True, method=False,
    samples=[sample(real(3, 3), np.array([2, 3, 3], np.int32)),
             sample(real(3, 2), np.array([3, 3], np.int32))])  # fmt: skip
def lu_unpack(LU_data, LU_pivots, unpack_data=True, unpack_pivots=True):
    """(P, L, U) of what `linalg.lu_factor` gives; the parts not asked for are empty."""
    if str(LU_pivots.dtype).rpartition(".")[2] != "int32":
        raise RuntimeError(f"lu_unpack: LU_pivots must be int32, got {LU_pivots.dtype}")
    empty = ops.zeros_like(ops.reshape(LU_data, (-1,))[:0])
    L, U = _unpack(LU_data) if unpack_data else (empty, empty)
    P = ops.to(ops.permutation_of(LU_pivots, rows=LU_data.shape[-2]), dtype=LU_data.dtype) if unpack_pivots else empty
    return LUParts(P, L, U)


@op(composite, namespace="linalg", name="diagonal", samples=[real(3, 4), sample(real(2, 3, 4), offset=1)])
def matrix_diagonal(A, *, offset=0, dim1=-2, dim2=-1):
    """Diagonals of matrices, as a view; see `diagonal`."""
    return ops.diagonal(A, offset, dim1, dim2)
