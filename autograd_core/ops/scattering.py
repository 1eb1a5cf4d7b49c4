"""Elements taken and placed one by one: gather, scatter and its reductions, and masks."""

from __future__ import annotations

from functools import partial
from math import prod

import numpy as np

from .. import ops
from ..inplace import write_out
from ..registry import arithmetic, composite, index, op
from ..shapes import can_cast, normalize_dim
from ..tensor import Tensor
from .index import ARRAY, along, check_bounds, check_integers, check_source, values_of
from .samples import boolean, distinct, integer, real, sample


def _gather_setting(name, arrays, settings, within_dim=True):
    """Check that ``index`` names elements of the input: as many dimensions, no larger sizes but along ``dim``."""
    input, rows = arrays[0], arrays[1]
    dim = normalize_dim(settings["dim"], input.ndim)
    check_integers(name, rows)
    if not rows.size:
        return {**settings, "dim": dim}
    own, shape = input.shape or (1,), rows.shape or (1,)
    if "shape" in settings:
        own = settings["shape"] or (1,)
    if len(own) != len(shape):
        raise RuntimeError(f"{name}: index must have as many dimensions as the input, got {len(shape)} and {len(own)}")
    if any(n > own[d] for d, n in enumerate(shape) if d != dim):
        raise RuntimeError(
            f"{name}: index of shape {list(shape)} does not fit the input of {list(own)} apart from dimension {dim}"
        )
    check_bounds(rows, own[dim], 0)
    return {**settings, "dim": dim}


def _flat_places(rows, dim, shape):
    """The numbers, in flat order, of the elements of an array of ``shape`` that ``rows`` names along ``dim``."""
    total, stride = 0, 1
    for d in reversed(range(len(shape))):
        part = rows if d == dim else np.arange(rows.shape[d]).reshape((-1,) + (1,) * (rows.ndim - 1 - d))
        total = total + part * stride
        stride *= shape[d]
    return np.asarray(total, np.int64)


def _gathered(input, rows, dim):
    if not rows.size:
        return np.empty(rows.shape, input.dtype)
    places = _flat_places(rows if rows.ndim else rows.reshape(1), dim, input.shape or (1,))
    return input.reshape(-1).take(places).reshape(rows.shape)


@op(index, signature="input, dim, index, *, sparse_grad=False", prepare=partial(_gather_setting, "gather"),
    vjp=[lambda g, index, input_shape, dim: ops.scatter_in_zeros(g, index, shape=input_shape, dim=dim)],
    samples=[sample(real(3, 4), 0, integer(2, 4, high=3)), sample(real(3, 4), -1, integer(3, 5, high=4))],
    onnx="GatherElements")  # fmt: skip
def gather(input, index, *, dim, sparse_grad=False):
    """out[i, j] = input[index[i, j], j] for ``dim=0``, input[i, index[i, j]] for ``dim=1``, and so on."""
    return _gathered(input, index, dim)


@op(
    index,
    vjp=[lambda g, index, dim: ops.gather(g, dim, index)],
    namespace="internal",
    out=False,
    prepare=partial(_gather_setting, "scatter"),
    samples=[sample(real(2, 4), integer(2, 4, high=3), shape=(3, 4), dim=0)],
)
def scatter_in_zeros(input, index, *, shape, dim):
    """Zeros of ``shape`` with the input added where `gather` would take it from."""
    out = np.zeros(shape, input.dtype)
    _scatter_into(out, index, input, dim, np.add)
    return out


def _scatter_into(out, rows, values, dim, ufunc=None):
    """Write (or combine by ``ufunc``) values into the places of ``out`` that ``rows`` names along ``dim``."""
    if not rows.size:
        return
    places = _flat_places(rows if rows.ndim else rows.reshape(1), dim, out.shape or (1,)).reshape(-1)
    values = np.broadcast_to(values, rows.shape).reshape(-1)
    if ufunc is None:
        out.reshape(-1)[places] = values
    else:
        ufunc.at(out.reshape(-1), places, values)


def _scatter_setting(arrays, settings):
    settings = _gather_setting("scatter", arrays, settings)
    if isinstance(arrays[2], np.ndarray) and arrays[2].dtype != arrays[0].dtype and arrays[2].ndim:
        raise RuntimeError(f"src has type {arrays[2].dtype}, the input {arrays[0].dtype}")
    return settings


SCATTERED = [sample(real(3, 4), integer(2, 4, high=3), real(2, 4), dim=0)]


@op(
    index,
    vjp=[
        lambda g, index, dim: ops.scatter_set(g, index, np.zeros((), g.dtype), dim=dim),
        None,
        lambda g, index, dim: ops.gather(g, dim, index),
    ],
    prepare=_scatter_setting,
    namespace="internal",
    samples=[sample(real(3, 4), np.array([[2, 0, 1, 1]]), real(1, 4), dim=0)],
    out=False,
    onnx="ScatterElements",
)
def scatter_set(input, index, src, *, dim):
    """A copy of the input with ``src`` written where `gather` would read."""
    out = np.array(input, order="C")
    _scatter_into(out, index, src, dim)
    return out


@op(index, vjp=[lambda g: g, None, lambda g, index, dim: ops.gather(g, dim, index)], prepare=_scatter_setting,
    namespace="internal", samples=SCATTERED, out=False)  # fmt: skip
