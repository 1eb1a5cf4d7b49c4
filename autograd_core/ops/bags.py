"""Bags of rows of a table: their sums, means and maxima, in the order in which indices name the rows."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..registry import Kernel, composite, index, op
from ..shapes import numpy_dtype
from .embeddings import add_rows, as_indices, limit_rows, row_index
from .index import values_of, within
from .samples import integer, real, sample

LEAST = 256  # elements that are read from which kernels are faster than NumPy
STARTS = np.array([0, 2, 2, 6])  # of three bags, the second of which is empty
TABLE = (real(4, 5), integer(6, high=4), STARTS)


def _served(weight, input, starts, *_, **__):
    """Whether there is work for a kernel, all indices name rows, and all bags are ranges of indices."""
    if input.size * weight.shape[1] < LEAST or not within(input, 0, len(weight)):
        return False
    return within(starts, 0, input.size + 1) and _in_order(starts)


def _in_order(starts):
    return len(starts) == 1 or bool(starts[0] == 0 and (starts[1:] >= starts[:-1]).all())


def _check(weight, input, starts):
    if not _in_order(starts):
        raise RuntimeError(f"offsets must begin with 0, not decrease, and not exceed the {input.size} indices")
    if not within(input, 0, len(weight)):
        raise IndexError(f"indices must name rows from 0 to {len(weight) - 1}, got {input.min()} to {input.max()}")


@op(index, namespace="internal", out=False, samples=[sample(STARTS, count=6)])
def bag_numbers(starts, *, count):
    """The number of the bag to which each of ``count`` indices belongs."""
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))


@op(index, namespace="internal", out=False,
    samples=[sample(integer(6, high=4), np.array([0, 0, 2, 2, 2, 2]), count=3, mean=True, padding_idx=1,
                    scale_grad_by_freq=True, dtype=np.dtype(np.float32))])  # fmt: skip
def bag_shares(input, numbers, *, count, mean, padding_idx, scale_grad_by_freq, dtype):
    """How much of the gradient of its bag (of ``count``) each index passes on to the row that it names."""
    kept = input != padding_idx
    share = kept.astype(dtype)
    if mean:
        share /= np.maximum(np.bincount(numbers[kept], minlength=count), 1)[numbers].astype(dtype)
    if scale_grad_by_freq and input.size:
        share /= np.bincount(input)[input].astype(dtype)
    return share


def _sums_vjp(g, weight, input, starts, weights, needs, mean, padding_idx, scale_grad_by_freq):
    numbers = ops.bag_numbers(starts, count=input.shape[0])
    to_weight = to_weights = None
    if needs[0]:
        shares = ops.bag_shares(input, numbers, count=g.shape[0], mean=mean, padding_idx=padding_idx,
                                scale_grad_by_freq=scale_grad_by_freq, dtype=numpy_dtype(g.dtype))  # fmt: skip
        shares = shares if weights is None else weights * shares
        to_weight = ops.bag_spread(g, input, numbers, shares, rows=weight.shape[0], padding_idx=padding_idx)
    if needs[3]:
        to_weights = ops.bag_dots(g, weight, input, numbers, padding_idx=padding_idx)
    return to_weight, None, None, to_weights


@op(index, namespace="internal", out=False, vjp=_sums_vjp, kernel=Kernel("bags:plan_sums", above=64, when=_served),
    samples=[sample(*TABLE, None, mean=True, padding_idx=1, scale_grad_by_freq=False),
             sample(*TABLE, real(6), mean=False, padding_idx=-1, scale_grad_by_freq=False)])  # fmt: skip
def bag_sums(weight, input, starts, weights, *, mean, padding_idx, scale_grad_by_freq):
    """The sum (or mean) of the rows of ``weight`` that the indices of each bag name, each times its own weight."""
    _check(weight, input, starts)
    rows, begins, sizes = weight[input], starts[:-1], starts[1:] - starts[:-1]
    total, filled = np.zeros((len(begins), weight.shape[1]), weight.dtype), sizes > 0
    if weights is not None:
        rows *= weights[:, None]
    if padding_idx >= 0:
        left_out = input == padding_idx
        rows[left_out] = 0
        sizes = sizes - np.bincount(bag_numbers(starts, count=input.size)[left_out], minlength=len(begins))
    if len(rows):
        total[filled] = np.add.reduceat(rows, begins[filled], 0)
    if mean:
        total /= np.maximum(sizes, 1)[:, None].astype(total.dtype)
    return total


def _rows_of_bags(g, numbers, shares):
    return ops.take_slices(g, numbers, dim=0) * ops.reshape(shares, (-1, 1))


@op(index, namespace="internal", out=False, kernel=Kernel("bags:plan_spread", above=64, when=(
        lambda g, input, numbers, shares, *, rows, padding_idx: (
            input.size * g.shape[1] >= LEAST and within(input, 0, rows) and within(numbers, 0, len(g))))),
    vjp=(), composite=lambda g, input, numbers, shares, *, rows, padding_idx: ops.slices_in_zeros(
        _rows_of_bags(g, numbers, ops.where(input == padding_idx, 0, shares)), input,
        shape=(rows, g.shape[1]), dim=0),
    samples=[sample(real(3, 5), integer(6, high=4), np.array([0, 0, 2, 2, 2, 2]), real(6), rows=4,
                    padding_idx=1)])  # fmt: skip
def bag_spread(g, input, numbers, shares, *, rows, padding_idx):
    """The gradient of `bag_sums` in the table: rows of ``g``, each times its share, added up where they came from."""
    kept = input != padding_idx
    return add_rows(g[numbers[kept]] * shares[kept, None], input[kept], rows)


@op(index, namespace="internal", out=False, kernel=Kernel("bags:plan_dots", above=64, when=(
        lambda g, weight, input, numbers, *, padding_idx: (
            input.size * g.shape[1] >= LEAST and within(input, 0, len(weight)) and within(numbers, 0, len(g))))),
    vjp=(), composite=lambda g, weight, input, numbers, *, padding_idx: ops.where(input == padding_idx, 0.0, ops.sum(
        ops.take_slices(g, numbers, dim=0) * ops.take_slices(weight, input, dim=0), 1)),
    samples=[sample(real(3, 5), real(4, 5), integer(6, high=4), np.array([0, 0, 2, 2, 2, 2]),
                    padding_idx=1)])  # fmt: skip
def bag_dots(g, weight, input, numbers, *, padding_idx):
    """The gradient of `bag_sums` in the weights of indices: the product of each row with its bag's gradient."""
    found = (g[numbers] * weight[input]).sum(1)
    return np.where(input == padding_idx, found.dtype.type(0), found)


