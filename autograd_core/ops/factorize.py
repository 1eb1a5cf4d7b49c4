"""Matrix factorisations: Cholesky, QR, eigenvalues of symmetric matrices, singular values."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..errors import LinAlgError
from ..inplace import write_out
from ..modes import state
from ..registry import composite, contraction, op
from .elimination import SHAPES, SMALL, SQUARE
from .samples import definite, real, sample
from .triangles import by_kernel, matrices, turned

# ---------------------------------------------------------------------------------------------------- Cholesky


def _cholesky_gradient(g, out, upper):
    """L^-T P L^-1, symmetrised, with P the lower half of L^T G (Murray, 2016, eq. 9)."""
    L, g = (turned(out), turned(g)) if upper else (out, g)
    P = ops.tril(ops.matmul(turned(L), g))
    half = ops.solve_substitution(turned(L), P + turned(ops.tril(P, -1)), upper=True, unit=False)
    return ops.solve_substitution(L, half, upper=False, unit=False, left=False) * 0.5


@op(contraction, namespace="linalg", signature="A, *, upper=False", vjp=[_cholesky_gradient],
    samples=[*SQUARE, sample(definite(3, 3), upper=True)])  # fmt: skip
def cholesky(A, *, upper):
    """Lower triangular L with A = L L^T (or upper with A = U^T U); an error unless A is positive-definite."""
    matrices("linalg.cholesky", A, squares=True)
    if A.size >= SMALL:
        factor, wrong = by_kernel("definite:factor_definite", A, upper=bool(upper))
        if not wrong.any():
            return factor
    else:
        try:
            return np.linalg.cholesky(A, upper=upper)
        except np.linalg.LinAlgError:
            pass
    raise LinAlgError("linalg.cholesky: the factorization could not be completed because the input is not "
                      "positive-definite")  # fmt: skip


# ---------------------------------------------------------------------------------------------------- QR


def _qr_tall(gQ, gR, Q, R):
    """The gradient for R square: (gQ + Q sym(triu(gR R^T - Q^T gQ))) R^-T; sym adds the transpose, diagonal once."""
    M = ops.matmul(gR, turned(R)) - ops.matmul(turned(Q), gQ)
    M = ops.triu(M)
    M = M + turned(ops.triu(M, 1))
    return ops.solve_substitution(turned(R), gQ + ops.matmul(Q, M), upper=False, unit=False, left=False)


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
    if A.size >= SMALL:
        Q, R = by_kernel("householder:factor_orthogonal", A, mode=mode)
    else:
        Q, R = (None, np.linalg.qr(A, "r")) if mode == "r" else np.linalg.qr(A, mode)
    return np.zeros(0, A.dtype) if Q is None else Q, R


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


LEAST = 16
"""Rows and columns from which kernels rather than LAPACK work on a matrix, as long as a core's cache holds it."""


def symmetric_values(A, UPLO="L", vectors=False):
    """(eigenvalues, eigenvectors or None) of symmetric matrices, read from one triangle."""
    if A.size >= SMALL and A.shape[-1] >= LEAST:
        from ..kernels import symmetric

        if A.shape[-1] <= symmetric.most(A.dtype):
            values, found, wrong = by_kernel("symmetric:eigen", A, upper=UPLO == "U", vectors=vectors)
            if not wrong.any() and np.isfinite(values).all():
                return values, found
    return tuple(np.linalg.eigh(A, UPLO)) if vectors else (np.linalg.eigvalsh(A, UPLO), None)


@op(contraction, namespace="linalg", outputs="eigenvalues eigenvectors", vjp=_eigh_gradient, signature='A, UPLO="L"',
    samples=SQUARE)  # fmt: skip
def eigh(A, *, UPLO):
    """Eigenvalues (ascending) and orthonormal eigenvectors (columns) of symmetric matrices, read from one triangle.

    The gradient is that of a symmetric input; it is infinite or NaN for the vectors of equal eigenvalues.
    """
    matrices("linalg.eigh", A, squares=True)
    return symmetric_values(A, _uplo("linalg.eigh", UPLO), vectors=True)


@op(contraction, namespace="internal", samples=[sample(definite(3, 3), UPLO="L")])
def eigenvalues_of(A, *, UPLO):
    """Eigenvalues of symmetric matrices without a gradient, for which vectors are needed."""
    matrices("linalg.eigvalsh", A, squares=True)
    return symmetric_values(A, _uplo("linalg.eigvalsh", UPLO))[0]


def _wants_gradient(x):
    return state.grad and getattr(x, "tracks", False)


@op(composite, namespace="linalg", samples=SQUARE)
def eigvalsh(A, UPLO="L", *, out=None):
    """Eigenvalues (ascending) of symmetric matrices."""
    result = eigh(A, UPLO)[0] if _wants_gradient(A) else ops.eigenvalues_of(A, UPLO=UPLO)
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


def singular_values(A, full=False, vectors=False):
    """(U or None, singular values, V transposed or None) of matrices; U and V are square with ``full``."""
    if A.size >= SMALL and min(A.shape[-2:]) >= LEAST:
        from ..kernels import singular

        if singular.fits(A.shape, A.dtype):
            U, S, Vh, wrong = by_kernel("singular:decompose", A, vectors=vectors, full=full)
            if not wrong.any() and np.isfinite(S).all():
                return U, S, Vh
    return tuple(np.linalg.svd(A, full_matrices=full)) if vectors else (None, np.linalg.svd(A, compute_uv=False), None)


@op(contraction, namespace="linalg", outputs="U S Vh", vjp=_svd_gradient,
    signature="A, full_matrices=True, *, driver=None",
    samples=[sample(real(3, 3), False), sample(real(4, 3), False), sample(real(2, 3, 4), False)])  # fmt: skip
def svd(A, *, full_matrices, driver):
    """A = U diag(S) Vh, singular values descending; U and Vh are square with ``full_matrices``.

    The vectors' gradient is that of a function that does not depend on their signs; infinite or NaN for equal values.
    """
    matrices("linalg.svd", A)
    _no_driver("linalg.svd", driver)
    return singular_values(A, bool(full_matrices), vectors=True)


def _no_driver(name, driver):
    if driver is not None:
        raise RuntimeError(f"{name}: driver= is for CUDA tensors only, got {driver!r}")


@op(contraction, namespace="internal", samples=SHAPES)
def singular_values_of(A):
    """Singular values of matrices without a gradient, for which vectors are needed."""
    matrices("linalg.svdvals", A)
    return singular_values(A)[1]


@op(composite, namespace="linalg", samples=SHAPES)
def svdvals(A, *, driver=None, out=None):
    """Singular values of matrices, descending."""
    _no_driver("linalg.svdvals", driver)
    result = svd(A, False)[1] if _wants_gradient(A) else ops.singular_values_of(A)
    return result if out is None else write_out(out, result)


# ---------------------------------------------------------------------------------------------------- diagonals


@op(composite, namespace="linalg", name="diagonal", samples=[real(3, 4), sample(real(2, 3, 4), offset=1)])
def matrix_diagonal(A, *, offset=0, dim1=-2, dim2=-1):
    """Diagonals of matrices, as a view; see `diagonal`."""
    return ops.diagonal(A, offset, dim1, dim2)
