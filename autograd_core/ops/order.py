"""Order and search: sort, topk, kthvalue, median, mode, unique, searchsorted, isin."""

from __future__ import annotations

from math import prod

import numpy as np

from .. import ops
from ..registry import Kernel, composite, index, op
from ..shapes import cast_all, common_dtype, normalize_dim
from .reduce import nonempty, one_dim_setting, selection_gradient, split_evenly
from .samples import distinct, integer, real, sample
from .scattering import line_starts

# ---------------------------------------------------------------------------------------------------- shared

LARGE = 1024  # elements from which a kernel sorts faster than NumPy


def _by_kernel(name, input, **settings):
    """What the kernel makes of large arrays that the door does not hand to it: of integers, or not in C order."""
    if input.size < LARGE or input.dtype.char not in "fdilq":
        return NotImplemented
    from ..kernels import order
    from ..kernels.plan import execute

    return execute(getattr(order, name), (np.ascontiguousarray(input),), **settings)


def _ordered_gradient(gs, indices, dim, input_shape):
    return selection_gradient(gs[0], indices, dim, True, input_shape)


def order_of(input, dim, descending=False):
    """Indices that sort along ``dim``, stable; NaN counts as the largest value."""
    if not descending:
        return input.argsort(dim, "stable")
    back = (*[slice(None)] * dim, slice(None, None, -1))
    return (input.shape[dim] - 1 - input[back].argsort(dim, "stable"))[back]


def _pick(input, indices, dim):
    """The elements at ``indices``, which exist, along ``dim``."""
    if input.size >= LARGE:
        return ops.gather.record.run(input, indices, dim=dim)
    step, starts = prod(input.shape[dim + 1 :]), line_starts(indices.shape, dim, input.shape)
    return input.reshape(-1).take((indices if step == 1 else indices * step) + starts)


# ---------------------------------------------------------------------------------------------------- sorting


def _sort_settings(arrays, settings):
    if isinstance(settings["dim"], bool):
        raise TypeError(f"sort: dim must be an int, got {settings['dim']}")
    return one_dim_setting(arrays, settings)


@op(index, name="sort", signature="input, dim=-1, descending=False, stable=False", outputs="values indices",
    prepare=_sort_settings, vjp=[_ordered_gradient], kernel=Kernel("order:sort", above=LARGE),
    samples=[distinct(3, 4), sample(distinct(3, 4), 0, True), sample(real(), 0)])  # fmt: skip
def sort(input, *, dim, descending, stable):
    """The elements in order along ``dim``, and their indices. Equal elements keep their order; NaN is the largest."""
    if input.ndim == 0:
        return input.copy(), np.zeros((), np.int64)
    found = _by_kernel("sort", input, dim=dim, descending=descending, stable=stable)
    if found is not NotImplemented:
        return found
    indices = order_of(input, dim, descending)
    return _pick(input, indices, dim), indices


@op(index, signature="input, dim=-1, descending=False, stable=False", prepare=_sort_settings,
    kernel=Kernel("order:argsort", above=LARGE),
    samples=[distinct(3, 4), sample(distinct(3, 4), 0, True)])  # fmt: skip
def argsort(input, *, dim, descending, stable):
    """Indices that put the elements along ``dim`` in order; equal elements keep their order."""
    if input.ndim == 0:
        return np.zeros((), np.int64)
    found = _by_kernel("argsort", input, dim=dim, descending=descending, stable=stable)
    return order_of(input, dim, descending) if found is NotImplemented else found


@op(composite, out=True, samples=[distinct(3, 4)])
def msort(input):
    """The elements in order along the first dimension."""
    return sort(input, 0)[0]


def _count_along(arrays, settings):
    settings = one_dim_setting(arrays, settings)
    return settings, arrays[0].shape[settings["dim"]] if arrays[0].ndim else 1


def _topk_settings(arrays, settings):
    settings, size = _count_along(arrays, settings)
    if not 0 <= settings["k"] <= size:
        raise RuntimeError(f"topk: k must be between 0 and the {size} elements along dim {settings['dim']}, got "
                           f"{settings['k']}")  # fmt: skip
    return settings


