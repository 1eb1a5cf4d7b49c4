"""Order and search: sort, topk, unique, searchsorted, isin."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..registry import composite, index, op
from ..shapes import normalize_dim
from .samples import distinct, integer, real, sample


@op(index, namespace="internal", vjp=[lambda g, indices, dim: ops.take_along(g, indices, dim=dim), None],
    samples=[sample(real(3, 2), np.array([[0, 1], [2, 1], [3, 0]]), dim=1, size=4)])  # fmt: skip
def put_along(input, indices, *, dim, size):
    """Zeros with ``size`` places along ``dim``, and ``input`` put there at ``indices``, no two of which may be equal."""
    shape = list(input.shape)
    shape[dim] = size
    out = np.zeros(shape, input.dtype)
    np.put_along_axis(out, indices, input, dim)
    return out


@op(index, namespace="internal", samples=[sample(real(3, 4), np.array([[0, 1], [2, 1], [3, 0]]), dim=1)],
    vjp=[lambda g, indices, dim, input_shape: ops.put_along(g, indices, dim=dim, size=input_shape[dim]), None])  # fmt: skip
def take_along(input, indices, *, dim):
    """The elements at ``indices`` along ``dim``, no two of which may be equal in one line."""
    return np.take_along_axis(input, indices, dim)
