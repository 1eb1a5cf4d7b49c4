"""Statistics and differences: covariance, histograms, finite differences."""

from __future__ import annotations

import functools
import itertools
from collections import namedtuple
from importlib import import_module

import numpy as np

from .. import ops
from ..registry import arithmetic, composite, op, reduction
from ..shapes import default_dtype, normalize_dim, normalize_dims
from .pointwise import steered
from .reduce import need_float
from .samples import integer, positive, real, sample


def _kind(x):
    """The letter of a Tensor's or an array's kind of type."""
    return np.dtype(getattr(x.dtype, "dtype", x.dtype)).kind


# ---------------------------------------------------------------------------------------------------- covariance


def _weights(name, weights, count, what, kinds):
    if weights is None:
        return
    fits = weights.shape[0] == count if weights.ndim == 1 else weights.ndim == 0 and count == 1
    if not fits or _kind(weights) not in kinds:
        raise RuntimeError(f"cov: {what} must be a vector of {count} {'integers' if kinds == 'iu' else 'floats'}, "
                           f"got {weights.dtype} {list(weights.shape)}")  # fmt: skip
    if bool(ops.any(weights < 0)):
        raise RuntimeError(f"cov: {what} must not be negative")


@op(composite,
    samples=[real(3, 5), sample(real(4)), sample(real(3, 5), correction=0),
             sample(real(2, 4), fweights=np.array([1, 2, 1, 3])),
                        sample(real(2, 4), aweights=positive(4))])  # fmt: skip
def cov(input, *, correction=1, fweights=None, aweights=None):
    """Covariance matrix of variables in rows, with observations in columns.

    ``fweights`` says how often each observation was made, ``aweights`` how much it counts; ``correction`` is taken off
    the number of observations.
    """
    if input.ndim > 2 or _kind(input) == "b":
        raise RuntimeError(f"cov: expected a vector or a matrix of numbers, got {input.dtype} {list(input.shape)}")
    rows = input if input.ndim == 2 else ops.reshape(input, (1, -1))
    count = rows.shape[1]
    _weights("cov", fweights, count, "fweights", "iu")
    _weights("cov", aweights, count, "aweights", "f")
    if _kind(rows) != "f":
        rows = ops.to(rows, dtype=default_dtype())
    weight = fweights if aweights is None else aweights if fweights is None else fweights * aweights
    if weight is None:
        total, centred = count, rows - ops.mean(rows, 1, True)
        weighted = centred
    else:
        total = ops.sum(weight)
        if count and bool(total == 0):
            raise RuntimeError("cov: the weights sum to zero, so they cannot be normalized")
        centred = rows - ops.sum(rows * weight, 1, True) / total
        weighted = centred * weight
    if aweights is not None and correction != 0:
        left = total - correction * ops.sum(weight * aweights) / total
    else:
        left = total - correction
    left = ops.clamp(left, min=0) if hasattr(left, "ndim") else max(left, 0)
    product = ops.matmul(centred, ops.transpose(ops.to(weighted, dtype=centred.dtype), 0, 1)) / left
    return ops.reshape(product, ()) if rows.shape[0] == 1 else product


@op(composite, samples=[real(3, 5), sample(real(4))])
def corrcoef(input):
    """Pearson correlation coefficients of variables in rows: the covariance divided by the standard deviations."""
    if input.ndim > 2:
        raise RuntimeError(f"corrcoef: expected a vector or a matrix, got shape {list(input.shape)}")
    c = cov(input)
    if c.ndim == 0:
        return c / c
    deviation = ops.sqrt(ops.diagonal(c))
    return ops.correlation(c, ops.reshape(deviation, (-1, 1)), deviation)


def _kept(g, c, first, second):
    """The gradient where `correlation` is not cut off."""
    return ops.where(ops.abs(c / first / second) <= 1, g, 0)


@op(arithmetic, namespace="internal", out=False, scalar="min(max(c / first / second, -1), 1)",
    vjp=[lambda g, c, first, second: _kept(g, c, first, second) / first / second,
         lambda g, c, first, second: -_kept(g, c, first, second) * c / first / second / first,
         lambda g, c, first, second: -_kept(g, c, first, second) * c / first / second / second],
    samples=[sample(real(3, 3), positive(3, 1, low=2), positive(3, low=2))])  # fmt: skip
