"""Elements taken and placed one by one: gather, scatter and its reductions, and masks."""

from __future__ import annotations

from functools import lru_cache, partial
from math import prod

import numpy as np

from .. import ops
from ..inplace import write_out
from ..modes import state
from ..registry import Kernel, arithmetic, composite, index, op
from ..shapes import broadcast_shapes, can_cast, normalize_dim
from ..tensor import Tensor
from .index import ARRAY, FULL, SOME, check_bounds, check_integers, values_of, within
from .samples import boolean, distinct, integer, real, sample
from .slices import along, check_source


def _gather_setting(name, arrays, settings):
    """Check that ``index`` could name elements: as many dimensions, no larger sizes but along ``dim``."""
    input, rows = arrays[0], arrays[1]
    own, shape, dim = settings.get("shape", input.shape), rows.shape, settings["dim"]
    if type(dim) is not int or not 0 <= dim < len(own):
        dim = normalize_dim(dim, len(own))
    if rows.dtype.kind not in "iu":
        check_integers(name, rows)
    if rows.size and (len(own) != len(shape) or own[:dim] + own[dim + 1 :] != shape[:dim] + shape[dim + 1 :]):
        own, shape = own or (1,), shape or (1,)
        if len(own) != len(shape):
            raise RuntimeError(
                f"{name}: index must have as many dimensions as the input, got {len(shape)} and {len(own)}"
            )
        if any(n > own[d] for d, n in enumerate(shape) if d != dim):
            raise RuntimeError(
                f"{name}: index of shape {list(shape)} does not fit the input of {list(own)} apart from dimension {dim}"
            )
    return {**settings, "dim": dim}


def _places(rows, dim, shape):
    """The numbers, in flat order, of the elements of an array of ``shape`` that ``rows`` names along ``dim``."""
    check_bounds(rows, shape[dim] if shape else 1, 0)
    step = prod(shape[dim + 1 :])
    start = (line_starts if rows.size <= SOME else line_starts.__wrapped__)(rows.shape, dim, shape)
    return (rows if step == 1 else rows * step) + start


@lru_cache(256)
def line_starts(shape, dim, whole):
    """Where an index of 0 along ``dim`` leads, in the flat order of a whole, from each place of an index."""
    total, stride = np.zeros((1,) * len(shape), np.int64), 1
    for d in reversed(range(len(whole))):
        if d != dim:
            total = total + np.arange(shape[d]).reshape((-1,) + (1,) * (len(shape) - 1 - d)) * stride
        stride *= whole[d]
    return total


def _found(input, index, *, dim, sparse_grad=False):
    size = input.shape[dim] if input.ndim else 0
    return index.size >= SOME and within(index, 0, size)


@op(index, signature="input, dim, index, *, sparse_grad=False", prepare=partial(_gather_setting, "gather"),
    kernel=Kernel("elements:gather", above=512, when=_found),
    vjp=[lambda g, index, input_shape, dim: ops.scatter_in_zeros(g, index, shape=input_shape, dim=dim)],
    samples=[sample(real(3, 4), 0, integer(2, 4, high=3)), sample(real(3, 4), -1, integer(3, 5, high=4))],
    onnx="GatherElements")  # fmt: skip
def gather(input, index, *, dim, sparse_grad=False):
    """out[i, j] = input[index[i, j], j] for ``dim=0``, input[i, index[i, j]] for ``dim=1``, and so on."""
    if not index.size:
        return np.empty(index.shape, input.dtype)
    return input.reshape(-1).take(_places(index, dim, input.shape)).reshape(index.shape)


@op(
    index,
    vjp=[lambda g, index, dim: ops.gather(g, dim, index)],
    kernel=Kernel("elements:scatter_in_zeros", above=SOME,
                  when=lambda g, index, *, shape, dim: within(index, 0, shape[dim])),
    namespace="internal",
    out=False,
    prepare=partial(_gather_setting, "scatter"),
    samples=[sample(real(2, 4), integer(2, 4, high=3), shape=(3, 4), dim=0)],
)  # fmt: skip
def scatter_in_zeros(input, index, *, shape, dim):
    """Zeros of ``shape`` with the input added where `gather` would take it from."""
    out = np.zeros(shape, input.dtype)
    _scatter_into(out, index, input, dim, np.add)
    return out


