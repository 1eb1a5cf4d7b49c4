"""Norms of vectors and matrices: linalg.norm and its kin, renorm."""

from __future__ import annotations

from math import inf

import numpy as np

from .. import ops
from ..inplace import write_out
from ..registry import Kernel, arithmetic, composite, op, reduction
from ..shapes import normalize_dim, normalize_dims, numpy_dtype
from ..tensor import Tensor
from .pointwise import one_loop
from .reduce import ALL, add_reduce, all_dims, need_float, restore
from .samples import definite, distinct, positive, real, sample

# ---------------------------------------------------------------------------------------------------- vectors


def reduce_norm(x, ord, dim, keepdim):
    """The norm of order ``ord`` of an array over the dims ``dim``."""
    if ord == 2:
        return np.sqrt(add_reduce(x * x, dim, keepdim, x.dtype))
    if ord == 0:
        return add_reduce(x != 0, dim, keepdim, x.dtype)
    x = np.abs(x)
    if ord in (inf, -inf):
        return (np.maximum if ord > 0 else np.minimum).reduce(x, axis=dim, keepdims=keepdim)
    if ord == 1:
        return add_reduce(x, dim, keepdim, x.dtype)
    return add_reduce(x**ord, dim, keepdim, x.dtype) ** (1 / ord)


def norm_gradient(g, input, out, ord, dim, keepdim):
    """sign(x) |x|^(ord-1) / norm^(ord-1); 0 where the norm is 0; the extremes share evenly among ties."""
    if ord == 0:
        return ops.zeros_like(input)
    g, out = restore(g, dim, keepdim, input.ndim), restore(out, dim, keepdim, input.ndim)
    if ord == 1:
        return _signs(input, g)
    if ord in (inf, -inf):
        extreme = ops.logical_or(ops.abs(input) == out, ops.isnan(input))
        share = g / ops.to(ops.sum(extreme, dim, True), dtype=g.dtype)
        return ops.sign(input) * share * ops.to(extreme, dtype=g.dtype)
    if ord == 2:
        return _directions(input, out, g)
    share = g * ops.pow(out, 1 - ord) if ord < 1 else ops.where(out == 0, 0, g / ops.pow(out, ord - 1))
    return _powers(input, share, ord)


@one_loop
def _signs(input, g):
    return g * ops.sign(input)


@one_loop
def _directions(input, out, g):
    return g * ops.where(out == 0, 0, input / out)


@one_loop
def _powers(input, share, ord):
    if ord < 1:
        return ops.sign(input) * ops.where(input == 0, 0, ops.pow(ops.abs(input), ord - 1)) * share
    if ord < 2:
        return ops.sign(input) * ops.pow(ops.abs(input), ord - 1) * share
    return input * ops.pow(ops.abs(input), ord - 2) * share


def _vector_norm_settings(arrays, settings):
    ord, dtype, kind = float(settings["ord"]), settings["dtype"], arrays[0].dtype
    need_float("linalg.vector_norm", kind)
    dim = ALL[arrays[0].ndim] if settings["dim"] is None else all_dims(settings["dim"], arrays[0].ndim)
    if arrays[0].size == 0 and (ord < 0 or ord == inf) and 0 in [arrays[0].shape[d] for d in dim] + [1] * (not dim):
        raise RuntimeError(f"linalg.vector_norm: the norm of order {ord} of nothing is not defined, got shape "
                           f"{list(arrays[0].shape)}")  # fmt: skip
    if dtype is not None:
        dtype = numpy_dtype(dtype)
        need_float("linalg.vector_norm", dtype)
        if dtype.itemsize < kind.itemsize:
            raise RuntimeError(f"linalg.vector_norm: dtype must not be narrower than the input's {kind}, got {dtype}")
    return {"ord": ord, "dim": dim, "keepdim": settings["keepdim"], "dtype": dtype}