@op(index, namespace="internal", out=False, hidden=("rows",),
    kernel=Kernel("bags:plan_maxima", above=64, when=_served),
    vjp=[lambda g, rows, weight_shape: ops.scatter_in_zeros(
        ops.where(rows < 0, 0.0, g), ops.where(rows < 0, 0, rows), shape=weight_shape, dim=0)],
    samples=[sample(*TABLE, padding_idx=1)])  # fmt: skip
def bag_maxima(weight, input, starts, *, padding_idx):
    """The largest of each column of each bag, the first of equals; zeros for empty bags. Hidden: the row it is in."""
    _check(weight, input, starts)
    values = np.zeros((len(starts) - 1, weight.shape[1]), weight.dtype)
    rows = np.full(values.shape, -1)
    for row, bag in zip(input, bag_numbers(starts, count=input.size), strict=True):
        if row != padding_idx:
            better = (rows[bag] < 0) | (weight[row] > values[bag])
            values[bag][better], rows[bag][better] = weight[row][better], row
    return values, rows


# -------------------------------------------------------------------------------------------------- the public function


@op(composite, namespace="nn.functional", samples=[
    sample(integer(2, 3, high=4), real(4, 5)),
    sample(integer(6, high=4), real(4, 2), np.array([0, 2, 2]), mode="sum", per_sample_weights=real(6), padding_idx=1),
    sample(integer(6, high=4), real(4, 2), np.array([0, 2]), mode="max")])  # fmt: skip
