"""Matrix functions: pinv, lstsq, matrix_rank, matrix_power, vander, tensorsolve."""

from __future__ import annotations

from math import prod

import numpy as np

from .. import ops
from ..inplace import write_out
from ..registry import composite, contraction, op
from .elimination import SMALL, inv, solution
from .factorize import singular_values, svdvals, symmetric_values
from .samples import definite, positive, real, sample
from .triangles import by_kernel, matrices, one_kind, square, turned


def _eye_like(x):
    """The identity matrix of the size and dtype of ``x``."""
    return ops.eye(x.shape[-1], dtype=x.dtype)


# ---------------------------------------------------------------------------------------------------- pseudo-inverse


def _tolerances(name, A, atol, rtol):
    """(absolute, relative) tolerances below which singular values count as zero."""

    def of(value):
        return getattr(value, "array", value)

    default = np.finfo(A.dtype).eps * max(A.shape[-2:]) if A.size else 0.0
    absolute = np.asarray(0.0 if atol is None else of(atol), A.dtype)[..., None]
    relative = np.where(absolute > 0, 0, default) if rtol is None else np.asarray(of(rtol))[..., None]
    return absolute, relative.astype(A.dtype)


def _inverse_sizes(sizes, absolute, relative):
    """The reciprocals of singular values, 0 for those that count as zero, and which do not."""
    kept = sizes > np.maximum(absolute, relative * sizes.max(-1, keepdims=True, initial=0))
    return np.where(kept, 1 / sizes, 0).astype(sizes.dtype), kept


def _pinv_gradient(g, input, out):
    """Golub and Pereyra (1973), (4.12): the derivative at constant rank."""
    A, P, gt = input, out, turned(g)
    Pt = turned(P)
    if A.shape[-2] <= A.shape[-1]:
        K = ops.matmul(gt, P)
        KPt = ops.matmul(K, Pt)
        inside = KPt - ops.matmul(ops.matmul(A, P), KPt)
        return inside - turned(ops.matmul(P, K)) + ops.matmul(ops.matmul(Pt, P), gt - ops.matmul(K, A))
    K = ops.matmul(P, gt)
    PtK = ops.matmul(Pt, K)
    inside = PtK - ops.matmul(ops.matmul(PtK, P), A)
    return inside - turned(ops.matmul(K, P)) + ops.matmul(gt - ops.matmul(A, K), ops.matmul(P, Pt))


@op(contraction, namespace="internal", vjp=[_pinv_gradient],
    samples=[sample(definite(3, 3), atol=None, rtol=None, hermitian=False)])  # fmt: skip
def pseudo_inverse(input, *, atol, rtol, hermitian):
    """Moore-Penrose inverse; singular values up to max(atol, rtol * largest) count as zero."""
    matrices("linalg.pinv", input, squares=hermitian)
    if hermitian:
        values, V = symmetric_values(input, vectors=True)
        sizes, U, Vh = np.abs(values), V * np.sign(values)[..., None, :], np.swapaxes(V, -1, -2)
    else:
        U, sizes, Vh = singular_values(input, vectors=True)
    inverse, _ = _inverse_sizes(sizes, *_tolerances("linalg.pinv", input, atol, rtol))
    return Vh.mT @ (inverse[..., None] * U.mT)


@op(composite, namespace="linalg", samples=[real(3, 4), sample(real(4, 3)), sample(definite(3, 3), hermitian=True)])
def pinv(A, rcond=None, hermitian=False, *, atol=None, rtol=None, out=None):
    """Moore-Penrose inverse.

    Singular values up to max(atol, rtol * largest) count as zero; ``rtol`` is by default eps * max(rows, columns), or 0
    where ``atol`` is given.
    """
    rtol = rcond if rtol is None else rtol
    result = pseudo_inverse(A, atol=atol, rtol=rtol, hermitian=hermitian)
    return result if out is None else write_out(out, result)


@op(composite, samples=[real(3, 4)])
def pinverse(input, rcond=1e-15):
    """Moore-Penrose inverse; see `linalg.pinv`."""
    return pinv(input, rcond)


@op(contraction, namespace="internal", samples=[sample(real(3, 4), atol=None, rtol=None, hermitian=False)])
def numerical_rank(input, *, atol, rtol, hermitian):
    """How many singular values exceed max(atol, rtol * largest)."""
    matrices("linalg.matrix_rank", input, squares=hermitian)
    if 0 in input.shape[-2:]:
        return np.zeros(input.shape[:-2], np.int64)
    sizes = np.abs(symmetric_values(input)[0]) if hermitian else singular_values(input)[1]
    absolute, relative = _tolerances("linalg.matrix_rank", input, atol, rtol)
    return np.count_nonzero(sizes > np.maximum(absolute, relative * sizes.max(-1, keepdims=True)), axis=-1)


