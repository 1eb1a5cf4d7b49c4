"""Rows of a table picked by index: embedding, and one-hot vectors."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..modes import no_grad
from ..registry import Kernel, composite, index, op
from ..shapes import numpy_dtype
from ..tensor import Tensor
from .index import MANY, within
from .normalization import assign
from .samples import integer, real, sample

# ---------------------------------------------------------------------------------------------------- embedding


def _rows_exist(input, weight, *, padding_idx, scale_grad_by_freq):
    """Whether all indices are rows, and there are enough of them; the body says which are not."""
    return input.size * weight.shape[1] >= MANY and within(input, 0, len(weight))


@op(
    index,
    namespace="internal",
    onnx="Gather",
    kernel=Kernel("embedding:lookup", by=1, above=64, when=_rows_exist,
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
    if not within(input, 0, len(weight)):
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


def row_index(name, padding_idx, rows):
    """``padding_idx`` counted from the front; -1 stands for none."""
    if padding_idx is None:
        return -1
    if not -rows <= padding_idx < rows:
        raise ValueError(f"{name}: padding_idx must lie within the {rows} rows of weight, got {padding_idx}")
    return padding_idx % rows


def as_indices(name, input):
    """``input`` as a Tensor or an array of int64 or int32."""
    input = input if isinstance(input, (Tensor, np.ndarray)) else np.asarray(input)
    if numpy_dtype(input.dtype) not in (np.int64, np.int32):
        raise RuntimeError(f"{name}: input must hold int64 or int32 indices, got {input.dtype}")
    return input


def limit_rows(weight, input, max_norm, norm_type):
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
    input = as_indices("embedding", input)
    if weight.ndim != 2:
        raise RuntimeError(f"embedding: weight must have 2 dims, got shape {list(weight.shape)}")
    padding_idx = row_index("embedding", padding_idx, weight.shape[0])
    if max_norm is not None:
        limit_rows(weight, input, max_norm, norm_type)
    return ops.lookup(input, weight, padding_idx=padding_idx, scale_grad_by_freq=bool(scale_grad_by_freq))


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
    if num_classes == 0 or num_classes < -1:
        raise RuntimeError(f"num_classes must be positive or -1, got {num_classes}")
    most = int(input.max()) if input.size and num_classes == -1 else -1
    classes = most + 1 if num_classes == -1 else num_classes
    if not within(input, 0, classes):
        if input.min() < 0:
            raise RuntimeError(f"class indices must not be negative, got {input.min()}")
        raise RuntimeError(f"class indices must be smaller than num_classes={num_classes}, got {input.max()}")
    out = np.zeros((*input.shape, classes), np.int64)
    out.reshape(-1)[np.arange(0, out.size, classes) + input.reshape(-1)] = 1
    return out