@op(index, signature="input, k, dim=-1, largest=True, sorted=True", outputs="values indices", prepare=_topk_settings,
    vjp=[_ordered_gradient], kernel=Kernel("order:topk", above=LARGE),
    samples=[sample(distinct(3, 6), 2), sample(distinct(5, 3), 3, 0, False), sample(real(), 1)],
    onnx="TopK")  # fmt: skip
def topk(input, *, k, dim, largest, sorted):
    """The ``k`` largest (or smallest) elements along ``dim`` in order, and their indices."""
    if input.ndim == 0:
        return (input.copy(), np.zeros((), np.int64)) if k else (input[None][:0], np.zeros(0, np.int64))
    found = _by_kernel("topk", input, k=k, dim=dim, largest=largest, sorted=sorted)
    if found is not NotImplemented:
        return found
    first = (*[slice(None)] * dim, slice(0, k))
    indices = order_of(input, dim, largest)[first]
    return _pick(input, indices, dim), indices


def _kth_settings(arrays, settings):
    settings, size = _count_along(arrays, settings)
    if not 1 <= settings["k"] <= size:
        raise RuntimeError(f"kthvalue: k must be between 1 and the {size} elements along dim {settings['dim']}, got "
                           f"{settings['k']}")  # fmt: skip
    return settings


def _one(dim, place):
    """The index that takes the slice at ``place`` along ``dim``."""
    return (*[slice(None)] * dim, slice(place, place + 1))


def _pick_one(input, indices, dim, keepdim):
    """Values and indices of one element a line, given ``indices`` of size 1 along ``dim``."""
    values = _pick(input, indices, dim)
    return (values, indices) if keepdim else (values.squeeze(dim), indices.squeeze(dim))


def _picked_gradient(gs, indices, dim, keepdim, input_shape):
    return selection_gradient(gs[0], indices, dim, keepdim, input_shape)


PICKED = {"outputs": "values indices", "vjp": [_picked_gradient]}


@op(index, signature="input, k, dim=-1, keepdim=False", prepare=_kth_settings,
    samples=[sample(distinct(3, 4), 2), sample(distinct(3, 4), 3, 0, True)], **PICKED)  # fmt: skip
def kthvalue(input, *, k, dim, keepdim):
    """The ``k``-th smallest element along ``dim`` and its index."""
    if input.ndim == 0:
        return input.copy(), np.zeros((), np.int64)
    return _pick_one(input, input.argpartition(k - 1, dim)[_one(dim, k - 1)], dim, keepdim)


# ---------------------------------------------------------------------------------------------------- median, mode


@op(index, name="median_along", namespace="internal", prepare=one_dim_setting,
    samples=[sample(distinct(3, 5), dim=1, keepdim=False, ignore_nan=False)], **PICKED)  # fmt: skip