def embedding_bag(
    input,
    weight,
    offsets=None,
    max_norm=None,
    norm_type=2,
    scale_grad_by_freq=False,
    mode="mean",
    sparse=False,
    per_sample_weights=None,
    include_last_offset=False,
    padding_idx=None,
):
    """The sum, mean or maximum of the embeddings of each bag of indices.

    ``input`` (B, L) holds a bag a row; a 1-d ``input`` is cut at ``offsets`` (with ``include_last_offset`` the last
    of them is the end). ``per_sample_weights`` scale the rows of a sum. Indices equal to ``padding_idx`` count
    nothing. Empty bags give zeros.
    """
    input = as_indices("embedding_bag", input)
    _check_bags(input, weight, offsets, mode, per_sample_weights, scale_grad_by_freq, sparse)
    if max_norm is not None:
        limit_rows(weight, input, max_norm, norm_type)
    starts = _starts(input, offsets, include_last_offset)
    padding = row_index("embedding_bag", padding_idx, weight.shape[0])
    flat = ops.reshape(input, (-1,)) if input.ndim > 1 else input
    if numpy_dtype(flat.dtype) != np.int64:
        flat = ops.to(flat, np.int64)
    if mode == "max":
        return ops.bag_maxima(weight, flat, starts, padding_idx=padding)
    weights = per_sample_weights
    if weights is not None and weights.ndim > 1:
        weights = ops.reshape(weights, (-1,))
    return ops.bag_sums(weight, flat, starts, weights, mean=mode == "mean", padding_idx=padding,
                        scale_grad_by_freq=bool(scale_grad_by_freq))  # fmt: skip


def _check_bags(input, weight, offsets, mode, per_sample_weights, scale_grad_by_freq, sparse):
    name = "embedding_bag"
    if weight.ndim != 2:
        raise ValueError(f"{name}: weight must have 2 dims, got shape {list(weight.shape)}")
    if mode not in ("sum", "mean", "max"):
        raise ValueError(f"{name}: mode must be 'sum', 'mean' or 'max', got {mode!r}")
    if input.ndim not in (1, 2):
        raise ValueError(f"{name}: input must have 1 or 2 dims, got shape {list(input.shape)}")
    if (input.ndim == 2) != (offsets is None):
        raise ValueError(
            f"{name}: offsets must be given for a 1-d input and for no other, input has shape {list(input.shape)}"
        )
    if offsets is not None and offsets.ndim != 1:
        raise ValueError(f"{name}: offsets must have 1 dim, got shape {list(offsets.shape)}")
    if mode == "max" and (scale_grad_by_freq or sparse):
        raise ValueError(f"{name}: mode='max' supports neither scale_grad_by_freq nor sparse")
    if per_sample_weights is None:
        return
    if tuple(per_sample_weights.shape) != tuple(input.shape):
        raise ValueError(f"{name}: per_sample_weights must have the shape of input, {list(input.shape)}, "
                         f"got {list(per_sample_weights.shape)}")  # fmt: skip
    if mode != "sum":
        raise NotImplementedError(f"{name}: per_sample_weights needs mode='sum', got {mode!r}")
    if per_sample_weights.dtype != weight.dtype:
        raise RuntimeError(f"{name}: per_sample_weights must have the dtype of weight, {weight.dtype}, "
                           f"got {per_sample_weights.dtype}")  # fmt: skip


def _starts(input, offsets, include_last_offset):
    """Where each bag begins among the indices, and the end of the last."""
    size = values_of(input).size
    if input.ndim == 2:
        rows, length = input.shape
        return np.arange(rows + 1) * length
    if include_last_offset:
        if not offsets.shape[0]:
            raise RuntimeError("embedding_bag: include_last_offset needs at least one offset")
        offsets = offsets[:-1]
    if within(values_of(offsets), 0, size + 1) and numpy_dtype(offsets.dtype) != np.int64:
        offsets = ops.to(offsets, np.int64)
    return ops.cat((offsets, np.array([size])))