def _scatter_into(out, rows, values, dim, ufunc=None):
    """Write (or combine by ``ufunc``) values into the places of ``out`` that ``rows`` names along ``dim``."""
    if not rows.size:
        return
    places, flat = _places(rows, dim, out.shape).reshape(-1), out.reshape(-1)
    if type(values) is np.ndarray and values.shape != rows.shape and values.ndim:
        values = np.broadcast_to(values, rows.shape)
    values = values.reshape(-1) if type(values) is np.ndarray and values.ndim else values
    if ufunc is None:
        flat[places] = values
    else:
        ufunc.at(flat, places, values)


def _scatter_setting(arrays, settings):
    settings = _gather_setting("scatter", arrays, settings)
    src = arrays[2]
    if type(src) is np.ndarray and src.dtype != arrays[0].dtype and src.ndim:
        raise RuntimeError(f"src has type {src.dtype}, the input {arrays[0].dtype}")
    return settings


def _scattered(name, words, vjp, ufunc, samples, onnx=None):
    """The record of a copy of the input in which ``src`` is combined with what is there by ``ufunc``."""

    def body(input, index, src, *, dim):
        out = np.array(input, order="C")
        _scatter_into(out, index, src, dim, np.logical_or if ufunc is np.add and out.dtype == bool else ufunc)
        return out

    body.__name__ = name
    body.__doc__ = f"A copy of the input {words} where `gather` would read."
    kernel = Kernel(f"elements:{name}", above=512, when=lambda input, index, src, *, dim: (
        input.ndim > 0 and index.size >= SOME and within(index, 0, input.shape[dim])))  # fmt: skip
    return op(index, vjp=vjp, prepare=_scatter_setting, kernel=kernel, namespace="internal", out=False,
              samples=samples, onnx=onnx)(body)  # fmt: skip


ONE_ROW = [sample(real(3, 4), np.array([[2, 0, 1, 1]]), real(1, 4), dim=0)]
SEVERAL = [sample(real(3, 4), integer(2, 4, high=3), real(2, 4), dim=0)]
DISTINCT = [sample(distinct(3, 4), integer(2, 4, high=3), distinct(2, 4, low=3, high=4), dim=0)]

scatter_set = _scattered(
    "scatter_set", "with ``src`` written",
    [lambda g, index, dim: ops.scatter_set(g, index, np.zeros((), g.dtype), dim=dim),
     None, lambda g, index, dim: ops.gather(g, dim, index)], None, ONE_ROW, "ScatterElements")  # fmt: skip
scatter_sum = _scattered(
    "scatter_sum", "with ``src`` added",
    [lambda g: g, None, lambda g, index, dim: ops.gather(g, dim, index)], np.add, SEVERAL)  # fmt: skip


# -------------------------------------------------------------------------------------------------- products, extremes


class Elements:
    """Elements named along ``dim``, one by one: what the gradients of products and extremes ask for."""

    def __init__(self, index, dim):
        self.index, self.dim = index, dim

    def take(self, whole):
        """What stands in ``whole`` where the index says."""
        return ops.gather(whole, self.dim, self.index)

    def add(self, whole, part):
        """A copy of ``whole`` with ``part`` added where the index says."""
        return ops.scatter_sum(whole, self.index, part, dim=self.dim)

    def multiply(self, whole, part):
        """A copy of ``whole`` multiplied by ``part`` where the index says."""
        return ops.scatter_prod(whole, self.index, part, dim=self.dim)


class Slices(Elements):
    """Whole slices along ``dim``."""

    def take(self, whole):
        """See `Elements`."""
        return ops.take_slices(whole, self.index, dim=self.dim)

    def add(self, whole, part):
        """See `Elements`."""
        return ops.put_slices(whole, part, self.index, dim=self.dim, how="add")

    def multiply(self, whole, part):
        """See `Elements`."""
        return ops.combine_slices(whole, part, self.index, dim=self.dim, how="multiply")


def _product_vjp(places, g, input, src, out):
    """Products without one factor: out / factor, but for a factor that is the only zero of its product."""
    safe, is_zero = ops.where(input == 0, 1, input), src == 0
    to_input = g * places.multiply(safe, src) / safe
    zeros = places.take(places.add(np.zeros(input.shape, g.dtype), ops.to(is_zero, g.dtype)))
    alone = ops.logical_and(is_zero, zeros == 1)
    without = places.multiply(input, ops.where(alone, 1, src))
    others = places.take(g * out) / ops.where(is_zero, 1, src)
    return to_input, ops.where(alone, places.take(g * without), others)