def median_along(input, *, dim, keepdim, ignore_nan):
    """The lower median along ``dim`` and its index; NaN is left out, or makes the result NaN."""
    if input.ndim == 0:
        return input.copy(), np.zeros((), np.int64)
    nonempty("median", input, (dim,))
    if input.dtype == bool:
        raise RuntimeError("median: bool input is not supported")
    size, absent = input.shape[dim], input != input
    if not absent.any():
        middle = (size - 1) // 2
        return _pick_one(input, input.argpartition(middle, dim)[_one(dim, middle)], dim, keepdim)
    order, missing = order_of(input, dim), np.count_nonzero(absent, axis=dim, keepdims=True)
    if ignore_nan:
        middle = np.maximum(size - missing - 1, 0) // 2
    else:
        middle = np.where(missing > 0, size - missing, (size - 1) // 2)
    shape = [1 if d == dim else n for d, n in enumerate(input.shape)]
    return _pick_one(input, _pick(order, np.broadcast_to(middle, shape), dim), dim, keepdim)


@op(index, namespace="internal", vjp=[split_evenly], samples=[sample(distinct(3, 5), ignore_nan=False)])
def median_of_all(input, *, ignore_nan):
    """The lower median of all elements; NaN of none."""
    if input.size == 0:
        return np.full((), np.nan).astype(input.dtype)
    return median_along.record.function(input.reshape(-1), dim=0, keepdim=False, ignore_nan=ignore_nan)[0]


def _median(input, dim, keepdim, ignore_nan):
    if dim is not None:
        return median_along(input, dim=dim, keepdim=keepdim, ignore_nan=ignore_nan)
    return median_of_all(input, ignore_nan=ignore_nan)


MEDIANS = [distinct(3, 5), sample(distinct(3, 4), 1), sample(distinct(3, 5), dim=0, keepdim=True)]


@op(composite, out=True, samples=MEDIANS)
def median(input, dim=None, keepdim=False):
    """The median of all elements; or along ``dim``, as (values, indices). The lower of two middle ones."""
    return _median(input, dim, keepdim, False)


@op(composite, out=True, samples=MEDIANS)
def nanmedian(input, dim=None, keepdim=False):
    """As `median`, without the NaN among the elements."""
    return _median(input, dim, keepdim, True)


@op(index, signature="input, dim=-1, keepdim=False", prepare=one_dim_setting, kernel=Kernel("order:mode", above=LARGE),
    samples=[sample(integer(3, 6), 1), sample(distinct(3, 4), 0, True)], **PICKED)  # fmt: skip
def mode(input, *, dim, keepdim):
    """The most frequent value along ``dim`` (the smallest of equally frequent ones) and the index of its last place."""
    if input.ndim == 0:
        return input.copy(), np.zeros((), np.int64)
    nonempty("mode", input, (dim,))
    found = _by_kernel("mode", input, dim=dim, keepdim=keepdim)
    if found is not NotImplemented:
        return found
    order = order_of(input, dim)
    ranked, ranks = _pick(input, order, dim).swapaxes(dim, -1), order.swapaxes(dim, -1)
    places = np.arange(input.shape[dim])
    run = np.zeros(ranked.shape, np.int64)  # how many equal ones stand before
    begins = np.where(ranked[..., 1:] != ranked[..., :-1], places[1:], 0)
    np.subtract(places[1:], np.maximum.accumulate(begins, -1), out=run[..., 1:])
    longest = _pick(ranks, run.argmax(-1, keepdims=True), ranks.ndim - 1)
    return _pick_one(input, longest.swapaxes(dim, -1), dim, keepdim)


# ---------------------------------------------------------------------------------------------------- quantiles


@op(composite, out=True,
    samples=[sample(distinct(3, 4), 0.4), sample(distinct(3, 5), 0.25, 1, True),
             sample(distinct(3, 5), 0.7, interpolation="lower")])  # fmt: skip
def quantile(input, q, dim=None, keepdim=False, *, interpolation="linear"):
    """The ``q``-quantiles along ``dim`` (of all elements by default); several ``q`` come first in the result's shape.

    ``interpolation`` between neighbours: linear, lower, higher, midpoint or nearest. NaN makes the result NaN.
    """
    return _quantile("quantile", input, q, dim, keepdim, interpolation, False)


@op(composite, out=True, samples=[sample(distinct(3, 4), 0.4), sample(distinct(3, 5), 0.25, 1, True)])
def nanquantile(input, q, dim=None, keepdim=False, *, interpolation="linear"):
    """As `quantile`, without the NaN among the elements."""
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation, True)


def _checked_q(name, input, q):
    if not hasattr(q, "ndim"):
        if not 0 <= q <= 1:
            raise RuntimeError(f"{name}: q must be between 0 and 1, got {q}")
        return q
    if q.ndim > 1 or q.dtype != input.dtype:
        raise RuntimeError(f"{name}: q must be a number or a vector of the input's dtype {input.dtype}, got "
                           f"{q.dtype} {list(q.shape)}")  # fmt: skip
    if bool(ops.any(ops.logical_or(q < 0, q > 1))):
        raise RuntimeError(f"{name}: q must be between 0 and 1, got {q}")
    return q