@op(reduction, namespace="linalg", signature="x, ord=2, dim=None, keepdim=False, *, dtype=None",
    prepare=_vector_norm_settings, kernel=Kernel("norms:vector_norm", above=4096),
    vjp=[lambda g, x, out, ord, dim, keepdim: norm_gradient(g, x, out, ord, dim, keepdim)],
    samples=[real(3, 4), sample(real(3, 4), 1, 1), sample(distinct(3, 4), inf, 0),
             sample(real(3, 4), 3.5, (0, 1), True),
             sample(real(3, 4), 0), sample(distinct(3, 4), -inf), sample(real(3, 4), 0.5, -1),
             sample(real(3, 4), 1.5)])  # fmt: skip
def vector_norm(x, *, ord, dim, keepdim, dtype):
    """(sum |x|^ord)^(1/ord) over ``dim`` (all by default); ±inf: largest, smallest |x|; 0: how many are not zero."""
    return reduce_norm(x if dtype is None else x.astype(dtype), ord, dim, keepdim)


# ---------------------------------------------------------------------------------------------------- matrices


def _matrix_dims(name, A, dim):
    if not isinstance(dim, (tuple, list)) or len(dim) != 2:
        raise RuntimeError(f"{name}: dim must be a pair of ints, got {dim}")
    if A.ndim < 2:
        raise RuntimeError(f"{name}: the input must have at least 2 dimensions, got shape {list(A.shape)}")
    return normalize_dims(dim, A.ndim)


def _extreme(x, dim, ord):
    """The largest (for negative ``ord`` the smallest) value along ``dim``; the largest of nothing is 0."""
    if ord < 0:
        return ops.amin(x, dim)
    return ops.amax(x, dim) if x.shape[dim] else ops.sum(x, dim)


def _kept(x, dim, keepdim):
    """A norm of matrices with the two dims back as size 1 where they are to be kept."""
    first, second = sorted(dim)
    return ops.unsqueeze(ops.unsqueeze(x, first), second) if keepdim else x


@op(composite, namespace="linalg",
    samples=[real(3, 4), sample(real(2, 3, 4), "nuc"), sample(real(3, 4), inf), sample(real(3, 4), -1),
                                            sample(real(3, 4), 2), sample(real(3, 4), "nuc", (0, 1), True),
                                            sample(real(2, 3, 4), "fro", (0, 2), True)])  # fmt: skip
def matrix_norm(A, ord="fro", dim=(-2, -1), keepdim=False, *, dtype=None, out=None):
    """Norm of matrices.

    ``ord``: "fro" sqrt(sum x²), "nuc" sum of singular values, ±2 the largest (smallest) of them, ±1 and ±inf the
    largest (smallest) sum of |x| in a column or row.
    """
    dim = _matrix_dims("linalg.matrix_norm", A, dim)
    need_float("linalg.matrix_norm", A.array.dtype if isinstance(A, Tensor) else np.dtype(A.dtype))
    if dtype is not None:
        A = ops.to(A, dtype=dtype)
    if ord == "fro":
        result = vector_norm(A, 2, dim, keepdim)
    elif ord in ("nuc", 2, -2):
        from .factorize import svdvals

        values = svdvals(ops.movedim(A, dim, (-2, -1)))
        result = _kept(ops.sum(values, -1) if ord == "nuc" else _extreme(values, -1, ord), dim, keepdim)
    elif ord in (1, -1, inf, -inf):
        summed, other = dim if abs(ord) == 1 else dim[::-1]
        sums = ops.sum(ops.abs(A), summed)
        result = _kept(_extreme(sums, other - (other > summed), ord), dim, keepdim)
    else:
        raise RuntimeError(f"linalg.matrix_norm: ord must be 'fro', 'nuc', 1, -1, 2, -2, inf or -inf, got {ord!r}")
    return result if out is None else write_out(out, result)


@op(composite, namespace="linalg", name="norm",
    samples=[real(3, 4), sample(real(3, 4), 1, 1), sample(real(3, 4), "nuc")])  # fmt: skip