def _extreme_vjp(places, g, input, src, out):
    """The gradient in equal parts to all that reach the extreme."""
    mine, theirs = ops.to(input == out, g.dtype), ops.to(src == places.take(out), g.dtype)
    share = g / places.add(mine, theirs)
    return mine * share, theirs * places.take(share)


def _each_vjp(rule):
    def vjp(g, input, index, src, out, dim):
        to_input, to_src = rule(Elements(index, dim), g, input, src, out)
        return to_input, None, to_src

    return vjp


scatter_prod = _scattered("scatter_prod", "multiplied by ``src``", _each_vjp(_product_vjp), np.multiply, SEVERAL)
scatter_max = _scattered(
    "scatter_max", "with the larger of itself and ``src``", _each_vjp(_extreme_vjp), np.maximum, DISTINCT
)
scatter_min = _scattered(
    "scatter_min", "with the smaller of itself and ``src``", _each_vjp(_extreme_vjp), np.minimum, DISTINCT
)


def _combine_vjp(g, input, source, index, out, dim, how):
    return (_product_vjp if how == "multiply" else _extreme_vjp)(Slices(index, dim), g, input, source, out)


def _combines(input, source, index, *, dim, how):
    return source.size >= SOME and within(index, 0, input.shape[dim])


@op(index, vjp=_combine_vjp, out=False, namespace="internal",
    kernel=Kernel("indexing:put_slices", above=64, when=_combines),
    samples=[sample(distinct(3, 4), distinct(3, 4, low=3, high=4), np.array([2, 0, 2]), dim=0, how=how)
             for how in ("multiply", "maximum", "minimum")])  # fmt: skip
def combine_slices(input, source, index, *, dim, how):
    """A copy of the input with the product, the maximum or the minimum of slices where `take_slices` would read."""
    out = np.array(input, order="C")
    getattr(np, how).at(out, (*(FULL,) * dim, index), source)
    return out


# ---------------------------------------------------------------------------------------------------- public functions


def _cut(src, index):
    """The part of ``src`` that lies under ``index``."""
    have, want = values_of(src).shape, values_of(index).shape
    if have == want or 0 in want:
        return src
    if len(have) != len(want) or any([n > most for n, most in zip(want, have, strict=True)]):
        raise RuntimeError(f"scatter: index of shape {list(want)} does not fit src of {list(have)}")
    return ops.slice_view(src, (*map(slice, want), ...))


SCATTERS = {"add": "scatter_sum", "sum": "scatter_sum", "multiply": "scatter_prod", "prod": "scatter_prod"}


@op(
    composite,
    out=True,
    samples=[
        sample(real(3, 4), 0, np.array([[2, 0, 1, 1]]), real(1, 4)),
        sample(real(3, 4), 1, np.array([[0], [3]]), 2.5),
    ],
    inplace=True,
)
def scatter(input, dim, index, src=None, *, value=None, reduce=None):
    """A copy of the input with ``src`` (a tensor, or the number ``value``) written where `gather` would read.

    ``reduce="add"`` or ``"multiply"`` combines with what is there.
    """
    if value is None and src is None:
        raise TypeError("scatter: needs src or value")
    src = value if src is None else src
    if isinstance(src, (Tensor, np.ndarray)):
        src = _cut(src, index)
    elif not can_cast(np.asarray(src).dtype, values_of(input).dtype):
        raise RuntimeError(f"scatter: value {src!r} cannot be converted to type {input.dtype}")
    if reduce is None:
        return ops.scatter_set(input, index, src, dim=dim)
    if reduce not in SCATTERS:
        raise RuntimeError(f"scatter: reduce must be 'add' or 'multiply', got {reduce!r}")
    if not isinstance(src, (Tensor, np.ndarray)):
        src = ops.full_like(index, src, dtype=input.dtype)
    return getattr(ops, SCATTERS[reduce])(input, index, src, dim=dim)


@op(composite, out=True, samples=[sample(real(3, 4), 0, integer(2, 4, high=3), real(2, 4))], inplace=True)
def scatter_add(input, dim, index, src):
    """A copy of the input with ``src`` added where `gather` would read."""
    return ops.scatter_sum(input, index, _cut(src, index), dim=dim)


