"""Rows of a table picked by index: embedding, bags of them, and one-hot vectors."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..modes import no_grad
from ..registry import Kernel, composite, index, op
from ..shapes import numpy_dtype
from ..tensor import Tensor
from .normalization import assign
from .samples import integer, real, sample

# ---------------------------------------------------------------------------------------------------- embedding


def _rows_exist(input, weight, *, padding_idx, scale_grad_by_freq):
    """Whether all indices are rows, and there are enough of them; the body says which are not."""
    return input.size * weight.shape[1] >= 32768 and input.min() >= 0 and input.max() < len(weight)


@op(
    index,
    namespace="internal",
    onnx="Gather",
    kernel=Kernel("embedding:lookup", by=1, when=_rows_exist,
                  indices=lambda input, weight, **_: (0, weight.shape[0], 0)),
    vjp=[
        None,
        lambda g, input, weight_shape, padding_idx, scale_grad_by_freq: ops.embedding_backward(
            g, input, rows=weight_shape[0], padding_idx=padding_idx, scale_grad_by_freq=scale_grad_by_freq
        ),
    ],
    samples=[sample(integer(2, 3, high=4), real(4, 5), padding_idx=1, scale_grad_by_freq=False)],
)
def lookup(input, weight, *, padding_idx, scale_grad_by_freq):
    """The rows of ``weight`` (rows, width) that ``input`` names."""
    if input.size and not 0 <= input.min() <= input.max() < len(weight):
        raise IndexError(
            f"index {input.min() if input.min() < 0 else input.max()} is out of range for {len(weight)} rows"
        )
    return weight[input]


@op(index, namespace="internal", kernel=Kernel("embedding:embedding_backward"),
    vjp=[lambda g, input, padding_idx, scale_grad_by_freq: ops.embedding_rows(
        g, input, padding_idx=padding_idx, scale_grad_by_freq=scale_grad_by_freq)],
    samples=[sample(real(2, 3, 5), integer(2, 3, high=4), rows=4, padding_idx=1, scale_grad_by_freq=True)])  # fmt: skip
def embedding_backward(g, input, *, rows, padding_idx, scale_grad_by_freq):
    """The gradient of `lookup` in the table: the rows of ``g`` added up where they came from."""
    flat, sent = input.ravel(), g.reshape(input.size, g.shape[-1])
    sent = sent if (share := _share(flat, padding_idx, scale_grad_by_freq, g.dtype)) is None else sent * share[:, None]
    return add_rows(sent, flat, rows)


@op(
    index,
    namespace="internal",
    vjp=[
        lambda g, input, weight_shape, padding_idx, scale_grad_by_freq: ops.embedding_backward(
            g, input, rows=weight_shape[0], padding_idx=padding_idx, scale_grad_by_freq=scale_grad_by_freq
        )
    ],
    samples=[sample(real(4, 5), integer(2, 3, high=4), padding_idx=1, scale_grad_by_freq=True)],
)
def embedding_rows(weight, input, *, padding_idx, scale_grad_by_freq):
    """The adjoint of `embedding_backward`: rows of ``weight``, scaled as it scales gradients."""
    share = _share(input.ravel(), padding_idx, scale_grad_by_freq, weight.dtype)
    return weight[input] if share is None else weight[input] * share.reshape(*input.shape, 1)


def _share(flat, padding_idx, scale_grad_by_freq, dtype):
    """How much of its gradient each index passes on; None for all."""
    if padding_idx < 0 and not scale_grad_by_freq:
        return None
    share = (flat != padding_idx).astype(dtype)
    if scale_grad_by_freq and flat.size:
        share /= np.bincount(flat)[flat].astype(dtype)
    return share


def add_rows(sent, places, rows):
    """A table of ``rows`` zero rows with the rows of ``sent`` added at ``places``, by sorting."""
    out = np.zeros((rows, *sent.shape[1:]), sent.dtype)
    if len(places):
        order = np.argsort(places, kind="stable")
        ordered = places[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        out[ordered[starts]] = np.add.reduceat(sent[order], starts, axis=0)
    return out


def _row_index(name, padding_idx, rows):
    """``padding_idx`` from the front; -1 stands for none."""
    if padding_idx is None:
        return -1
    if not -rows <= padding_idx < rows:
        raise ValueError(f"{name}: padding_idx must lie within the {rows} rows of weight, got {padding_idx}")
    return padding_idx % rows


def _as_indices(name, input):
    input = input if isinstance(input, (Tensor, np.ndarray)) else np.asarray(input)
    if numpy_dtype(input.dtype) not in (np.int64, np.int32):
        raise RuntimeError(f"{name}: input must hold int64 or int32 indices, got {input.dtype}")
    return input


def _limit_rows(weight, input, max_norm, norm_type):
    """Scale the rows that ``input`` names down to ``max_norm``, in place."""
    with no_grad():
        values = weight.array
        rows = np.unique(input.array)
        found = values[rows]
        size = np.linalg.norm(found, norm_type, axis=1, keepdims=True)
        scale = np.where(size > max_norm, max_norm / (size + 1e-7), 1).astype(values.dtype)
        changed = values.copy()
        changed[rows] = found * scale
        assign(weight, changed)


@op(
    composite,
    namespace="nn.functional",
    samples=[
        sample(integer(2, 3, high=4), real(4, 5)),
        sample(integer(6, high=4), real(4, 2), 1, scale_grad_by_freq=True),
    ],
)
def embedding(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    """The rows of ``weight`` (rows, width) that the indices ``input`` name: a table of vectors.

    ``padding_idx``: a row that gets no gradient. ``max_norm``: longer rows are first scaled down to it, in place, by
    their ``norm_type``-norm. ``scale_grad_by_freq`` divides gradients by how often an index occurs. ``sparse`` has no
    effect.
    """
    input = _as_indices("embedding", input)
    if weight.ndim != 2:
        raise RuntimeError(f"embedding: weight must have 2 dims, got shape {list(weight.shape)}")
    padding_idx = _row_index("embedding", padding_idx, weight.shape[0])
    if max_norm is not None:
        _limit_rows(weight, input, max_norm, norm_type)
    return ops.lookup(input, weight, padding_idx=padding_idx, scale_grad_by_freq=bool(scale_grad_by_freq))


# ---------------------------------------------------------------------------------------------------- bags


@op(index, namespace="internal", vjp=[lambda g, bags: ops.index_select(g, 0, bags)],
    samples=[sample(real(5, 3), np.array([0, 0, 1, 3, 3]), count=4)])  # fmt: skip
def sum_bags(input, bags, *, count):
    """Rows of ``input`` added up by the bag that each belongs to."""
    return add_rows(input, bags, count)


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
    input = _as_indices("embedding_bag", input)
    _check_bags(input, weight, offsets, mode, per_sample_weights, scale_grad_by_freq, sparse)
    if max_norm is not None:
        _limit_rows(weight, input, max_norm, norm_type)
    bags, count = _bags(input, offsets, include_last_offset)
    flat = ops.reshape(input, (-1,))
    padding = _row_index("embedding_bag", padding_idx, weight.shape[0])
    rows = ops.embedding(flat, weight, padding_idx, scale_grad_by_freq=scale_grad_by_freq)
    kept = np.ones(flat.shape, bool) if padding < 0 else _values(flat) != padding
    if mode == "max":
        return _largest(rows, bags, count, kept)
    if per_sample_weights is not None:
        rows = rows * ops.reshape(per_sample_weights, (-1, 1))
    if not kept.all():
        rows = ops.where(kept[:, None], rows, 0.0)
    total = ops.sum_bags(rows, bags, count=count)
    if mode == "sum":
        return total
    sizes = np.maximum(np.bincount(bags[kept], minlength=count), 1)[:, None]
    return total / sizes.astype(numpy_dtype(weight.dtype))


def _values(indices):
    return indices.array if isinstance(indices, Tensor) else np.asarray(indices)


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


def _bags(input, offsets, include_last_offset):
    """(the bag of each index, the number of bags)."""
    if input.ndim == 2:
        return np.repeat(np.arange(input.shape[0]), input.shape[1]), input.shape[0]
    starts = (offsets.numpy() if isinstance(offsets, Tensor) else offsets).astype(np.int64)
    size = input.shape[0]
    if len(starts) and (starts[0] != 0 or np.any(np.diff(starts) < 0) or starts[-1] > size):
        raise RuntimeError(
            f"embedding_bag: offsets must begin with 0, not decrease, and not exceed the number of indices {size}"
        )
    if include_last_offset:
        if not len(starts):
            raise RuntimeError("embedding_bag: include_last_offset needs at least one offset")
        ends = np.r_[starts[1:-1], size] if len(starts) > 1 else starts[1:]
        starts = starts[:-1]
    else:
        ends = np.r_[starts[1:], size] if len(starts) else starts
    return np.repeat(np.arange(len(starts)), ends - starts), len(starts)


def _largest(rows, bags, count, kept):
    """The largest of each column of each bag; zeros for empty bags. The first of equals gets the gradient."""
    values = _values(rows)
    if not len(values):
        return ops.sum_bags(rows, bags, count=count)
    winners = np.full((count, values.shape[1]), -1)
    for i in np.flatnonzero(kept):
        now = winners[bags[i]]
        better = (now < 0) | (values[i] > np.take_along_axis(values, np.maximum(now, 0)[None], 0)[0])
        winners[bags[i]] = np.where(better, i, now)
    found = ops.gather(rows, 0, np.maximum(winners, 0))
    return ops.where(winners >= 0, found, 0.0)


# ---------------------------------------------------------------------------------------------------- one-hot


@op(
    index,
    namespace="nn.functional",
    signature="input, num_classes=-1",
    samples=[integer(2, 3), sample(integer(4, high=3), 5)],
)
def one_hot(input, *, num_classes):
    """Vectors of zeros with a single 1 at the index: (..., num_classes), int64; -1: as many classes as occur."""
    if input.dtype != np.int64:
        raise RuntimeError(f"input must hold int64 class indices, got {input.dtype}")
    if not input.size and num_classes <= 0:
        raise RuntimeError("num_classes must be given for an empty input")
    if input.size and input.min() < 0:
        raise RuntimeError(f"class indices must not be negative, got {input.min()}")
    if num_classes == 0 or num_classes < -1:
        raise RuntimeError(f"num_classes must be positive or -1, got {num_classes}")
    classes = int(input.max()) + 1 if num_classes == -1 else num_classes
    if input.size and input.max() >= classes:
        raise RuntimeError(f"class indices must be smaller than num_classes={num_classes}, got {input.max()}")
    return (input[..., None] == np.arange(classes)).astype(np.int64)