@op(composite, namespace="linalg", samples=[real(3, 4)])
def matrix_rank(A, tol=None, hermitian=False, *, atol=None, rtol=None, out=None):
    """Numerical rank: how many singular values exceed max(atol, rtol * largest); the defaults are those of `pinv`."""
    if tol is not None:
        atol, rtol = tol, 0.0
    result = numerical_rank(A, atol=atol, rtol=rtol, hermitian=hermitian)
    return result if out is None else write_out(out, result)


# ---------------------------------------------------------------------------------------------------- powers


@op(composite, aliases=["linalg.matrix_power"],
    samples=[sample(definite(3, 3), 3), sample(definite(2, 3, 3), -2), sample(definite(3, 3), 0)])  # fmt: skip
def matrix_power(input, n, *, out=None):
    """``n``-th power of square matrices by repeated squaring; of the inverse for negative ``n``."""
    square("linalg.matrix_power", input)
    if n == 0:
        result = ops.where(np.ones(input.shape, bool), _eye_like(input), input)  # a part of the graph, with gradient 0
    else:
        base, result, n = (input if n > 0 else inv(input)), None, abs(n)
        while n:
            if n & 1:
                result = base if result is None else ops.matmul(result, base)
            n >>= 1
            base = ops.matmul(base, base) if n else base
    return result if out is None else write_out(out, result)


# ----------------------------------------------------------------------------------------------- tensors, least squares


@op(composite, namespace="linalg", samples=[sample(real(2, 3, 6), ind=2), sample(real(6, 2, 3), ind=1)])
def tensorinv(A, ind=2, *, out=None):
    """The inverse of ``A`` for `tensordot`, taken as a square matrix of its first ``ind`` dims times the rest."""
    if not 0 < ind <= A.ndim or prod(A.shape[:ind]) != prod(A.shape[ind:]):
        raise RuntimeError(f"linalg.tensorinv: ind must split shape {list(A.shape)} into two halves of equal size, "
                           f"got ind={ind}")  # fmt: skip
    size = prod(A.shape[ind:])
    result = ops.reshape(inv(ops.reshape(A, (size, size))), (*A.shape[ind:], *A.shape[:ind]))
    return result if out is None else write_out(out, result)


@op(composite, namespace="linalg", samples=[sample(real(2, 3, 6), real(2, 3))])
def tensorsolve(A, B, dims=None, *, out=None):
    """X with tensordot(A, X, X.ndim) = B; the dims ``dims`` of ``A`` are moved to the end first."""
    if dims is not None:
        A = ops.movedim(A, tuple(dims), tuple(range(A.ndim - len(dims), A.ndim)))
    rest = tuple(A.shape[B.ndim :])
    if prod(rest) != prod(A.shape[: B.ndim]):
        raise RuntimeError(f"linalg.tensorsolve: A {list(A.shape)} is not square over the dims of B {list(B.shape)}")
    size = prod(rest)
    result = ops.reshape(solution(ops.reshape(A, (size, size)), ops.reshape(B, (size,)), vector=True), rest)
    return result if out is None else write_out(out, result)


def _vander_gradient(g, out):
    """The sum of k x^(k - 1) g_k over the powers."""
    count = out.shape[-1]
    return ops.matmul(g[..., 1:] * out[..., : count - 1], ops.arange(1, count, dtype=out.dtype))


@op(contraction, namespace="internal", vjp=[_vander_gradient], samples=[sample(positive(3), count=4)])
def powers(x, *, count):
    """Powers 0 to ``count - 1`` of each element along a new last dim; error: k roundings at most."""
    out = np.empty((*x.shape, count), x.dtype)
    out[..., 0], known = 1, 1
    factor = x[..., None]
    while known < count:  # x^known times all powers known by now
        more = min(known, count - known)
        np.multiply(out[..., :more], factor, out[..., known : known + more])
        known, factor = known + more, factor * factor
    return out


@op(composite, namespace="linalg", samples=[positive(3), sample(positive(2, 3), N=4)])
def vander(x, *, N=None):
    """Vandermonde matrices: powers 0 to N - 1 of each element along a new last dim; N: by default its size."""
    x = ops.reshape(x, (1,)) if x.ndim == 0 else x
    count = x.shape[-1] if N is None else N
    if count <= 1:
        raise RuntimeError(f"linalg.vander: N must be greater than 1, got {count}")
    return ops.powers(x, count=count)


def _normal_gradient(g, A, R, out, needs):
    """Y = (A^T A)^-1 B: B's is Z = (A^T A)^-1 G, and A's is -A (Z Y^T + Y Z^T)."""
    gB = ops.solve_normal(A, g, R)
    if not needs[0]:
        return None, gB, None
    product = ops.matmul(gB, turned(out))
    return -ops.matmul(A, product + turned(product)), gB, None


@op(contraction, namespace="internal", promote=False, vjp=_normal_gradient,
    samples=[sample(definite(3, 3), real(3, 1), None)])  # fmt: skip