def correlation(c, first, second):
    """c / (first * second), kept between -1 and 1."""
    return np.clip(c / first / second, -1, 1)


# ---------------------------------------------------------------------------------------------------- histograms


def _range(name, values, low, high):
    """The limits of a histogram: those given, else those of the values; a width of zero is widened."""
    if low == high:
        low, high = (values.min(), values.max()) if values.size else (0, 1)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise RuntimeError(f"{name}: range of [{low}, {high}] is not finite")
    if low > high:
        raise RuntimeError(f"{name}: max must be larger than min, got [{low}, {high}]")
    return (low - 1, high + 1) if low == high and name == "histc" else (low, high)


@op(reduction, signature="input, bins=100, min=0, max=0", samples=[sample(real(20), 5), sample(real(20), 4, -1, 1)])
def histc(input, *, bins, min, max):
    """How many elements fall into each of ``bins`` equal parts of [min, max]; equal ends mean the elements' range."""
    if bins < 1:
        raise RuntimeError(f"histc: bins must be > 0, got {bins}")
    low, high = _range("histc", input, min, max)
    found, low, high = np.zeros(bins, np.int64), float(low), float(high)
    for part in _parts(input.reshape(-1)):
        places = part.astype(np.float64)
        inside = (places >= low) & (places <= high)
        places = places if inside.all() else places[inside]
        places -= low
        places *= bins
        places /= high - low
        places = places.astype(np.int64)
        found += np.bincount(np.minimum(places, bins - 1, out=places), minlength=bins)
    return found.astype(input.dtype)


def _parts(values):
    """Pieces of a vector that are small enough to stay in the cache while a few passes go over them."""
    return [values[i : i + PART] for i in range(0, len(values), PART)]


PART = 16384


@op(reduction, signature="input, weights=None, minlength=0", out=False,
    vjp=[None, lambda g, input: ops.index_select(g, 0, input)],
    samples=[integer(6, high=4), sample(integer(6, high=4), None, 8), sample(integer(6, high=4), real(6))])  # fmt: skip
def bincount(input, weights, *, minlength):
    """How often each of 0, 1, 2, ... occurs in a vector of integers, or the sum of its ``weights``.

    The result has max(input) + 1 elements, or ``minlength`` if that is more. Counts are int64, sums float32 for float32
    weights and else float64.
    """
    if minlength < 0:
        raise RuntimeError(f"bincount: minlength must be >= 0, got {minlength}")
    if weights is not None and weights.shape != input.shape:
        raise RuntimeError(f"bincount: weights must have the input's shape {list(input.shape)}, got "
                           f"{list(weights.shape)}")  # fmt: skip
    try:
        if input.ndim != 1 or input.dtype.kind not in "iu":
            raise ValueError
        sums = np.bincount(input.astype(np.int64, copy=False), weights, minlength)
    except ValueError:  # NumPy looks for negative ones in any case
        raise RuntimeError("bincount: input must be a vector of integers >= 0, got "
                           f"{input.dtype} {list(input.shape)}") from None  # fmt: skip
    if weights is None:
        return sums
    return sums.astype(weights.dtype if weights.dtype == np.float32 else np.float64, copy=False)


def _edges(name, column, bins, limits):
    if isinstance(bins, (int, np.integer)):
        if bins < 1:
            raise RuntimeError(f"{name}: bins must be > 0, got {bins}")
        low, high = _range(name, column, 0, 0) if limits is None else limits
        if low > high:
            raise RuntimeError(f"{name}: max should not be less than min, got [{low}, {high}]")
        if low == high:
            low, high = low - 0.5, high + 0.5
        return np.linspace(low, high, bins + 1, dtype=np.float64).astype(column.dtype)
    edges = np.asarray(getattr(bins, "array", bins))
    if edges.ndim != 1 or edges.dtype != column.dtype or not len(edges):
        raise RuntimeError(f"{name}: bin edges must be a vector of the input's dtype {column.dtype}, got "
                           f"{edges.dtype} {list(edges.shape)}")  # fmt: skip
    return edges


def _places(column, edges, even):
    """The bin of each value within the edges; for bins of one width a guess, which the edges at hand put right."""
    last = len(edges) - 2
    if not even:
        return np.minimum(np.searchsorted(edges, column, "right") - 1, last)
    low, high = float(edges[0]), float(edges[-1])
    guess = np.subtract(column, low, dtype=np.float64)
    guess *= (last + 1) / (high - low)
    places = np.clip(guess, 0, last).astype(np.int64)  # NaN is in no bin, but has a place
    places -= column < edges[places]
    places += (column >= edges[places + 1]) & (places < last)
    return places