def linalg_norm(A, ord=None, dim=None, keepdim=False, *, out=None, dtype=None):
    """Norm of vectors or matrices.

    Without ``ord`` the 2-norm of all elements; with a pair of dims, or a matrix, `matrix_norm`; else `vector_norm`.
    """
    pair = isinstance(dim, (tuple, list)) and len(dim) == 2
    if isinstance(ord, str) and not (pair or (dim is None and A.ndim == 2)):
        raise RuntimeError(f"linalg.norm: ord={ord!r} needs a matrix or a pair of dims, got shape {list(A.shape)} "
                           f"and dim={dim}")  # fmt: skip
    if ord is not None and dim is None and A.ndim > 2:
        raise RuntimeError("linalg.norm: without dim the input must be a vector or a matrix when ord is given, got "
                           f"shape {list(A.shape)}")  # fmt: skip
    if ord is not None and (pair or (dim is None and A.ndim == 2)):
        result = matrix_norm(A, ord, tuple(dim) if pair else (-2, -1), keepdim, dtype=dtype)
    else:
        result = vector_norm(A, 2 if ord is None else ord, dim, keepdim, dtype=dtype)
    return result if out is None else write_out(out, result)


@op(composite,
    samples=[real(3, 4), sample(real(3, 4), 1), sample(real(3, 4), "fro", 1, True),
             sample(real(3, 4), "nuc")])  # fmt: skip
def norm(input, p="fro", dim=None, keepdim=False, out=None, dtype=None):
    """Norm of the elements over ``dim``, of order ``p`` (2 for "fro"); "nuc": the sum of a matrix's singular values."""
    if p == "nuc":
        result = matrix_norm(input, "nuc", (-2, -1) if dim is None and input.ndim == 2 else dim, keepdim, dtype=dtype)
    elif isinstance(p, str) and p != "fro":
        raise RuntimeError(f"norm: p must be a number, 'fro' or 'nuc', got {p!r}")
    else:
        result = vector_norm(input, 2 if p in ("fro", None) else p, dim, keepdim, dtype=dtype)
    return result if out is None else write_out(out, result)


@op(composite, namespace="linalg", samples=[definite(3, 3), sample(definite(2, 3, 3), "fro"), sample(real(3, 4))])
def cond(A, p=None, *, out=None):
    """Condition number: largest by smallest singular value, or norm(A) norm(A^-1) for a norm ``p`` other than 2."""
    from .factorize import svdvals
    from .linalg import inv

    if A.ndim < 2:
        raise RuntimeError(f"linalg.cond: the input must have at least 2 dimensions, got shape {list(A.shape)}")
    if 0 in A.shape:
        result = ops.sum(A, (-2, -1))
    elif p in (None, 2, -2):
        values = svdvals(A)
        top, bottom = values[..., 0], values[..., -1]
        result = bottom / top if p == -2 else top / bottom
    else:
        result = matrix_norm(A, p) * matrix_norm(inv(A), p)
    return result if out is None else write_out(out, result)


@op(arithmetic, namespace="internal", out=False, scalar="maxnorm / (norms + 1e-7) if norms > maxnorm else 1",
    vjp=[lambda g, norms, out, maxnorm: ops.where(norms > maxnorm, -g * out / (norms + 1e-7), 0)],
    samples=[sample(positive(3, 1), maxnorm=1.0)])  # fmt: skip
def shortening(norms, *, maxnorm):
    """What scales a vector down to the norm ``maxnorm`` where its norm is above that."""
    return np.where(norms > maxnorm, maxnorm / (norms + 1e-7), 1)


@op(composite, out=True, inplace=True, samples=[sample(real(3, 4), 2, 0, 1.0), sample(real(3, 4), 1, -1, 0.5)])
def renorm(input, p, dim, maxnorm):
    """The slices along ``dim`` whose ``p``-norm exceeds ``maxnorm`` scaled down to it."""
    if input.ndim < 2 or p <= 0 or maxnorm < 0:
        raise RuntimeError("renorm: the input must have 2 dimensions or more, p > 0 and maxnorm >= 0, "
                           f"got shape {list(input.shape)}, p={p}, maxnorm={maxnorm}")  # fmt: skip
    dim = normalize_dim(dim, input.ndim)
    norms = vector_norm(input, p, tuple(d for d in range(input.ndim) if d != dim), True)
    return input * ops.shortening(norms, maxnorm=maxnorm)
