"""The standard's linear algebra: ``array_api.linalg``."""

from __future__ import annotations

from collections import namedtuple

from .. import ops
from ..registry import namespace
from . import statistics
from .promotion import reduced, unified

_ours = namespace("linalg")


def matmul(x1, x2, /):
    """The product of matrices, of stacks of them, or of vectors."""
    return ops.matmul(*unified("matmul", x1, x2))


def matrix_transpose(x, /):
    """The last two axes exchanged."""
    if x.ndim < 2:
        raise ValueError(f"matrix_transpose: needs at least two dimensions, got shape {list(x.shape)}")
    return ops.transpose(x, -2, -1)


def tensordot(x1, x2, /, *, axes=2):
    """Products summed over the last ``axes`` axes of the first and the first of the second, or over pairs of axes."""
    x1, x2 = unified("tensordot", x1, x2)
    dims = axes if isinstance(axes, int) else tuple(list(side) for side in axes)
    return ops.tensordot(x1, x2, dims=dims)


def vecdot(x1, x2, /, *, axis=-1):
    """Products summed over one axis; the other axes broadcast."""
    x1, x2 = unified("vecdot", x1, x2)
    if x1.shape[axis] != x2.shape[axis]:
        raise ValueError(f"vecdot: axis {axis} must have one size, got shapes {list(x1.shape)} and {list(x2.shape)}")
    return ops.matmul(ops.unsqueeze(_last(x1, axis), -2), ops.unsqueeze(_last(x2, axis), -1))[..., 0, 0]


def _last(x, axis):
    return ops.movedim(x, axis, -1)


def cross(x1, x2, /, *, axis=-1):
    """The vector product of vectors of three elements."""
    x1, x2 = unified("cross", x1, x2)
    return _ours["cross"](x1, x2, dim=axis)


def outer(x1, x2, /):
    """All products of an element of the first vector and one of the second."""
    x1, x2 = unified("outer", x1, x2)
    if x1.ndim != 1 or x2.ndim != 1:
        raise ValueError(f"outer: needs vectors, got shapes {list(x1.shape)} and {list(x2.shape)}")
    return ops.outer(x1, x2)


def diagonal(x, /, *, offset=0):
    """The diagonals of the matrices in the last two axes."""
    return ops.diagonal(x, offset, -2, -1)


def trace(x, /, *, offset=0, dtype=None):
    """The sums of the diagonals of the matrices in the last two axes."""
    return statistics.sum(diagonal(x, offset=offset), axis=-1, dtype=dtype)


def matrix_norm(x, /, *, keepdims=False, ord="fro"):
    """The norms of the matrices in the last two axes."""
    return _ours["matrix_norm"](x, ord, (-2, -1), keepdims)


def vector_norm(x, /, *, axis=None, keepdims=False, ord=2):
    """The norms of the vectors along the axes; of all elements by default."""
    return reduced(lambda t, dim, keep: _ours["vector_norm"](t, ord, dim, keep), x, axis, keepdims)


def matrix_power(x, n, /):
    """The matrices multiplied with themselves, ``n`` factors; inverses for negative ``n``."""
    return _ours["matrix_power"](x, n)


def matrix_rank(x, /, *, rtol=None):
    """How many singular values lie above ``rtol`` times the largest."""
    return _ours["matrix_rank"](x, rtol=rtol)


def pinv(x, /, *, rtol=None):
    """The pseudo-inverse; singular values up to ``rtol`` times the largest count as zero."""
    return _ours["pinv"](x, rtol=rtol)


def cholesky(x, /, *, upper=False):
    """The triangular factor of symmetric positive definite matrices."""
    return _ours["cholesky"](x, upper=upper)


def det(x, /):
    """The determinants."""
    return _ours["det"](x)


def inv(x, /):
    """The inverses."""
    return _ours["inv"](x)


def solve(x1, x2, /):
    """The solution X of x1 X = x2; ``x2`` is a vector only if it has one dimension."""
    x1, x2 = unified("solve", x1, x2)
    if 1 < x2.ndim == x1.ndim - 1:  # PyTorch might take it for a stack of vectors
        x2 = ops.unsqueeze(x2, 0)
    return _ours["solve"](x1, x2)


Eigh = namedtuple("Eigh", "eigenvalues eigenvectors")
QR = namedtuple("QR", "Q R")
Slogdet = namedtuple("Slogdet", "sign logabsdet")
SVD = namedtuple("SVD", "U S Vh")


def eigh(x, /):
    """Eigenvalues (ascending) and eigenvectors of symmetric matrices."""
    return Eigh(*_ours["eigh"](x))


def eigvalsh(x, /):
    """Eigenvalues (ascending) of symmetric matrices."""
    return _ours["eigvalsh"](x)


def qr(x, /, *, mode="reduced"):
    """An orthogonal and an upper triangular factor; ``mode`` is "reduced" or "complete"."""
    return QR(*_ours["qr"](x, mode))


def slogdet(x, /):
    """The sign of the determinant and the logarithm of its absolute value."""
    return Slogdet(*_ours["slogdet"](x))


def svd(x, /, *, full_matrices=True):
    """The singular value decomposition x = U diag(S) Vh."""
    return SVD(*_ours["svd"](x, full_matrices))


def svdvals(x, /):
    """The singular values, largest first."""
    return _ours["svdvals"](x)