def _histogram(name, points, bins, limits, weight, density):
    """Counts (or weights) of points (count, dims) in a grid of bins, and its edges; the last bins hold their ends."""
    ends = [None if limits is None else limits[2 * d : 2 * d + 2] for d in range(len(bins))]
    edges = [_edges(name, points[:, d], b, e) for d, (b, e) in enumerate(zip(bins, ends, strict=True))]
    shape = [len(e) - 1 for e in edges]
    even = [isinstance(b, (int, np.integer)) for b in bins]
    weights = itertools.repeat(None) if weight is None else _parts(weight.reshape(-1))
    hist = np.zeros(int(np.prod(shape)), np.int64 if weight is None else np.float64)
    for part, own in zip(_parts(points), weights, strict=False):
        inside, flat = True, np.zeros(len(part), np.int64)
        for d, e in enumerate(edges):
            column = part[:, d]
            if limits is not None or not even[d]:
                inside &= (column >= e[0]) & (column <= e[-1])
            flat *= shape[d]
            flat += _places(column, e, even[d])
        if inside is not True:
            flat, own = flat[inside], None if own is None else own[inside]
        hist += np.bincount(flat, own, minlength=len(hist))
    hist = hist.reshape(shape)
    if density:
        hist = hist / hist.sum()
        for d, e in enumerate(edges):
            hist = hist / np.diff(e).reshape([-1 if k == d else 1 for k in range(len(edges))])
    return hist.astype(points.dtype), edges


@op(reduction, signature="input, bins, *, range=None, weight=None, density=False", outputs="hist bin_edges",
    promote=False,
    samples=[sample(real(20), 5), sample(real(20), 4, range=(-1.0, 1.0), density=True)])  # fmt: skip
def histogram(input, bins, weight, *, range, density):
    """How many elements (or how much ``weight``) fall into each bin, and the edges; ``bins`` are edges, or how many."""
    need_float("histogram", input.dtype)
    if weight is not None and (weight.shape != input.shape or weight.dtype != input.dtype):
        raise RuntimeError(f"histogram: weight must have the input's shape and dtype, got {weight.dtype} "
                           f"{list(weight.shape)}")  # fmt: skip
    hist, (edges,) = _histogram("histogram", input.reshape(-1, 1), [bins], range, weight, density)
    return hist, edges


HistogramDD = namedtuple("HistogramDD", "hist bin_edges")


@op(reduction, namespace="internal", samples=[sample(real(20, 2), None, bins=(3, 4), range=None, density=False)])
def grid_histogram(input, weight, *, bins, range, density):
    """The counts of `histogramdd` and, behind them, the edges of each dimension."""
    hist, edges = _histogram("histogramdd", input.reshape(-1, input.shape[-1]), bins, range, weight, density)
    return (hist, *edges)


@op(composite,
    samples=[sample(real(20, 2), [3, 4]), sample(real(20, 2), 3, range=[-1.0, 1.0, -2.0, 2.0],
             density=True)])  # fmt: skip
def histogramdd(input, bins, *, range=None, weight=None, density=False):
    """Histogram of points whose coordinates are the last dim, as (hist, bin_edges).

    ``bins``: a number for all dims, or for each dim a number or edges. ``range``: lowest and highest edge a dim.
    """
    if input.ndim < 2:
        raise RuntimeError(f"histogramdd: the input must have at least 2 dimensions, got shape {list(input.shape)}")
    dims = input.shape[-1]
    bins = [bins] * dims if isinstance(bins, (int, np.integer)) else list(bins)
    if len(bins) != dims or (range is not None and len(range) != 2 * dims):
        raise RuntimeError(f"histogramdd: expected bins for {dims} dims and a range of {2 * dims} numbers, got "
                           f"{len(bins)} and {range}")  # fmt: skip
    if weight is not None and tuple(weight.shape) != tuple(input.shape[:-1]):
        raise RuntimeError(f"histogramdd: weight must have shape {list(input.shape[:-1])}, got {list(weight.shape)}")
    hist, *edges = grid_histogram(input, weight, bins=tuple(bins), range=range, density=density)
    return HistogramDD(hist, tuple(edges))