def solve_normal(A, B, R):
    """Y with A^T A @ Y = B, where R, upper triangular, has R^T R = A^T A, or is None."""
    if R is None:
        return np.linalg.solve(A.mT @ A, B)
    return by_kernel("triangular:solve_cholesky", B, R, upper=True)


def _least_squares_gradient(gs, A, B, X, R, rcond, needs):
    """With full rank Y = (A^T A)^-1 G: A Y for B, (B - A X) Y^T - A Y X^T for A; else by the pseudo-inverse."""
    g = gs[0]
    if g is None:
        return None, None
    if R is None:
        P = ops.pseudo_inverse(A, atol=None, rtol=rcond, hermitian=False)
        gA = _pinv_gradient(ops.matmul(g, turned(B)), A, P) if needs[0] else None
        return gA, ops.matmul(turned(P), g)
    Y = ops.solve_normal(A, g, R)
    gB = ops.matmul(A, Y)
    rest = ops.matmul(B - ops.matmul(A, X), turned(Y)) if needs[0] else None
    return None if rest is None else rest - ops.matmul(gB, turned(X)), gB


@op(contraction, namespace="internal", outputs="X rank", hidden=("R",), vjp=_least_squares_gradient,
    samples=[sample(real(4, 3), real(4, 2), rcond=None), sample(real(2, 3, 4), real(3, 2), rcond=None)])  # fmt: skip
def least_squares(A, B, *, rcond):
    """(X of smallest norm that minimises |A @ X - B|, rank of A).

    By reflections where the factor R shows that A has full rank (its singular values are at least 1 / |R^-1| and at
    most |R|), else by singular values, of which those up to ``rcond`` times the largest are 0.
    """
    matrices("linalg.lstsq", A)
    rows, columns = A.shape[-2:]
    absolute, relative = _tolerances("linalg.lstsq", A, None, rcond)
    if rows >= columns and A.size >= SMALL and B.size:
        batch = np.broadcast_shapes(A.shape[:-2], B.shape[:-2])
        both = [np.broadcast_to(x, (*batch, *x.shape[-2:])) for x in (A, B)]
        R, beside = by_kernel("householder:eliminate_beside", *both)
        inverse = by_kernel("triangular:invert_triangle", R)
        condition = np.sqrt(np.square(R).sum((-2, -1)) * np.square(inverse).sum((-2, -1)))
        if (condition * relative[..., 0] < 1).all():
            X = by_kernel("triangular:solve_triangle", R, beside[..., :columns, :], upper=True, unit=False)
            return X, np.full(A.shape[:-2], columns, np.int64), R
    U, sizes, Vh = singular_values(A, vectors=True)
    inverse, kept = _inverse_sizes(sizes, absolute, relative)
    return Vh.mT @ (inverse[..., None] * (U.mT @ B)), np.count_nonzero(kept, axis=-1), None


@op(composite, out=True, namespace="linalg", outputs="solution residuals rank singular_values",
    samples=[sample(real(4, 3), real(4, 2)), sample(real(3, 4), real(3, 2))])  # fmt: skip
def lstsq(A, B, rcond=None, *, driver=None):
    """Least squares: X of smallest norm that minimises |A @ X - B|, as (solution, residuals, rank, singular_values).

    ``residuals`` are filled where A has more rows than columns and full rank, except for driver "gelsy", the default;
    ``rank`` except for "gels"; ``singular_values`` for "gelsd" and "gelss". Singular values up to ``rcond`` times the
    largest are 0.
    """
    if driver not in (None, "gels", "gelsy", "gelsd", "gelss"):
        raise RuntimeError(f"linalg.lstsq: driver must be one of gels, gelsy, gelsd, gelss, got {driver!r}")
    one_kind("linalg.lstsq", A, B)
    vector = A.ndim == B.ndim + 1
    right = ops.unsqueeze(B, -1) if vector else B
    if A.ndim < 2 or right.ndim < 2 or right.shape[-2] != A.shape[-2]:
        raise RuntimeError(f"linalg.lstsq: shapes A {list(A.shape)} and B {list(B.shape)} do not fit together")
    X, rank = ops.least_squares(A, right, rcond=rcond)
    rows, columns = A.shape[-2:]
    full = rows > columns and driver not in (None, "gelsy") and bool(ops.all(rank == columns))
    nothing = ops.reshape(X, (-1,))[:0]  # a part of the graph, as in PyTorch
    residuals = ops.sum(ops.pow(ops.matmul(A, X) - right, 2), -2) if full else nothing
    values = svdvals(A) if driver in ("gelsd", "gelss") else nothing
    rank = rank if driver != "gels" else ops.reshape(rank, (-1,))[:0]
    return lstsq.record.outputs(ops.squeeze(X, -1) if vector else X, residuals, rank, values)