REDUCES = {
    "sum": "scatter_sum",
    "mean": "scatter_sum",
    "prod": "scatter_prod",
    "amax": "scatter_max",
    "amin": "scatter_min",
}
TO_REDUCE = [sample(real(3, 4), 0, integer(2, 4, high=3), real(2, 4, low=3, high=4), reduce=r) for r in REDUCES]


def _neutral(reduce, dtype):
    """What leaves the result of a reduction as it is."""
    if reduce in ("amax", "amin"):
        limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype) if dtype.kind in "iu" else None
        lowest, highest = (
            (-np.inf, np.inf) if dtype.kind == "f" else (limits.min, limits.max) if limits else (False, True)
        )
        return lowest if reduce == "amax" else highest
    return 1 if reduce == "prod" else 0


@op(composite, out=True, samples=TO_REDUCE, inplace=True)
def scatter_reduce(input, dim, index, src, reduce, *, include_self=True):
    """A copy of the input in which each place named by ``index`` holds the ``reduce`` of ``src`` there.

    ``reduce`` is sum, prod, mean, amax or amin; with ``include_self`` the old value counts as one of them. Values that
    are equally extreme share the gradient.
    """
    if reduce not in REDUCES:
        raise RuntimeError(f"scatter_reduce: reduce must be one of {list(REDUCES)}, got {reduce!r}")
    src = _cut(src, index)
    start = input
    if not include_self:
        start = ops.scatter_set(input, index, _neutral(reduce, values_of(input).dtype), dim=dim)
    found = getattr(ops, REDUCES[reduce])(start, index, src, dim=dim)
    if reduce != "mean":
        return found
    ones = np.ones(tuple(index.shape), values_of(input).dtype)
    own = np.ones(tuple(input.shape), ones.dtype)
    count = ops.scatter_sum(own if include_self else ops.scatter_set(own, index, 0, dim=dim), index, ones, dim=dim)
    count = ops.where(count == 0, 1, count)
    return found / count if ones.dtype.kind == "f" else ops.floor_divide(found, count)


@op(
    composite,
    out=True,
    samples=[sample(real(3, 4), 0, integer(2, high=3), real(2, 4), r) for r in ("prod", "mean", "amax")],
    inplace=True,
)
def index_reduce(input, dim, index, source, reduce, *, include_self=True):
    """As `scatter_reduce` with whole slices: ``index`` names a slice of the input for each slice of ``source``."""
    if reduce not in REDUCES or reduce == "sum":
        raise RuntimeError(f"index_reduce: reduce must be one of prod, mean, amax, amin, got {reduce!r}")
    dim = along("index_reduce", input, dim, index)
    check_source("index_reduce", input, dim, index, source)
    if not input.ndim:
        source = ops.reshape(source, tuple(index.shape))
        return scatter_reduce(input, dim, index, source, reduce, include_self=include_self)
    index, start = index if index.ndim else ops.reshape(index, (1,)), input
    source = source if source.ndim else ops.reshape(source, (1,))
    if not include_self:
        neutral = _neutral(reduce, values_of(input).dtype)
        start = ops.put_slices(input, neutral, index, dim=dim, how="set")
    if reduce != "mean":
        return ops.combine_slices(start, source, index, dim=dim, how=COMBINED[reduce])
    found = ops.put_slices(start, source, index, dim=dim, how="add")
    dtype = values_of(input).dtype
    ones, own = np.ones(index.shape[0], dtype), np.full(input.shape[dim], include_self, dtype)
    count = ops.put_slices(own, ones, index, dim=0, how="add")
    count = ops.reshape(ops.where(count == 0, 1, count), (-1,) + (1,) * (input.ndim - 1 - dim))
    return found / count if dtype.kind == "f" else ops.floor_divide(found, count)


COMBINED = {"prod": "multiply", "amax": "maximum", "amin": "minimum"}