# ---------------------------------------------------------------------------------------------------- differences


def _slice(dim, start, stop):
    return (*[slice(None)] * dim, slice(start, stop))


@op(composite, out=True,
    samples=[real(3, 4), sample(real(3, 4), 2, 0), sample(real(3, 4), 1, 1, real(3, 1), real(3, 2)),
             sample(integer(5))])  # fmt: skip
def diff(input, n=1, dim=-1, prepend=None, append=None):
    """Differences of neighbours along ``dim``, ``n`` times over, after ``prepend`` and ``append`` are joined on.

    Of two graphs, ``ag.diff(before, after)``: what was added, removed and changed, see `ag.graph`.
    """
    rank = getattr(input, "ndim", None)
    if rank is None:
        return import_module("autograd_core.seeing.compare").difference(input, n)
    if rank == 0:
        raise RuntimeError("diff: the input must have at least 1 dimension, got a 0-d tensor")
    if n < 0:
        raise RuntimeError(f"diff: n must not be negative, got {n}")
    dim = normalize_dim(dim, rank)
    parts = [part for part in (prepend, input, append) if part is not None]
    for part in parts:
        if part.ndim != rank or any(part.shape[d] != input.shape[d] for d in range(rank) if d != dim):
            raise RuntimeError(f"diff: prepend and append must agree with the input {list(input.shape)} but in dim "
                               f"{dim}, got {list(part.shape)}")  # fmt: skip
    out = parts[0] if len(parts) == 1 else ops.cat(parts, dim)
    if n == 0:
        return ops.clone(input)
    boolean = _kind(out) == "b"
    for _ in range(min(n, out.shape[dim])):
        if boolean or steered():
            after, before = out[_slice(dim, 1, None)], out[_slice(dim, 0, -1)]
            out = ops.logical_xor(after, before) if boolean else after - before
        else:
            out = ops.differences(out, dim=dim)
    return out


@op(reduction, namespace="internal", vjp=[lambda g, dim: ops.differences_backward(g, dim=dim)],
    samples=[sample(real(3, 4), dim=1), sample(real(3, 4), dim=0)])  # fmt: skip
def differences(input, *, dim):
    """What each element along ``dim`` has more than the one before."""
    return ops.sub(input[_slice(dim, 1, None)], input[_slice(dim, 0, -1)])


@op(reduction, namespace="internal", vjp=[lambda g, dim: ops.differences(g, dim=dim)],
    samples=[sample(real(3, 4), dim=1), sample(real(3, 4), dim=0)])  # fmt: skip
def differences_backward(g, *, dim):
    """The gradient of `differences`: that of the difference before, less that of the one behind."""
    found = np.empty((*g.shape[:dim], g.shape[dim] + 1, *g.shape[dim + 1 :]), g.dtype)
    found[_slice(dim, 0, 1)] = 0
    found[_slice(dim, 1, None)] = g
    found[_slice(dim, 0, -1)] -= g
    return found


@op(composite, method=False,
    samples=[real(4), sample(real(4, 5), dim=1, edge_order=2), sample(real(4, 5), spacing=2.0)])  # fmt: skip
def gradient(input, *, spacing=1, dim=None, edge_order=1):
    """Gradient by central differences, one-sided at the ends; one tensor for each of ``dim`` (all by default).

    ``spacing``: one number, one a dim, or the coordinates of each dim. ``edge_order`` 1 or 2: the order at the ends.
    """
    single = hasattr(dim, "__index__")
    count = 1 if single else input.ndim if dim is None else len(dim)
    several = isinstance(spacing, (list, tuple))
    if several and len(spacing) != count:
        raise RuntimeError(f"gradient: expected spacing for {count} dims, got {len(spacing)}")
    if edge_order not in (1, 2):
        raise RuntimeError(f"gradient: edge_order must be 1 or 2, got {edge_order}")
    dims = normalize_dims(dim, input.ndim) if count else ()
    steps = list(spacing) if several else [1 if spacing is None else spacing] * count
    kinds = {hasattr(s, "shape") for s in steps}
    if len(kinds) > 1:
        raise RuntimeError("gradient: spacing must be all numbers or all coordinates, got both")
    out = []
    for d, step in zip(dims, steps, strict=True):
        if input.shape[d] < edge_order + 1:
            raise RuntimeError(f"gradient: dim {d} must have at least {edge_order + 1} elements for "
                               f"edge_order={edge_order}, got {input.shape[d]}")  # fmt: skip
        if hasattr(step, "shape") and tuple(step.shape) not in ((input.shape[d],), ()):
            raise RuntimeError(f"gradient: the coordinates of dim {d} must be a vector of {input.shape[d]}, got "
                               f"{list(step.shape)}")  # fmt: skip
        if type(step) in (int, float) and step and not steered():
            values = input if _kind(input) == "f" else ops.to(input, dtype=default_dtype())
            out.append(ops.slopes(values, dim=d, step=step, edge_order=edge_order))
        else:
            out.append(_slope(input, d, step, edge_order))
    return tuple(out)