def scatter_sum(input, index, src, *, dim):
    """A copy of the input with ``src`` added where `gather` would read."""
    out = np.array(input, order="C")
    _scatter_into(out, index, src, dim, np.logical_or if out.dtype == bool else np.add)
    return out


def _scatter_prod_vjp(g, input, index, src, out, dim):
    """Products without one factor: out / factor, but for a factor that is the only zero of its product."""
    safe = ops.where(input == 0, 1, input)
    to_input = g * ops.scatter_prod(safe, index, src, dim=dim) / safe
    is_zero = src == 0
    zeros = ops.gather(
        ops.scatter_sum(np.zeros(input.shape, np.int64), index, ops.to(is_zero, np.int64), dim=dim), dim, index
    )
    alone = ops.logical_and(is_zero, zeros == 1)
    without = ops.scatter_prod(input, index, ops.where(alone, 1, src), dim=dim)
    others = ops.gather(g * out, dim, index) / ops.where(is_zero, 1, src)
    return to_input, None, ops.where(alone, ops.gather(g * without, dim, index), others)


@op(index, vjp=_scatter_prod_vjp, prepare=_scatter_setting, namespace="internal", samples=SCATTERED, out=False)
def scatter_prod(input, index, src, *, dim):
    """A copy of the input multiplied by ``src`` where `gather` would read."""
    out = np.array(input, order="C")
    _scatter_into(out, index, src, dim, np.multiply)
    return out


def _scatter_extreme_vjp(g, input, index, src, out, dim):
    """The gradient in equal parts to all that reach the extreme."""
    mine, theirs = ops.to(input == out, g.dtype), ops.to(src == ops.gather(out, dim, index), g.dtype)
    share = g / ops.scatter_sum(mine, index, theirs, dim=dim)
    return mine * share, None, theirs * ops.gather(share, dim, index)


def _extreme(name, ufunc, words):
    def body(input, index, src, *, dim):
        out = np.array(input, order="C")
        _scatter_into(out, index, src, dim, ufunc)
        return out

    body.__name__ = name
    body.__doc__ = f"A copy of the input with the {words} of itself and ``src`` where `gather` would read."
    record = op(
        index,
        vjp=_scatter_extreme_vjp,
        prepare=_scatter_setting,
        namespace="internal",
        out=False,
        samples=[sample(distinct(3, 4), integer(2, 4, high=3), distinct(2, 4, low=3, high=4), dim=0)],
    )
    return record(body)


scatter_max, scatter_min = _extreme("scatter_max", np.maximum, "larger"), _extreme("scatter_min", np.minimum, "smaller")


def _cut(src, index):
    """The part of ``src`` that lies under ``index``."""
    if tuple(src.shape) == tuple(index.shape) or not prod(index.shape):
        return src
    if src.ndim != index.ndim or any(n > have for n, have in zip(index.shape, src.shape, strict=True)):
        raise RuntimeError(f"scatter: index of shape {list(index.shape)} does not fit src of {list(src.shape)}")
    return ops.slice_view(src, tuple([slice(n) for n in index.shape]))


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
    dim = along("index_reduce", input, dim, index)[0]
    check_source("index_reduce", input, dim, index, source)
    if source.ndim > 1:
        index = ops.expand(ops.reshape(index, (-1,) + (1,) * (source.ndim - 1 - dim)), tuple(source.shape))
    return scatter_reduce(input, dim, index, ops.reshape(source, tuple(index.shape)), reduce, include_self=include_self)


@op(composite, samples=[sample(real(3, 4), integer(3, 1, high=4), 1), sample(real(3, 4), integer(5, high=12))])
def take_along_dim(input, indices, dim=None, *, out=None):
    """As `gather`, with input and indices broadcast against each other; in flat order without ``dim``."""
    check_integers("take_along_dim", indices)
    if dim is None:
        return ops.gather(
            ops.reshape(input, (prod(input.shape),)), 0, ops.reshape(indices, (prod(indices.shape),)), out=out
        )
    if input.ndim != indices.ndim:
        raise RuntimeError(
            f"take_along_dim: input and indices must have as many dimensions, got {input.ndim} and {indices.ndim}"
        )
    dim = normalize_dim(dim, input.ndim)
    common = list(np.broadcast_shapes(tuple(1 if d == dim else n for d, n in enumerate(input.shape)),
                                      tuple(1 if d == dim else n for d, n in enumerate(indices.shape))))  # fmt: skip
    shapes = [(*common[:dim], t.shape[dim], *common[dim + 1 :]) for t in (input, indices)]
    indices = ops.where(indices < 0, indices + input.shape[dim], indices)
    return ops.gather(ops.expand(input, shapes[0]), dim, ops.expand(indices, shapes[1]), out=out)


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
    input, mask = ops.broadcast_tensors(input, mask)
    found = ops.pick(
        ops.reshape(input, (1,)) if not input.ndim else input,
        ops.reshape(mask, (1,)) if not input.ndim else mask,
        spec=(ARRAY,),
    )
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
    out, mask = np.array(np.broadcast_to(input, shape)), np.broadcast_to(mask, shape)
    count = int(np.count_nonzero(mask))
    if count > source.size:
        raise RuntimeError(f"source must have at least {count} elements, one for each True in mask, got {source.size}")
    out[mask] = source.reshape(-1)[:count]
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