def _quantile(name, input, q, dim, keepdim, interpolation, ignore_nan):
    if interpolation not in ("linear", "lower", "higher", "midpoint", "nearest"):
        raise RuntimeError(f"{name}: interpolation must be linear, lower, higher, midpoint or nearest, got "
                           f"{interpolation!r}")  # fmt: skip
    if str(input.dtype).rpartition(".")[2] not in ("float32", "float64"):
        raise RuntimeError(f"{name}: input must be float32 or float64, got {input.dtype}")
    if 0 in input.shape:
        raise RuntimeError(f"{name}: input must not be empty, got shape {list(input.shape)}")
    q, vector = _checked_q(name, input, q), hasattr(q, "ndim") and q.ndim == 1
    if dim is None:
        lines, kept = ops.reshape(input, (-1,)), (1,) * input.ndim
    else:
        dim = normalize_dim(dim, input.ndim)
        kept = tuple(1 if d == dim else n for d, n in enumerate(input.shape))
        lines = ops.movedim(input, dim, -1) if input.ndim else ops.reshape(input, (1,))
    picked = between_ranked(sort(lines, -1)[0], ops.reshape(q, (-1,)) if hasattr(q, "ndim") else q,
                            interpolation=interpolation, ignore_nan=ignore_nan)  # fmt: skip
    picked = ops.movedim(picked, -1, 0)
    shape = kept if keepdim else tuple(lines.shape[:-1])
    return ops.reshape(picked, (q.shape[0], *shape) if vector else shape)


def _to_ranked(g, ranked_shape, q, below, above, span, interpolation):
    """The gradient handed to the two neighbours of each rank."""
    shape, last = tuple(ranked_shape), len(ranked_shape) - 1
    if interpolation not in ("linear", "midpoint"):
        return ops.scatter_in_zeros(g, below, shape=shape, dim=last)
    weight = 0.5 if interpolation == "midpoint" else q * span - ops.to(below, dtype=g.dtype)
    both = ops.cat([g * (1 - weight), g * weight], last)
    return ops.scatter_in_zeros(both, ops.cat([below, above], last), shape=shape, dim=last)


def _to_q(g, ranked, below, above, span, interpolation):
    """The gradient of the ranks, on which the result depends where it is linear between neighbours."""
    if interpolation != "linear":
        return g * 0
    return g * (ops.gather(ranked, -1, above) - ops.gather(ranked, -1, below)) * span


@op(index, namespace="internal", hidden=("below", "above", "span"), vjp=[_to_ranked, _to_q],
    samples=[sample(distinct(2, 5), real(2, low=0.1, high=0.9), interpolation="linear",
                    ignore_nan=False)])  # fmt: skip
def between_ranked(ranked, q, *, interpolation, ignore_nan):
    """Values at the fractional ranks ``q * (count - 1)`` of lines sorted along the last dim; one a ``q``, last."""
    last, kind = ranked.shape[-1] - 1, ranked.dtype.type
    if ignore_nan:
        span = np.maximum(last - np.add.reduce(ranked != ranked, -1, None, None, True), 0).astype(kind)
        ranks = q * span
    else:
        span, end = kind(last), ranked[..., -1:]
        ranks = np.where(end == end, q * span, span)
    if interpolation in ("lower", "higher", "nearest"):
        ranks = {"lower": np.floor, "higher": np.ceil, "nearest": np.rint}[interpolation](ranks)
    whole = np.floor(ranks)
    below, above = whole.astype(np.int64), np.ceil(ranks).astype(np.int64)
    found = _pick(ranked, below, ranked.ndim - 1)
    if interpolation in ("linear", "midpoint"):
        weight = kind(0.5) if interpolation == "midpoint" else ranks - whole
        found = ops.lerp(found, _pick(ranked, above, ranked.ndim - 1), weight)
    return found, below, above, span


# ---------------------------------------------------------------------------------------------------- unique values


def _unique_settings(arrays, settings):
    dim = settings["dim"]
    if dim is not None and arrays[0].ndim and 0 in arrays[0].shape and arrays[0].shape[dim] != 0:
        raise RuntimeError(f"unique: there are 0 sized dimensions besides dim {dim} in shape {list(arrays[0].shape)}")
    return {**settings, "dim": None if dim is None else normalize_dim(dim, arrays[0].ndim)}


NOTHING = np.zeros(0, np.int64)
"""Stands for inverse indices and counts that nobody has asked for."""