@op(reduction, namespace="internal",
    vjp=[lambda g, dim, step, edge_order: ops.slopes_backward(g, dim=dim, step=step, edge_order=edge_order)],
    samples=[sample(real(3, 5), dim=1, step=2, edge_order=1),
             sample(real(3, 5), dim=0, step=0.5, edge_order=2)])  # fmt: skip
def slopes(input, *, dim, step, edge_order):
    """Central differences along ``dim`` over twice the ``step``; at the ends one-sided ones of that order."""
    found, at = np.empty_like(input), functools.partial(_slice, dim)
    inner = np.subtract(input[at(2, None)], input[at(0, -2)], out=found[at(1, -1)])
    inner /= 2 * step
    found[at(0, 1)] = (input[at(1, 2)] - input[at(0, 1)]) / step
    found[at(-1, None)] = (input[at(-1, None)] - input[at(-2, -1)]) / step
    if edge_order == 2:
        found[at(0, 1)] += (found[at(0, 1)] - (input[at(2, 3)] - input[at(1, 2)]) / step) / 2
        found[at(-1, None)] += (found[at(-1, None)] - (input[at(-2, -1)] - input[at(-3, -2)]) / step) / 2
    return found


@op(reduction, namespace="internal",
    vjp=[lambda g, dim, step, edge_order: ops.slopes(g, dim=dim, step=step, edge_order=edge_order)],
    samples=[sample(real(3, 5), dim=1, step=2, edge_order=1),
             sample(real(3, 5), dim=0, step=0.5, edge_order=2)])  # fmt: skip
def slopes_backward(g, *, dim, step, edge_order):
    """The gradient of `slopes`: each slope pulls at the two or three elements that it was made of."""
    found, at = np.zeros_like(g), functools.partial(_slice, dim)
    inner = g[at(1, -1)] / (2 * step)
    found[at(2, None)] = inner
    found[at(0, -2)] -= inner
    first, last = g[at(0, 1)] / step, g[at(-1, None)] / step
    for places, one, sign in (((0, 1, 2), first, 1), ((-1, -2, -3), last, -1)):
        for place, factor in zip(places, (-1.5, 2, -0.5) if edge_order == 2 else (-1, 1), strict=False):
            found[at(place, place + 1 or None)] += sign * factor * one
    return found


def _slope(x, dim, step, edge_order):
    """Finite differences along one dim, for coordinates or a step that is a tensor."""
    size, column = x.shape[dim], (-1, *[1] * (x.ndim - 1 - dim))
    if hasattr(step, "shape") and step.ndim == 1:
        widths = ops.reshape(diff(step), column)
    else:
        kind = np.dtype(getattr(x.dtype, "dtype", x.dtype)) if _kind(x) == "f" else default_dtype()
        widths = np.ones((size - 1, *column[1:]), kind) * step
    steps = (x[_slice(dim, 1, None)] - x[_slice(dim, 0, -1)]) / widths
    left, right = widths[:-1], widths[1:]
    inner = (steps[_slice(dim, 0, -1)] * right + steps[_slice(dim, 1, None)] * left) / (left + right)
    first, last = steps[_slice(dim, 0, 1)], steps[_slice(dim, size - 2, size - 1)]
    if edge_order == 2:
        second, before = steps[_slice(dim, 1, 2)], steps[_slice(dim, size - 3, size - 2)]
        first = first + (first - second) * widths[:1] / (widths[:1] + widths[1:2])
        last = last + (last - before) * widths[-1:] / (widths[-1:] + widths[-2:-1])
    return ops.cat([first, inner, last], dim)
