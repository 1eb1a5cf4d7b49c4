"""Distances between vectors: of pairs (pairwise_distance, dist, cosine_similarity) and of all pairs (cdist, pdist)."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..registry import Kernel, composite, elementwise, op, reduction
from ..shapes import broadcast_shapes, promote
from ..tensor import Tensor
from .norms import norm_gradient, reduce_norm, vector_norm
from .pointwise import one_loop, steered
from .reduce import need_float
from .samples import positive, real, sample
from .second_order import gradient_of

USE_MM = "use_mm_for_euclid_dist_if_necessary"


def _kind(x):
    return x.array.dtype if isinstance(x, Tensor) else np.dtype(x.dtype)


# ---------------------------------------------------------------------------------------------------- of two


@one_loop
def _direction(x1, x2, out, g, eps):
    return g * ops.where(out == 0, 0, (x1 - x2 + eps) / out)


def _distance_gradient(g, x1, x2, out, p, eps, axes, keepdim):
    ndim = max(x1.ndim, x2.ndim)
    if p == 2:
        out, g = [y if keepdim or not axes else ops.reshape(y, (*y.shape, *[1] * axes)) for y in (out, g)]
        slope = _direction(x1, x2, out, g, eps)
    else:
        slope = norm_gradient(g, x1 - x2 + eps, out, p, tuple(range(ndim - axes, ndim)), keepdim)
    return slope, -slope


@op(reduction, namespace="internal", promote=promote, kernel=Kernel("norms:distance", above=4096),
    vjp=lambda g, x1, x2, out, p, eps, axes, keepdim: _distance_gradient(g, x1, x2, out, p, eps, axes, keepdim),
    samples=[sample(real(3, 4), real(3, 4), p=2.0, eps=1e-6, axes=1, keepdim=True),
             sample(real(3, 4), real(4), p=3.0, eps=0.0, axes=2, keepdim=False)])  # fmt: skip
def distance(x1, x2, *, p, eps, axes, keepdim):
    """The ``p``-norm of x1 - x2 + eps over the last ``axes`` dimensions."""
    difference = x1 - x2
    if eps:
        difference += eps
    return reduce_norm(difference, p, tuple(range(difference.ndim - axes, difference.ndim)), keepdim)


@op(composite, aliases=["nn.functional.pairwise_distance"], method=False,
    samples=[sample(real(3, 4), real(3, 4)), sample(real(3, 4), real(4), 1.0, keepdim=True)])  # fmt: skip
def pairwise_distance(x1, x2, p=2.0, eps=1e-6, keepdim=False):
    """The ``p``-norm of x1 - x2 + eps along the last dim."""
    if steered() or _kind(x1).char not in "fd" or not (x1.ndim or x2.ndim) or 0 in (*x1.shape, *x2.shape):
        return ops.norm(x1 - x2 + eps, p, -1, keepdim)
    return ops.distance(x1, x2, p=float(p), eps=eps, axes=1, keepdim=keepdim)


@op(composite, samples=[sample(real(3, 4), real(3, 4)), sample(real(3, 4), real(4), 1)])
def dist(input, other, p=2):
    """The ``p``-norm of input - other, over all elements."""
    if steered() or _kind(input).char not in "fd" or 0 in (*input.shape, *other.shape):
        return vector_norm(input - other, p)
    return ops.distance(input, other, p=float(p), eps=0.0, axes=max(input.ndim, other.ndim), keepdim=False)


@one_loop
def _combined(x, y, a, b):
    return a * x + b * y


def _products_gradient(gs, x1, x2):
    product, first, second = [0 if g is None else ops.unsqueeze(g, -1) for g in gs]
    return _combined(x2, x1, product, 2 * first), _combined(x1, x2, product, 2 * second)


@op(reduction, namespace="internal", promote=promote, outputs="product first second",
    kernel=Kernel("norms:inner_products", above=4096), vjp=lambda gs, x1, x2: _products_gradient(gs, x1, x2),
    samples=[sample(real(3, 4), real(3, 4))])  # fmt: skip
def products_of_rows(x1, x2):
    """The sums x1 . x2, x1 . x1 and x2 . x2 along the last dim, of arrays of one shape."""
    return np.add.reduce(x1 * x2, -1), np.add.reduce(x1 * x1, -1), np.add.reduce(x2 * x2, -1)


def inner_products(x1, x2, dim):
    """The sums x1 . x2, x1 . x1 and x2 . x2 along ``dim``, of tensors of one shape."""
    if dim in (-1, x1.ndim - 1) and _kind(x1).char in "fd" and not steered():
        return ops.products_of_rows(x1, x2)
    return ops.sum(x1 * x2, dim), ops.sum(x1 * x1, dim), ops.sum(x2 * x2, dim)


@op(elementwise, namespace="internal", out=False, scalar="sqrt(input)", samples=[positive(3, 4)],
    vjp=[lambda g, out: ops.where(out == 0, 0, 0.5 * g / out)])  # fmt: skip
def length_of(input):
    """Square root of a sum of squares; where all of these are zero the gradient is, too."""
    return np.sqrt(input)


@op(composite, aliases=["nn.functional.cosine_similarity"], method=False,
    samples=[sample(real(3, 4), real(3, 4)), sample(real(2, 3, 4), real(3, 1), -2)])  # fmt: skip
def cosine_similarity(x1, x2, dim=1, eps=1e-8):
    """The cosine of the angle between vectors along ``dim``: x1 . x2 / (max(|x1|, eps) * max(|x2|, eps))."""
    shape = broadcast_shapes(x1.shape, x2.shape)
    x1, x2 = [x if tuple(x.shape) == shape else ops.expand(x, shape) for x in (x1, x2)]
    product, first, second = inner_products(x1, x2, dim)
    first, second = [ops.raised_to(ops.length_of(x), least=eps) for x in (first, second)]
    return product / first / second


# ---------------------------------------------------------------------------------------------------- of all pairs


def _all_differences(x1, x2):
    return ops.unsqueeze(x1, -2) - ops.unsqueeze(x2, -3)


def _slopes(g, differences, out, p):
    """The gradient in the differences along the last dim; of equal largest ones each gets all, as in PyTorch."""
    if p == np.inf:
        return np.where(np.abs(differences) == out[..., None], np.sign(differences) * g[..., None], 0)
    return norm_gradient(g, differences, out, p, (g.ndim,), False)


def _much(x1, x2, **_):
    return x1.size * x2.shape[-2] >= MUCH


MUCH = 16384
"""Differences from which on a kernel is faster than NumPy."""


@op(reduction, namespace="internal", promote=promote, kernel=Kernel("distances:cdist", above=1, when=_much),
    vjp=lambda g, x1, x2, out, p, needs: ops.pair_gradients(g, x1, x2, out, p=p, needs=needs),
    samples=[sample(real(3, 4), real(2, 4), p=2.0, product=True),
             sample(real(2, 3, 4), real(2, 2, 4), p=1.0, product=False)])  # fmt: skip
def pair_distances(x1, x2, *, p, product):
    """The ``p``-norms of all differences of rows of ``x1`` (..., P, M) and of ``x2`` (..., R, M), as (..., P, R).

    ``product`` allows to multiply matrices instead where that is as accurate.
    """
    return reduce_norm(_all_differences(x1, x2), p, (-1,), False)


@op(reduction, namespace="internal", vjp=(), outputs="first second",
    kernel=Kernel("distances:cdist_backward", above=1, by=1, when=lambda g, x1, x2, out, **_: _much(x1, x2)),
    composite=lambda g, x1, x2, out, p, needs: gradient_of(
        lambda x, y: vector_norm(_all_differences(x, y), p, -1), (g,), (x1, x2), needs),
    samples=[sample(real(3, 2), real(3, 4), real(2, 4), positive(3, 2), p=3.0, needs=(True, True))])  # fmt: skip
def pair_gradients(g, x1, x2, out, *, p, needs):
    """The gradients of `pair_distances` in both matrices, None where not needed."""
    slope = _slopes(g, _all_differences(x1, x2), out, p)
    return np.add.reduce(slope, -2) if needs[0] else None, -np.add.reduce(slope, -3) if needs[1] else None


@op(composite, method=False,
    samples=[sample(real(3, 4), real(2, 4)), sample(real(5, 3, 4), real(2, 4), 1.0),
             sample(real(3, 4), real(2, 4), np.inf)])  # fmt: skip
def cdist(x1, x2, p=2.0, compute_mode=USE_MM):
    """``p``-norm distances between all rows of ``x1`` (..., P, M) and of ``x2`` (..., R, M), as (..., P, R)."""
    if x1.ndim < 2 or x2.ndim < 2 or x1.shape[-1] != x2.shape[-1]:
        raise RuntimeError("cdist: x1 and x2 must have 2 dimensions or more and as many columns, got "
                           f"{list(x1.shape)} and {list(x2.shape)}")  # fmt: skip
    if p < 0:
        raise RuntimeError(f"cdist: p must not be negative, got {p}")
    if compute_mode not in (None, USE_MM, "use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist"):
        raise ValueError(f"cdist: {compute_mode!r} is not a valid value for compute_mode")
    for x in (x1, x2):
        need_float("cdist", _kind(x))
    if not x1.shape[-1]:
        return ops.sum(_all_differences(x1, x2), -1)
    if x1.shape[:-2] != x2.shape[:-2]:
        batch = broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
        x1, x2 = [ops.contiguous(ops.expand(x, (*batch, *x.shape[-2:]))) for x in (x1, x2)]
    return ops.pair_distances(x1, x2, p=float(p), product=compute_mode != "donot_use_mm_for_euclid_dist")


def _differences(input):
    first, second = np.triu_indices(input.shape[0], 1)
    return ops.index_select(input, 0, first) - ops.index_select(input, 0, second)


@op(reduction, namespace="internal", promote=promote,
    kernel=Kernel("distances:pdist", above=1, when=lambda input, p: _much(input, input)),
    vjp=[lambda g, input, out, p: ops.row_gradient(g, input, out, p=p)],
    samples=[sample(real(4, 3), p=2.0), sample(real(4, 3), p=1.0)])  # fmt: skip
def row_distances(input, *, p):
    """The ``p``-norms of the differences of all pairs of rows."""
    return reduce_norm(_differences(input), p, (1,), False)


@op(reduction, namespace="internal", vjp=(),
    kernel=Kernel("distances:pdist_backward", above=1, by=1,
                  when=lambda g, input, out, p: _much(input, input)),
    composite=lambda g, input, out, p: gradient_of(
        lambda x: vector_norm(_differences(x), p, -1), (g,), (input,), (True,))[0],
    samples=[sample(real(6), real(4, 3), positive(6), p=3.0)])  # fmt: skip
def row_gradient(g, input, out, *, p):
    """The gradient of `row_distances`."""
    slope = _slopes(g, _differences(input), out, p)
    first, second = np.triu_indices(input.shape[0], 1)
    found = np.zeros_like(input)
    np.add.at(found, first, slope)
    np.subtract.at(found, second, slope)
    return found


@op(composite, aliases=["nn.functional.pdist"], method=False, samples=[real(4, 3), sample(real(4, 3), 1)])
def pdist(input, p=2.0):
    """The ``p``-norm distances of all pairs of rows of (N, M): (0, 1), (0, 2), ..., (1, 2), ..."""
    if input.ndim != 2:
        raise RuntimeError(f"pdist: input must have 2 dims, got shape {list(input.shape)}")
    if p < 0:
        raise RuntimeError(f"pdist: p must not be negative, got {p}")
    need_float("pdist", _kind(input))
    if not input.shape[1]:
        return ops.norm(_differences(input), p, -1)
    return ops.row_distances(input, p=float(p))