@op(index, namespace="internal", outputs="values inverse counts", prepare=_unique_settings,
    samples=[sample(integer(3, 4), dim=None, inverse=True, counts=True)])  # fmt: skip
def sorted_unique(input, *, dim, inverse, counts):
    """Distinct values (or slices along ``dim``) in order, where each element went, and how often each value occurs."""
    if dim is not None:
        if input.shape[dim] == 0:
            return input.copy(), NOTHING, NOTHING
        values, places, sizes = np.unique(input, return_inverse=True, return_counts=True, axis=dim, equal_nan=False)
        return values, places.reshape(-1), sizes
    flat = input.reshape(-1)
    ranked, order = sort.record.run(flat, dim=0, descending=False, stable=True) if inverse else (np.sort(flat), None)
    values, ranks, sizes = _runs_of(ranked, _new(ranked[1:] != ranked[:-1]), inverse, counts)
    if not inverse:
        return values, NOTHING, sizes
    places = np.empty(flat.size, np.int64)
    places[order] = ranks
    return values, places.reshape(input.shape), sizes


def _new(changes):
    """Where runs begin, given where neighbours differ."""
    return np.concatenate((np.ones(1, bool), changes))


def _runs_of(x, new, inverse, counts):
    """The first slice of each run along the first dim, the number of the run of each slice, and runs' lengths."""
    if not len(x):
        return x, NOTHING, NOTHING
    starts = np.flatnonzero(new)
    ranks = np.cumsum(new) - 1 if inverse else NOTHING
    return x[starts], ranks, np.diff(starts, append=len(x)) if counts else NOTHING


@op(index, namespace="internal", outputs="values inverse counts", prepare=_unique_settings,
    samples=[sample(integer(6, high=2), dim=None, inverse=True, counts=True)])  # fmt: skip
def runs(input, *, dim, inverse, counts):
    """The first of each run of equal values (or slices along ``dim``), where each element went, and runs' lengths."""
    lines = input.reshape(-1) if dim is None else np.moveaxis(input, dim, 0)
    differ = lines[1:] != lines[:-1]
    new = _new(differ if lines.ndim < 2 else differ.any(axis=tuple(range(1, lines.ndim))))
    values, ranks, sizes = _runs_of(lines, new, inverse, counts)
    if dim is None:
        return values, ranks.reshape(input.shape) if inverse else ranks, sizes
    return np.moveaxis(values, 0, dim), ranks, sizes


def _asked(op, input, inverse, counts, dim):
    found = op(input, dim=dim, inverse=bool(inverse), counts=bool(counts))
    parts = [found[0], *[found[1]] * bool(inverse), *[found[2]] * bool(counts)]
    return parts[0] if len(parts) == 1 else tuple(parts)


@op(composite,
    samples=[integer(3, 4), sample(integer(3, 4), return_inverse=True, return_counts=True),
             sample(integer(6, 2, high=2), dim=0)])  # fmt: skip
def unique(input, sorted=True, return_inverse=False, return_counts=False, dim=None):
    """The distinct values (or, with ``dim``, slices) in order; on demand also inverse indices and counts."""
    return _asked(sorted_unique, input, return_inverse, return_counts, dim)


@op(composite, samples=[integer(3, 4, high=2), sample(integer(6, 2, high=2), True, True, 0)])
def unique_consecutive(input, return_inverse=False, return_counts=False, dim=None):
    """The values (or, with ``dim``, slices) with runs of equal ones made one; on demand also inverse and counts."""
    return _asked(runs, input, return_inverse, return_counts, dim)


# ---------------------------------------------------------------------------------------------------- searching


def _search_settings(arrays, settings):
    side, right = settings.get("side"), settings["right"]
    if side not in (None, "left", "right"):
        raise RuntimeError(f"searchsorted: side must be 'left' or 'right', got {side!r}")
    if side == "left" and right:
        raise RuntimeError("searchsorted: side='left' and right=True contradict each other")
    return {**settings, "right": bool(right) or side == "right"}


def _comparable(values):
    """The first two arrays in their common type."""
    first, second, *rest = values
    if not (isinstance(first, np.ndarray) and isinstance(second, np.ndarray)) or first.dtype == second.dtype:
        return values
    return [*cast_all([first, second], common_dtype([first, second])), *rest]