@op(composite, samples=[sample(real(3, 4), integer(3, 1, high=4), 1), sample(real(3, 4), integer(5, high=12))])
def take_along_dim(input, indices, dim=None, *, out=None):
    """As `gather`, with input and indices broadcast against each other; in flat order without ``dim``."""
    check_integers("take_along_dim", indices)
    if dim is None:
        return ops.gather(
            ops.reshape(input, (prod(input.shape),)), 0, ops.reshape(indices, (prod(indices.shape),)), out=out
        )
    own, shape = values_of(input).shape, values_of(indices).shape
    if len(own) != len(shape):
        raise RuntimeError(
            f"take_along_dim: input and indices must have as many dimensions, got {len(own)} and {len(shape)}"
        )
    dim = normalize_dim(dim, len(own))
    size = own[dim] if own else 1
    if (state.watch is not None and state.watch.steers) or not within(values_of(indices), 0, size):
        indices = ops.where(indices < 0, indices + size, indices)
    if own[:dim] != shape[:dim] or own[dim + 1 :] != shape[dim + 1 :]:
        common = np.broadcast_shapes((*own[:dim], 1, *own[dim + 1 :]), (*shape[:dim], 1, *shape[dim + 1 :]))
        input = ops.expand(input, (*common[:dim], own[dim], *common[dim + 1 :]))
        indices = ops.expand(indices, (*common[:dim], shape[dim], *common[dim + 1 :]))
    return ops.gather(input, dim, indices, out=out)


# ---------------------------------------------------------------------------------------------------- masks


def _check_mask(name, mask):
    kind = mask.dtype
    if kind != np.bool_:
        raise RuntimeError(f"{name}: mask must be booleans, got {kind}")


def _fill_setting(arrays, settings):
    input, mask, value = arrays
    _check_mask("masked_fill", mask)
    if np.ndim(value):
        raise RuntimeError(f"value must be a number or a 0-d tensor, got shape {list(value.shape)}")
    if not can_cast(np.asarray(value).dtype, input.dtype):
        raise RuntimeError(f"value {value} cannot be converted to type {input.dtype}")
    return settings


@op(
    arithmetic,
    vjp=[lambda g, mask: ops.masked_fill(g, mask, 0), None, lambda g, mask: ops.where(mask, g, 0)],
    promote=False,
    prepare=_fill_setting,
    scalar="value if mask else input",
    samples=[sample(real(3, 4), boolean(3, 4), 1.5), sample(real(3, 4), boolean(4), real())],
)
def masked_fill(input, mask, value):
    """The input with ``value`` (a number or a 0-d tensor) where ``mask`` holds."""
    return np.where(mask, np.asarray(value).astype(input.dtype), input)


@op(composite, samples=[sample(real(3, 4), boolean(3, 4)), sample(real(3, 1), boolean(4))])
def masked_select(input, mask, *, out=None):
    """The elements of the input where ``mask`` holds, as a 1-d tensor; both are broadcast against each other."""
    _check_mask("masked_select", mask)
    own, shape = values_of(input).shape, values_of(mask).shape
    if own != shape or not own:
        common = broadcast_shapes(own, shape, (1,))
        input, mask = [t if s == common else ops.expand(t, common) for t, s in ((input, own), (mask, shape))]
    found = ops.pick(input, mask, spec=(ARRAY,))
    return found if out is None else write_out(out, found)


@op(index, vjp=[lambda g, mask: ops.masked_fill(g, mask, 0), None,
                lambda g, mask, source_shape: ops.masked_take(g, mask, shape=source_shape)], inplace=True, out=False,
    samples=[sample(real(3, 4), boolean(3, 4), real(12)), sample(real(3, 4), boolean(4), real(4, 3))])  # fmt: skip
def masked_scatter(input, mask, source):
    """The input with elements of ``source``, in order, where ``mask`` holds."""
    _check_mask("masked_scatter", mask)
    if source.dtype != input.dtype:
        raise RuntimeError(f"source has type {source.dtype}, the input {input.dtype}")
    shape = np.broadcast_shapes(input.shape, mask.shape)
    out, mask = np.array(np.broadcast_to(input, shape), order="C"), np.broadcast_to(mask, shape)
    count = int(np.count_nonzero(mask))
    if count > source.size:
        raise RuntimeError(f"source must have at least {count} elements, one for each True in mask, got {source.size}")
    out.reshape(-1)[np.flatnonzero(mask)] = source.reshape(-1)[:count]
    return out


@op(
    index,
    vjp=[lambda g, mask, input_shape: ops.masked_scatter(np.zeros(input_shape, g.dtype), mask, g)],
    namespace="internal",
    samples=[sample(real(3, 4), boolean(3, 4), shape=(12,))],
    out=False,
)
def masked_take(input, mask, *, shape):
    """The elements where ``mask`` holds, in order, then zeros: the gradient of the source of `masked_scatter`."""
    found = np.zeros(prod(shape), input.dtype)
    picked = input[np.broadcast_to(mask, input.shape)]
    found[: picked.size] = picked
    return found.reshape(shape)