def _check_search(lines, input, sorter):
    if lines.ndim == 0:
        raise RuntimeError("searchsorted: sorted_sequence must have at least 1 dimension, got a 0-d tensor")
    if lines.ndim > 1 and (np.ndim(input) == 0 or np.shape(input)[:-1] != lines.shape[:-1]):
        raise RuntimeError("searchsorted: sorted_sequence must be a vector or agree with input but in the last dim, "
                           f"got shapes {list(lines.shape)} and {list(np.shape(input))}")  # fmt: skip
    if sorter is not None:
        if sorter.shape != lines.shape or sorter.dtype != np.int64:
            raise RuntimeError(f"searchsorted: sorter must be int64 of shape {list(lines.shape)}, got "
                               f"{sorter.dtype} {list(sorter.shape)}")  # fmt: skip
        if sorter.size and (sorter.min() < 0 or sorter.max() >= lines.shape[-1]):
            raise RuntimeError("searchsorted: sorter has an index out of range")


def _as_rows(x):
    return x.reshape(prod(x.shape[:-1]), x.shape[-1])


@op(index, signature="sorted_sequence, input, *, out_int32=False, right=False, side=None, sorter=None",
    promote=_comparable, prepare=_search_settings, kernel=Kernel("searching:searchsorted", above=LARGE, by=1),
    samples=[sample(np.array([1.0, 3.0, 5.0]), real(3, 4)),
             sample(np.array([1.0, 3.0, 3.0]), 3.0, right=True)])  # fmt: skip
def searchsorted(sorted_sequence, input, sorter, *, out_int32, right, side):
    """Where each value would have to be put in a sorted sequence (the last dim) to keep it sorted.

    Before equal elements, or behind them with ``right=True`` (``side="right"``). ``sorter`` are indices that sort.
    """
    lines = sorted_sequence
    _check_search(lines, input, sorter)
    if sorter is not None:
        lines = np.take_along_axis(lines, sorter, -1)
    side, kind = "right" if right else "left", np.int32 if out_int32 else np.int64
    if lines.ndim == 1:
        return np.asarray(lines.searchsorted(input, side)).astype(kind, copy=False)
    flat, values = _as_rows(lines), _as_rows(input)
    found = [np.searchsorted(line, value, side) for line, value in zip(flat, values, strict=True)]
    return np.array(found, kind).reshape(input.shape)


@op(index, signature="input, boundaries, *, out_int32=False, right=False", promote=_comparable,
    prepare=_search_settings, kernel=Kernel("searching:bucketize", above=LARGE),
    samples=[sample(real(3, 4), np.array([-1.0, 0.0, 1.0]))])  # fmt: skip
def bucketize(input, boundaries, *, out_int32, right):
    """The index of each value's bucket, for sorted ``boundaries``; with ``right=True`` a bucket holds its lower end."""
    if boundaries.ndim != 1:
        raise RuntimeError(f"bucketize: boundaries must be a vector, got shape {list(boundaries.shape)}")
    found = boundaries.searchsorted(input, "right" if right else "left")
    return np.asarray(found).astype(np.int32 if out_int32 else np.int64, copy=False)


FEW = 16  # values that are compared with one after the other
SMALL = 1024  # pairs that are compared at once


@op(index, signature="elements, test_elements, *, assume_unique=False, invert=False", promote=False,
    samples=[sample(integer(3, 4), np.array([1, 3])), sample(integer(3, 4), 2, invert=True)])  # fmt: skip
def isin(elements, test_elements, *, assume_unique, invert):
    """Whether each element is among ``test_elements``."""
    size = np.size(test_elements)
    if size * np.size(elements) <= SMALL:
        found = (np.asarray(elements)[..., None] == np.reshape(test_elements, -1)).any(-1)
        return np.logical_not(found) if invert else found
    if size <= FEW and isinstance(elements, np.ndarray):
        found = np.zeros(elements.shape, bool)
        for value in np.ravel(test_elements):
            found |= elements == value
        return np.logical_not(found) if invert else found
    return np.isin(elements, test_elements, assume_unique=assume_unique, invert=invert)
